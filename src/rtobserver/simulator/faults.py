"""Every way in which the simulator can misbehave, and every open question of protocol.md 8, as a switch.

The defaults are a well-behaved vendor. A switch is set in Python (`Faults(location="missing")`), or
from text (`parse_faults(["location=missing", "attach.status=503"])`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

from rtobserver.errors import ConfigError, Mistake
from rtobserver.simulator.beats import Close


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointFault:
    """Make one endpoint misbehave; with `after` and `times`, only for some of its requests."""

    status: int = 0
    """Answer this status instead of serving the request; 0 serves it."""
    body: str = ""
    """Body of that answer; empty is an error body in the vendor's shape."""
    code: str = ""
    """`error.code` of the vendor-shaped body."""
    content_type: str = "application/json"
    retry_after: str = ""
    """Value of a Retry-After header, verbatim."""
    redirect: str = ""
    """Answer a redirect (`status` or 307) to this URL."""
    delay: float = 0.0
    """Real seconds to wait before anything else."""
    drop: bool = False
    """Close the connection without an answer."""
    drop_after: bool = False
    """Serve the request, then close the connection without sending the answer."""
    hang: bool = False
    """Never answer, but keep the connection."""
    after: int = 0
    """Requests that are served normally first."""
    times: int = 0
    """Requests that are affected then; 0 is all."""

    def affects(self, number: int) -> bool:
        """Say whether the fault applies to this request, counted from 1."""
        return number > self.after and (not self.times or number <= self.after + self.times)


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """Hold all switches of a simulator."""

    client_secrets: EndpointFault = field(default_factory=EndpointFault)
    calls: EndpointFault = field(default_factory=EndpointFault)
    hangup: EndpointFault = field(default_factory=EndpointFault)
    attach: EndpointFault = field(default_factory=EndpointFault)

    # The answer to an offer.
    location: Literal[
        "vendor", "absolute", "query", "trailing_slash", "doubled", "call_id_query", "two", "missing", "raw"
    ] = "vendor"
    """Form of the Location header; `raw` sends `location_value`."""
    location_value: str = ""
    answer_status: int = 201
    answer: Literal["sdp", "html", "json", "empty", "huge", "cut"] = "sdp"
    answer_bytes: int = 4 * 1024 * 1024
    """Size of a `huge` answer."""
    repeat_call_ids: bool = False
    """Give every call the id of the first."""
    secret_prefix: str = "ek_"  # noqa: S105 - only the beginning of one
    """What client secrets begin with; other gateways use no prefix."""

    # The sideband.
    max_sidebands: int = 0
    """Further attaches to a call are refused with 409; 0 is no limit. Open question 4."""
    deaf: bool = False
    """Accept sidebands and then neither read nor answer them, pings included."""
    session_created_on_attach: bool = False
    """Send `session.created` first, as SIP sidebands are documented to get."""
    ephemeral_on_sideband: bool = False
    """Take the client secret of a call on its sideband, as OpenAI did until September 2026 and Azure may."""
    not_found_delay: float = 0.0
    """Real seconds before a 404 on attach; upstream takes about 5.5."""
    send_buffer: int = 256 * 1024 * 1024
    """Bytes that may wait for a slow sideband before its connection is dropped."""
    acknowledge: bool = True
    """Off: client events are read and have no effect at all."""
    acknowledge_delay: float = 0.0
    """Real seconds from a client event to its effects."""
    media_path: bool = True
    """Off: ICE never connected, so there are no `output_audio_buffer` events."""

    # The open questions.
    audio_delta_on_sideband: bool = False
    """1: `response.output_audio.delta` reaches sidebands."""
    response_created_for_vad: bool = True
    """2: turns that the user's speech started show `response.created`."""
    same_event_ids: bool = True
    """3: an event has one id on all connections; off, each connection sees its own."""
    errors_reach: Literal["origin", "all"] = "origin"
    """5: who sees the `error` for a peer's bad event."""
    refused_hosts: tuple[str, ...] = ()
    """6: Host suffixes on which the v1 paths do not exist, such as `services.ai.azure.com`."""
    idle_close: float = 0.0
    """7: real seconds after which a sideband without a frame either way is closed; 0 is never."""
    idle_close_code: int = 1000
    leave_close: Close = 1000
    """8: what sidebands see when the browser hangs up."""
    hangup_order: Literal["answer_first", "close_first"] = "answer_first"
    """9: whether hangup's 200 precedes the close of the sidebands."""


def parse_faults(settings: Iterable[str], base: Faults | None = None) -> Faults:
    """Apply `KEY=VALUE` settings, keys dotted (`attach.status=503`); lists are comma-separated.

    Raises: ConfigError, with every setting that makes no sense.
    """
    faults = base or Faults()
    mistakes: list[Mistake] = []
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            mistakes.append(Mistake(f"fault.{key}", "must be written KEY=VALUE"))
            continue
        try:
            faults = _assign(faults, key.strip().split("."), text.strip())
        except ValueError as exc:
            mistakes.append(Mistake(f"fault.{key}", str(exc)))
    if mistakes:
        raise ConfigError(mistakes)
    return faults


def fault_keys() -> list[str]:
    """Name every switch, dotted."""
    names: list[str] = []
    for switch in fields(Faults):
        inner = get_type_hints(Faults)[switch.name]
        names += [f"{switch.name}.{part.name}" for part in fields(inner)] if is_dataclass(inner) else [switch.name]
    return names


def _assign(holder: Any, path: list[str], text: str) -> Any:
    name, *rest = path
    hints = get_type_hints(type(holder))
    if name not in hints:
        raise ValueError(f"is not a switch; known: {', '.join(sorted(hints))}")
    hint = hints[name]
    if is_dataclass(hint):
        if not rest:
            raise ValueError(f"needs one of {', '.join(part.name for part in fields(hint))} after it")
        return replace(holder, **{name: _assign(getattr(holder, name), rest, text)})
    if rest:
        raise ValueError("has nothing inside it")
    return replace(holder, **{name: _convert(text, hint)})


def _convert(text: str, hint: Any) -> Any:
    if get_origin(hint) is Literal:
        if text not in get_args(hint):
            raise ValueError(f"must be one of {', '.join(get_args(hint))}")
        return text
    if get_origin(hint) is tuple:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if hint is bool:
        words = {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}
        if text.lower() not in words:
            raise ValueError("must be true or false")
        return words[text.lower()]
    if hint == Close:
        return text if text in ("abort", "none") else _number(int, text)
    return text if hint is str else _number(hint, text)


def _number(kind: type[int | float], text: str) -> int | float:
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"must be a {'whole ' if kind is int else ''}number") from None
