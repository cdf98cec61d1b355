"""Take the call id from an answer's Location header; never follow or resolve it. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import parse_qsl

_ID = re.compile(r"rtc_[A-Za-z0-9_-]{1,252}")
_ORIGIN = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:)?//[^/?#]*")
_UNPRINTABLE = re.compile(r"[^\x21-\x7e]")


def call_id_from(locations: Sequence[str]) -> str | None:
    """Find the id of the call that was created, or None where the headers do not name exactly one.

    Both vendors send a relative path that does not fit their own base URL, routed backends repeat
    a segment and some append a query (protocol.md 1.6), so that only the shape of the id counts.
    Anything ambiguous is None: an id that belongs to another call is worse than no id.
    """
    if len(locations) != 1:
        return None
    value = locations[0].strip(" \t")
    if _UNPRINTABLE.search(value):
        return None
    rest, _, _ = value.partition("#")
    path, _, query = rest.partition("?")
    path = path[found.end() :] if (found := _ORIGIN.match(path)) else path
    segments = [segment for segment in path.split("/") if segment.startswith("rtc_")]
    if not segments:
        segments = _query_ids(query)
    # An intermediary that joins two headers does it with a comma.
    if not segments or "," in path:
        return None
    return segments[-1] if _ID.fullmatch(segments[-1]) else None


def _query_ids(query: str) -> list[str]:
    try:
        ids = {text for name, text in parse_qsl(query, max_num_fields=32) if name == "call_id"}
    except ValueError:
        return []
    return list(ids) if len(ids) == 1 else []
