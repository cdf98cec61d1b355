"""Make of a call's items the lines that its page shows. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from rtobserver.realtime.rows import ItemRow

MOST_LINES = 500
"""Lines of a transcript that are shown at once."""
LONGEST_TEXT = 20_000
"""Characters of one line that are shown; exports and the API have all of them."""

_WHO: Mapping[str, str] = {"user": "User", "assistant": "Assistant", "system": "System", "tool": "Tool"}


@dataclass(frozen=True, slots=True)
class Note:
    """Say something about a line."""

    words: str
    tone: str = ""
    """`good`, `warn` or `bad`, as badges have it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Be one line."""

    item_id: str
    response_id: str | None
    position: str
    role: str
    kind: str
    who: str
    tool: str | None
    at_ms: float | None
    until_ms: float | None
    text: str
    """What was said, typed, called or returned; of a speech that was cut, what was heard."""
    unheard: str = ""
    """What of a speech was generated and never heard."""
    is_code: bool = False
    output: str = ""
    """What an MCP server gave back."""
    left_out: int = 0
    """Characters that are not shown."""
    notes: list[Note] = field(default_factory=list)

    @property
    def clock(self) -> str:
        """Say when it began, from the beginning of the call."""
        return clock(self.at_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Say about what the lines are to be: the first of these that any line has something to do with."""

    item_id: str | None = None
    response_id: str | None = None
    at_ms: int | None = None
    """A time, from the beginning of the call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Be the lines that are shown at once."""

    lines: list[Line]
    first: int
    """How many lines come before them."""
    count: int
    """How many there are at all."""
    is_newest: bool
    found: str | None = None
    """The item of the line that was asked for."""

    @property
    def earlier(self) -> int | None:
        """Say where the lines before these begin."""
        return max(0, self.first - MOST_LINES) if self.first else None

    @property
    def later(self) -> int | None:
        """Say where the lines after these begin."""
        behind = self.first + len(self.lines)
        return behind if behind < self.count else None


def window(
    items: Sequence[ItemRow],
    started_at: int,
    *,
    first: int | None = None,
    wanted: Wanted | None = None,
    so_far: Mapping[str, str] | None = None,
) -> Window:
    """Give the lines from a number on, those around one that is wanted, or the newest ones.

    `items` are those of the conversation, in its order.
    `so_far` has the words of items that go on; None where the call is over.
    """
    newest = max(0, len(items) - MOST_LINES)
    index = None if wanted is None else place_of(items, started_at, wanted)
    if first is not None:
        begin = min(first, max(0, len(items) - 1))
    else:
        begin = newest if index is None else min(newest, max(0, index - MOST_LINES // 2))
    shown = items[begin : begin + MOST_LINES]
    tools = {item.tool_call_id: item.tool_name for item in items if item.kind == "tool_call" and item.tool_call_id}
    return Window(
        lines=[line(item, started_at, tools, so_far) for item in shown],
        first=begin,
        count=len(items),
        is_newest=begin + len(shown) >= len(items),
        found=None if index is None else items[index].item_id,
    )


def place_of(items: Sequence[ItemRow], started_at: int, wanted: Wanted) -> int | None:
    """Find the line of an item, else the first of a response, else the last that had begun at a time."""
    for index, item in enumerate(items):
        if wanted.item_id and item.item_id == wanted.item_id:
            return index
    for index, item in enumerate(items):
        if wanted.response_id and item.response_id == wanted.response_id:
            return index
    if wanted.at_ms is None:
        return None
    # a line that begins within the same millisecond has begun
    until = started_at + (wanted.at_ms + 1) * 1000
    began = [index for index, item in enumerate(items) if item.started_at is not None and item.started_at < until]
    return began[-1] if began else (0 if items else None)


def unsaid(items: Iterable[ItemRow]) -> dict[str, ItemRow]:
    """Name the items whose final text is still to come: what is said of them so far, only their deltas tell."""
    return {
        item.item_id: item
        for item in items
        if not item.text and (item.status == "in_progress" or (item.role == "user" and item.status == "completed"))
    }


def line(
    item: ItemRow, started_at: int, tools: Mapping[str, str | None], so_far: Mapping[str, str] | None = None
) -> Line:
    """Make the line of an item; `tools` names the tools by the ids of their calls."""
    words = (so_far or {}).get(item.item_id)
    if words and not item.text:
        item = msgspec.structs.replace(item, text=words)
    is_code = item.kind in ("tool_call", "tool_output")
    text = laid_out(item.text) if is_code else item.text
    heard, unheard = text, ""
    if item.heard_text is not None and not is_code:
        heard = item.heard_text
        unheard = item.text.removeprefix(heard)
    shown = heard[:LONGEST_TEXT]
    room = LONGEST_TEXT - len(shown)
    output = laid_out(item.tool_output or "")
    return Line(
        item_id=item.item_id,
        response_id=item.response_id,
        position=f"{item.epoch}:{item.seq}",
        role="tool" if is_code else item.role,
        kind=item.kind,
        who="Assistant" if item.kind == "tool_call" else _WHO.get(item.role, item.role),
        tool=(item.tool_name or tools.get(item.tool_call_id or "")) if is_code else None,
        at_ms=_ms(item.started_at, started_at),
        until_ms=_ms(item.ended_at, started_at),
        text=shown,
        unheard=unheard[:room],
        is_code=is_code,
        output=output[:LONGEST_TEXT],
        left_out=len(heard) + len(unheard) - len(shown) - len(unheard[:room]) + max(0, len(output) - LONGEST_TEXT),
        notes=_notes(item, is_live=so_far is not None),
    )


def clock(ms: float | None) -> str:
    """Write a time of the call such as `1:02.3`; a dash where it is not known."""
    if ms is None:
        return "–"  # noqa: RUF001 - it is meant
    minutes, rest = divmod(int(ms / 100), 600)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{rest // 10:02}.{rest % 10}"
    return f"{hours}:{minutes:02}:{seconds}" if hours else f"{minutes}:{seconds}"


def laid_out(text: str) -> str:
    """Lay JSON out over lines; any other text stays as it is."""
    if len(text) > LONGEST_TEXT or not text.lstrip().startswith(("{", "[")):
        return text
    try:
        return msgspec.json.format(text, indent=2)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return text


def _notes(item: ItemRow, *, is_live: bool) -> list[Note]:
    found = []
    is_speech = item.kind == "speech"
    if item.status == "failed":
        what = "could not be transcribed" if item.role == "user" else "failed"
        found.append(Note(f"{what}: {item.error}" if item.error else what, "bad"))
    elif item.status == "in_progress":
        found.append(Note("in progress"))
    elif item.status == "incomplete":
        found.append(Note("not finished", "warn"))
    elif item.status == "deleted":
        found.append(Note("deleted from the conversation", "warn"))
    if not item.text and item.status == "completed" and item.role == "user" and is_speech:
        found.append(Note("no transcript yet" if is_live else "no transcript"))
    if item.heard_text is not None:
        found.append(Note("cut off, about here" if item.heard_confidence == "estimated" else "cut off", "warn"))
    elif item.interrupted:
        found.append(Note("interrupted", "warn"))
    if item.idle_timeout:
        found.append(Note("committed by a time-out: nobody spoke"))
    if item.recovered:
        found.append(Note("asked for after a gap", "warn"))
    return found


def _ms(at: int | None, started_at: int) -> float | None:
    return None if at is None else max(at - started_at, 0) / 1000
