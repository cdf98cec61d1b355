"""A file of everything that was produced, one JSON line each, written before it is sent.

Tests that kill a daemon in another process compare its store with this file. Each line is one
unbuffered write, so that the file is whole up to the last line even if the simulator is killed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self


class Ledger:
    """Append lines to a file; without a path, do nothing."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file = None if path is None else path.open("ab", buffering=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    @property
    def is_kept(self) -> bool:
        """Say whether lines go anywhere."""
        return self._file is not None

    def write(self, kind: str, call_id: str, **fields: object) -> None:
        """Append one line, of `kind` answer, attach, event, detach or end."""
        if self._file is not None:
            # in ASCII: an event's id may hold what UTF-8 cannot
            line = json.dumps({"kind": kind, "call_id": call_id, **fields}, separators=(",", ":"))
            self._file.write(line.encode() + b"\n")

    def write_events(
        self, call_id: str, frames: Sequence[tuple[bytes, str]], *, first: int, at: float, sidebands: Sequence[str]
    ) -> None:
        """Append lines of events, each with its id, in one write; all were produced at one time."""
        if self._file is None:
            return
        begin, names = json.dumps({"kind": "event", "call_id": call_id})[:-1], json.dumps(list(sidebands))
        # by hand: a flood is 20,000 of them a second
        lines = [
            f'{begin},"ordinal":{ordinal},"event_id":{json.dumps(event_id)},'
            f'"sha256":"{hashlib.sha256(frame).hexdigest()}","at":{at!r},"sidebands":{names},"bytes":{len(frame)}}}\n'
            for ordinal, (frame, event_id) in enumerate(frames, first)
        ]
        self._file.write("".join(lines).encode())
