"""Put the items of a call in the order of the conversation, and into words.

Works on rows alone, so that the query API computes from its tables what the live call would.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from rtobserver.realtime.rows import ItemRow, Kind, Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Be one line of a transcript. Times are microseconds since 1970."""

    item_id: str
    response_id: str | None
    role: Role
    text: str
    """What was said or typed; for a tool call its arguments, for a tool output the output."""
    heard_text: str | None
    heard_confidence: Literal["exact", "estimated"] | None
    status: str
    interrupted: bool
    started_at: int | None
    ended_at: int | None
    kind: Kind
    tool_name: str | None
    recovered: bool = False
    """Whether its text was asked for, because a gap had swallowed it."""


def transcript(items: Iterable[ItemRow]) -> list[Line]:
    """Give the lines of a conversation, in its order; out-of-band items are no part of it."""
    return [
        Line(
            item_id=item.item_id,
            response_id=item.response_id,
            role=item.role,
            text=item.text,
            heard_text=item.heard_text,
            heard_confidence=item.heard_confidence,
            status=item.status,
            interrupted=item.interrupted,
            started_at=item.started_at,
            ended_at=item.ended_at,
            kind=item.kind,
            tool_name=item.tool_name,
            recovered=item.recovered,
        )
        for item in order(item for item in items if not item.out_of_band)
    ]


def order(items: Iterable[ItemRow]) -> list[ItemRow]:
    """Order items by their chain: each right after the one that it names as its predecessor.

    Where two name the same predecessor, the later one was put between it and the earlier one, as
    upstream does. An item whose predecessor is unknown stands where it arrived; only a system item
    without one goes to the front, where clients insert such items. Out-of-band items come last.
    """
    arrived = sorted(items, key=lambda item: (item.out_of_band, item.epoch, item.seq, item.item_id))
    known = {item.item_id for item in arrived}
    after: dict[str, list[ItemRow]] = {}
    roots: list[ItemRow] = []
    for item in arrived:
        if item.previous_item_id in known and item.previous_item_id is not None:
            after.setdefault(item.previous_item_id, []).append(item)
        else:
            roots.append(item)
    if after:
        # stable, so the others keep their order; a server that never links is taken by arrival alone
        roots.sort(key=lambda item: item.role != "system" or item.previous_item_id is not None)
    ordered: list[ItemRow] = []
    placed: set[str] = set()
    _place(roots, after, ordered, placed)
    if len(placed) < len(known):
        # predecessors that go round in a circle: garbage, but no reason to lose lines
        for item in arrived:
            _place([item], after, ordered, placed)
    return ordered


def _place(
    starts: Sequence[ItemRow], after: dict[str, list[ItemRow]], ordered: list[ItemRow], placed: set[str]
) -> None:
    # a stack of our own: chains are as long as calls, far beyond Python's recursion limit
    stack = list(reversed(starts))
    while stack:
        item = stack.pop()
        if item.item_id in placed:
            continue
        placed.add(item.item_id)
        ordered.append(item)
        stack.extend(after.get(item.item_id, ()))
