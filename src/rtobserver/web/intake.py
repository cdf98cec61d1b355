"""Take a browser's body in under the limits, and make an offer of it.

The whole body is read first, counted as it comes, and only then parsed: a parser that reads for
itself swallows an endless preamble. The offer's bytes are never changed. Everything here that is
wrong with a body is a 4xx whose words say what to do about it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp import web
from multipart import MultipartError, PushMultipartParser, parse_options_header  # type: ignore[import-untyped]

from rtobserver.errors import RequestError

_MAX_PARTS = 16
_MAX_BOUNDARY = 200
_MAX_LINE = 4096
_MAX_LINES = 4000
_MAX_MEDIA = 64
_FIRST_LINE = re.compile(rb"v=0[\r\n]")
_LINE_END = re.compile(rb"\r\n|\r|\n")
_SECRET_SECONDS = range(10, 7201)


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """Be what a browser sent with its offer, before any of it is looked up."""

    sdp: bytes
    session: Mapping[str, Any] | None = None
    profile: str | None = None
    labels: str | None = None
    """JSON text, not read yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretRequest:
    """Be the body of a request for a client secret."""

    session: Mapping[str, Any] | None = None
    seconds: int | None = None
    """How long the secret shall live, if the caller cares."""


async def read_body(request: web.Request, max_body: int) -> bytes:
    """Read the raw body; the listener sees to it that this does not take for ever.

    Raises:
        RequestError: 413 past `max_body` bytes, 415 for any Content-Encoding, 408 from the listener.

    """
    if "Content-Encoding" in request.headers:
        raise RequestError(415, "encoded_body", "Send the body as it is, without a Content-Encoding.")
    too_large = RequestError(413, "too_large", f"The body is larger than the {max_body} bytes that this server takes.")
    if (request.content_length or 0) > max_body:
        raise too_large
    pieces: list[bytes] = []
    size = 0
    async for piece in request.content.iter_any():
        size += len(piece)
        if size > max_body:
            raise too_large
        pieces.append(piece)
    return b"".join(pieces)


def read_form(content_type: str, body: bytes) -> Form:
    """Find the offer, and what came with it, in a body.

    Raises:
        RequestError: 415 for a type that carries no offers, 400 for a body that is not of its type
            or whose offer no upstream would take.

    """
    kind, options = parse_options_header(content_type)
    match kind:
        case "application/sdp":
            form = Form(sdp=body)
        case "multipart/form-data":
            form = _read_multipart(options.get("boundary", ""), body)
        case _:
            raise RequestError(
                415,
                "wrong_content_type",
                "Send the offer as `application/sdp`, or as `multipart/form-data` with a field `sdp`.",
            )
    check_offer(form.sdp)
    return form


def check_offer(sdp: bytes) -> None:
    """Refuse what cannot be a browser's offer, so that nothing is asked of upstream for it.

    Raises:
        RequestError: 400 `invalid_offer`; the message says what was seen instead.

    """
    problem = _what_is_wrong(sdp)
    if problem:
        raise RequestError(400, "invalid_offer", problem)


def _what_is_wrong(sdp: bytes) -> str:
    start = sdp[:64].lstrip()
    lines = _LINE_END.split(sdp)
    media = sum(line.startswith(b"m=") for line in lines)
    checks = (
        (not start, "The offer is empty. Send `localDescription.sdp` once `setLocalDescription` is done."),
        (start[:1] in (b'"', b"{", b"["), "The offer is JSON. Send the text of `localDescription.sdp` itself."),
        (start[:1] == b"<", "The offer is HTML or XML. Send the text of `localDescription.sdp`."),
        (start.startswith(b"v=0\\"), "The offer's line ends are escaped. Send the text with real line ends."),
        (not _FIRST_LINE.match(sdp), "The offer is not SDP: it does not begin with the line `v=0`."),
        (b"\x00" in sdp or not _is_text(sdp), "The offer is not UTF-8 text."),
        (max(map(len, lines)) > _MAX_LINE, f"The offer has a line of more than {_MAX_LINE} bytes."),
        (len(lines) > _MAX_LINES, f"The offer has more than {_MAX_LINES} lines."),
        (not media, "The offer has no media (`m=`). Add a track before you create it."),
        (media > _MAX_MEDIA, f"The offer has more than {_MAX_MEDIA} media."),
    )
    return next((words for is_wrong, words in checks if is_wrong), "")


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _read_multipart(boundary: str, body: bytes) -> Form:
    parts: dict[str, bytes] = {}
    name = ""
    try:
        parser = PushMultipartParser(_boundary(boundary, body), max_segment_count=_MAX_PARTS)
        with parser:
            for event in parser.parse(body) if body else ():
                if isinstance(event, (bytes, bytearray)):
                    parts[name] += event
                elif event is not None:
                    name = event.name
                    if name in parts:
                        raise RequestError(400, "bad_form", "The form has two parts of the same name.")
                    parts[name] = b""
    except MultipartError as error:
        raise RequestError(400, "bad_form", f"The multipart body cannot be read: {error.args[0]}.") from error
    if "sdp" not in parts:
        raise RequestError(400, "invalid_offer", "The form has no field `sdp` with the offer.")
    session = parts.get("session")
    return Form(
        sdp=parts["sdp"],
        session=None if session is None else _read_object(session, "session"),
        profile=_text(parts, "profile"),
        labels=_text(parts, "labels"),
    )


def _boundary(declared: str, body: bytes) -> bytes:
    boundary = declared.encode("utf-8", "surrogateescape")
    if not boundary and body.startswith(b"--"):
        # Older releases of the vendor's SDK leave the boundary out of the header.
        boundary = body[2:].split(b"\r\n", 1)[0].rstrip()
    if not boundary or len(boundary) > _MAX_BOUNDARY:
        raise RequestError(400, "bad_form", "The multipart body has no usable boundary.")
    return boundary


def _text(parts: Mapping[str, bytes], name: str) -> str | None:
    value = parts.get(name)
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise RequestError(400, "bad_form", f"The field `{name}` is not UTF-8 text.") from error


def _read_object(data: bytes, name: str) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode(data, type=dict[str, Any] | None)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise RequestError(400, f"invalid_{name}", f"The {name} is not a JSON object.") from error


def read_secret_request(content_type: str, body: bytes) -> SecretRequest:
    """Read what a request for a client secret asks for; an empty body asks for nothing special.

    Raises:
        RequestError: 415 for another type than JSON, 400 for a body that is not as upstream defines it.

    """
    if not body.strip():
        return SecretRequest()
    if parse_options_header(content_type)[0] != "application/json":
        raise RequestError(415, "wrong_content_type", "Send the request as `application/json`.")
    asked = _read_object(body, "request") or {}
    session = asked.get("session")
    if not isinstance(session, dict | None):
        raise RequestError(400, "invalid_session", "The session is not a JSON object.")
    expiry = asked.get("expires_after")
    if expiry is None:
        return SecretRequest(session=session)
    seconds = expiry.get("seconds") if isinstance(expiry, dict) else None
    if not isinstance(expiry, dict) or expiry.get("anchor", "created_at") != "created_at":
        raise RequestError(400, "invalid_expires_after", "`expires_after` counts from the anchor `created_at`.")
    if seconds is not None and (type(seconds) is not int or seconds not in _SECRET_SECONDS):
        raise RequestError(400, "invalid_expires_after", "`expires_after.seconds` is a whole number from 10 to 7200.")
    return SecretRequest(session=session, seconds=seconds)
