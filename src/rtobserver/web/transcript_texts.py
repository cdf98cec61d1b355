"""Write a transcript for people and for players: plain text, Markdown, WebVTT, SubRip. Pure.

Where a speech was cut, what was heard of it stands here, with a mark; the whole text is in the
JSON form. What people say is never taken for markup: it is escaped where a format has an escape,
and replaced by a lookalike where it has none. Times count from the beginning of the call.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from rtobserver.realtime import heard
from rtobserver.realtime.transcript import Line

CUT, UNHEARD, FAILED = "[cut off]", "[cut off before it was heard]", "[not transcribed]"
"""Marks in place of what nobody heard, and of what could not be understood."""

_SPEAKERS = {"user": "User", "assistant": "Assistant", "system": "System", "tool": "Tool"}
# C0, DEL and C1 but tab and line feed: they move cursors of terminals, and formats forbid some
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_BREAK = re.compile(r"\r\n|[\r\n\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-.!|~<>&:])")
_MIN_CUE_MS = 1000


class _Cue(NamedTuple):
    start: int
    end: int
    speaker: str
    lines: list[str]


def as_text(lines: Iterable[Line], began_at: int) -> str:
    """Write plain text, one paragraph for each line of the transcript."""
    written = []
    for line in lines:
        head = f"[{_clock(_since(line.started_at, began_at), '.')}] {_headline(line)}"
        written.append(f"{head}: " + "\n    ".join(_rows(_words(line))))
    return "".join(f"{paragraph}\n" for paragraph in written)


def as_markdown(lines: Iterable[Line], began_at: int) -> str:
    """Write Markdown; arguments and outputs of tools stand in code blocks."""
    written = []
    for line in lines:
        head = f"**{_markdown(_headline(line))}** ({_clock(_since(line.started_at, began_at), '.')})"
        if line.kind in ("tool_call", "tool_output"):
            written.append(f"{head}\n\n{_block(_rows(_words(line)))}\n")
        else:
            said = "  \n".join(_markdown(row) for row in _rows(_words(line)))
            written.append(f"{head}: {said}\n")
    return "\n".join(written)


def as_webvtt(lines: Iterable[Line], began_at: int) -> str:
    """Write WebVTT: what was said and heard, as cues with their speakers."""
    blocks = ["WEBVTT\n"]
    for number, cue in enumerate(_cues(lines, began_at), start=1):
        said = "\n".join(row.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") for row in cue.lines)
        blocks.append(f"{number}\n{_clock(cue.start, '.')} --> {_clock(cue.end, '.')}\n<v {cue.speaker}>{said}</v>\n")
    return "\n".join(blocks)


def as_subrip(lines: Iterable[Line], began_at: int) -> str:
    """Write SubRip (SRT): what was said and heard, each cue beginning with its speaker."""
    blocks = []
    for number, cue in enumerate(_cues(lines, began_at), start=1):
        # there is no escape: players take <...> and {\...} for markup and --> for times
        said = "\n".join(
            row.replace("<", "\u2039").replace(">", "\u203a").replace("{", "(").replace("}", ")") for row in cue.lines
        )
        blocks.append(f"{number}\n{_clock(cue.start, ',')} --> {_clock(cue.end, ',')}\n{cue.speaker}: {said}\n")
    return "\n".join(blocks)


FORMATS: Mapping[str, tuple[str, Callable[[Sequence[Line], int], str]]] = {
    "text": ("text/plain", as_text),
    "vtt": ("text/vtt", as_webvtt),
    "srt": ("application/x-subrip", as_subrip),
    "md": ("text/markdown", as_markdown),
}
"""Names of the formats, with their media types and what writes them."""


def _cues(lines: Iterable[Line], began_at: int) -> list[_Cue]:
    """Make cues of what could be heard or read, in the order of their beginnings."""
    cues = []
    for line in lines:
        if line.kind not in ("speech", "text") or line.role == "system" or line.started_at is None:
            continue
        if line.heard_text == "" or not line.text.strip():
            continue
        start = _since(line.started_at, began_at)
        words = _words(line)
        end = _since(line.ended_at, began_at)
        # typed lines take no time, and a line that goes on has no end yet
        if end - start < _MIN_CUE_MS:
            end = start + max(_MIN_CUE_MS, heard.spoken_ms(words) if line.kind == "text" else 0)
        cues.append(_Cue(start, end, _SPEAKERS[line.role], _rows(words)))
    return sorted(cues, key=lambda cue: cue.start)


def _words(line: Line) -> str:
    if line.heard_text is not None:
        return f"{line.heard_text} {CUT}" if line.heard_text.strip() else UNHEARD
    if line.role == "user" and line.status == "failed" and not line.text:
        return FAILED
    return f"{line.text} {CUT}" if line.interrupted else line.text


def _headline(line: Line) -> str:
    if line.kind == "tool_call":
        return f"Tool call {_rows(line.tool_name or '?')[0]}"
    if line.kind == "tool_output":
        return f"Tool output {_rows(line.tool_name or '?')[0]}"
    return _SPEAKERS[line.role]


def _rows(text: str) -> list[str]:
    """Part a text into lines of which none is empty: an empty one would end a cue or a paragraph."""
    rows = [_CONTROL.sub("\ufffd", row).rstrip() for row in _BREAK.split(text)]
    return [row for row in rows if row] or [""]


def _markdown(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", text)


def _block(rows: Sequence[str]) -> str:
    longest = max((len(run) for row in rows for run in re.findall("`+", row)), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([fence, *rows, fence])


def _since(at: int | None, began_at: int) -> int:
    # clocks can be set back during a call
    return 0 if at is None else max(0, at - began_at) // 1000


def _clock(ms: int, point: str) -> str:
    seconds, ms = divmod(ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}{point}{ms:03d}"
