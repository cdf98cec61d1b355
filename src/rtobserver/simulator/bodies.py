"""Reading what clients post: JSON of `client_secrets`, raw and multipart offers of `calls`."""

from __future__ import annotations

import json
import re
from typing import Any

from rtobserver.simulator.beats import Json
from rtobserver.simulator.session import Refusal

_BOUNDARY = re.compile(r'boundary="?([^";]+)"?', re.IGNORECASE)
_NAME = re.compile(r'name="([^"]*)"')


def json_object(body: bytes | str) -> Json:
    """Read a JSON object.

    Raises: Refusal.
    """
    try:
        value: Any = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        raise Refusal("invalid_json", "We could not parse the JSON body of your request.") from None
    if not isinstance(value, dict):
        raise Refusal("invalid_type", "Expected a JSON object.")
    return value


def secret_lifetime(wanted: Json, default_seconds: int) -> int:
    """Read `expires_after` in seconds.

    Raises: Refusal, unless it lies between 10 seconds and two hours.
    """
    for key in wanted:
        if key not in ("expires_after", "session"):
            raise Refusal("unknown_parameter", f"Unknown parameter: '{key}'.", key)
    after = wanted.get("expires_after") or {}
    if not isinstance(after, dict) or after.get("anchor", "created_at") != "created_at":
        raise Refusal("invalid_value", "Supported values are: 'created_at'.", "expires_after.anchor")
    seconds = after.get("seconds", default_seconds)
    if type(seconds) is not int or not 10 <= seconds <= 7200:
        raise Refusal("invalid_value", "Expected an integer from 10 to 7200.", "expires_after.seconds")
    return seconds


def offer_of(content_type: str, body: bytes, *, multipart: bool) -> tuple[str, Json | None]:
    """Read the offer and, from a multipart body, the session.

    Raises: Refusal, where the type is not one that the vendor takes or a part is missing.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/sdp":
        return _text(body), None
    if kind != "multipart/form-data" or not multipart:
        message = f"Unsupported content type: '{kind}'. This API method only accepts 'application/sdp' requests."
        raise Refusal("unsupported_content_type", message)
    boundary = _BOUNDARY.search(content_type)
    if boundary is None:
        raise Refusal("invalid_multipart_form_data", "The multipart body has no boundary.")
    parts = _parts(body, boundary.group(1).encode())
    if "sdp" not in parts:
        raise Refusal("missing_required_parameter", "Missing required parameter: 'sdp'.", "sdp")
    return _text(parts["sdp"]), json_object(parts["session"]) if "session" in parts else None


def _parts(body: bytes, boundary: bytes) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for chunk in body.split(b"--" + boundary)[1:]:
        head, blank, content = chunk.partition(b"\r\n\r\n")
        name = _NAME.search(head.decode("latin-1"))
        if blank and name is not None:
            found[name.group(1)] = content.removesuffix(b"\r\n")
    return found


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise Refusal("invalid_offer", "The offer is not UTF-8.") from None
