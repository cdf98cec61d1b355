"""Write server-sent events. Pure.

A CR or LF in the data would end its line early, and let what was recorded write events of its own:
each such line becomes a `data:` line by itself, which a reader joins again.
"""

from __future__ import annotations

import re

MEDIA = "text/event-stream"
COMMENT = b":\n\n"
"""Says that the stream is still there."""

_LINE_END = re.compile(rb"\r\n|\r|\n")


def event(name: bytes, data: bytes, id_: bytes = b"") -> bytes:
    """Write one event; `name` and `id_` are of one line each."""
    if b"\n" in data or b"\r" in data:
        data = b"\ndata: ".join(_LINE_END.split(data))
    if id_:
        return b"id: %b\nevent: %b\ndata: %b\n\n" % (id_, name, data)
    return b"event: %b\ndata: %b\n\n" % (name, data)
