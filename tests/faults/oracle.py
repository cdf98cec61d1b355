"""Compare upstream's ledger with what the API gives back, and say what is left in figures.

The ledger is the simulator's (`simulator/ledger.py`): a line for each event before it is sent, whether
anybody is attached or not, and a line for each attach and detach. Nothing here asks the daemon what it
believes: what was lost, and when nobody listened, is upstream's word.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from tests.faults.figures import Figures
from tests.support.stage import Entry

Json = dict[str, Any]
Span = tuple[float, float]
"""From and to, in Unix seconds."""

TOLERANCE = 0.5
"""Seconds that an event may take from upstream to its receipt on a busy machine."""
_MEASURED = {"gap_s", "gap_overhang_s", "rss", "loop_gap"}
ABRUPT = {1002, 1006, 1007, 1009, 1011}
"""Codes with which a client leaves a connection that it cannot or will not go on with."""


@dataclass(frozen=True, slots=True)
class Sent:
    """Hold a ledger line of an event."""

    ordinal: int
    digest: str
    event_id: str | None
    at: float
    heard: bool
    """Whether it was written to at least one sideband."""


@dataclass
class Told:
    """Hold what the ledger says of one call."""

    call_id: str
    events: list[Sent] = field(default_factory=list)
    attached: list[Span] = field(default_factory=list)
    """When each sideband was open, whoever closed it; an open one ends in infinity."""
    names: list[str] = field(default_factory=list)
    closes: list[tuple[int | None, str]] = field(default_factory=list)
    """Code and manner of each end of a sideband; `detached` is that the daemon was first."""
    ended_at: float | None = None

    @property
    def away(self) -> list[Span]:
        """Give the times, from the first attach on, in which no sideband was open."""
        spans: list[Span] = []
        reached: float | None = None
        for begin, end in sorted(self.attached):
            if reached is not None and begin > reached:
                spans.append((reached, begin))
            reached = end if reached is None else max(reached, end)
        return spans if reached is None or reached == float("inf") else [*spans, (reached, float("inf"))]


def read_ledger(path: Path) -> dict[str, Told]:
    """Read a ledger; gives what it says by call."""
    calls: dict[str, Told] = {}
    for text in path.read_bytes().splitlines():
        line: Json = json.loads(text)
        told = calls.setdefault(line["call_id"], Told(line["call_id"]))
        match line["kind"]:
            case "event":
                heard = bool(line["sidebands"])
                told.events.append(Sent(line["ordinal"], line["sha256"], line["event_id"], line["at"], heard))
            case "attach":
                told.names.append(line["sideband"])
                told.attached.append((line["at"], float("inf")))
            case "detach":
                index = told.names.index(line["sideband"])
                told.attached[index] = (told.attached[index][0], line["at"])
                told.closes.append((line["code"], line["end"]))
            case "end":
                told.ended_at = line["at"]
    return calls


class _Missing(NamedTuple):
    ordinal: int
    span: Span


@dataclass(frozen=True, slots=True)
class Record:
    """Hold what the API gives back of one call."""

    entries: Sequence[Entry]
    gaps: Sequence[Json]


def verify(
    told: Iterable[Told],
    records: dict[str, Record],
    *,
    rss: float,
    loop_gap: float,
    cut: Sequence[Span] = (),
) -> Figures:
    """Give the figures of some calls.

    `cut` are times in which what was written to a sideband could not arrive, which upstream cannot know.
    """
    parts = [_verify(each, records[each.call_id], cut) for each in told]
    sums: Counter[str] = Counter()
    for part in parts:
        sums.update({name: value for name, value in part.items() if name != "gap_overhang_s"})
    overhang = max((part["gap_overhang_s"] for part in parts), default=0.0)
    whole = {name: int(sums[name]) for name in Figures.__dataclass_fields__ if name not in _MEASURED}
    return Figures(
        **whole,
        gap_s=round(sums["gap_s"], 3),
        gap_overhang_s=round(overhang, 3),
        rss=round(rss, 1),
        loop_gap=round(loop_gap, 1),
    )


def lost(told: Told, entries: Sequence[Entry]) -> list[Sent]:
    """Give the events that were written to a sideband and are not on record."""
    placed, _, _, _ = _place(told, entries)
    return [sent for sent in told.events if sent.heard and sent.ordinal not in placed]


def seconds(time: str) -> float:
    """Give a time of the API as Unix seconds."""
    return datetime.fromisoformat(time).timestamp()


def _verify(told: Told, record: Record, cut: Sequence[Span]) -> dict[str, float]:
    entries, gaps = record.entries, record.gaps
    placed, order, conflicts, dup = _place(told, entries)
    missing = _missing(told, placed, entries)
    ended_at = told.ended_at or max((sent.at for sent in told.events), default=0.0)
    away = [*told.away, *cut]
    lengths = [_span(gap, ended_at) for gap in gaps if gap["reason"] != "before_attach"]
    overhangs = [
        _overhang(_span(gap, ended_at), [*away, *_lost_in(gap, missing)])
        for gap in gaps
        if gap["reason"] not in ("before_attach", "paused")
    ]
    return {
        "produced": len(told.events),
        "stored": len(placed),
        "missing": len(missing),
        "missing_unexplained": _unexplained(missing, placed, entries, gaps),
        "gap_s": sum(end - begin for begin, end in lengths),
        "gap_overhang_s": max(overhangs, default=0.0),
        "dup": dup,
        "holes": _holes(entries, gaps),
        "conflicts": conflicts,
        "inversions": sum(later <= earlier for earlier, later in pairwise(order))
        + sum(later.position <= earlier.position for earlier, later in pairwise(entries)),
        "closes_by_us": _closes_by_us(told),
    }


def _place(told: Told, entries: Sequence[Entry]) -> tuple[dict[int, int], list[int], int, int]:
    """Find the event of each entry; gives entries' indexes by ordinal, ordinals in stored order, conflicts, doubles."""
    by_digest: dict[str, deque[int]] = defaultdict(deque)
    by_id: dict[str, int] = {}
    for sent in told.events:
        by_digest[sent.digest].append(sent.ordinal)
        if sent.event_id is not None:
            by_id[sent.event_id] = sent.ordinal
    placed: dict[int, int] = {}
    order: list[int] = []
    conflicts = dup = 0
    for index, entry in enumerate(entries):
        if entry.kind != "event":
            continue
        same = by_digest.get(hashlib.sha256(entry.payload).hexdigest())
        if same:
            ordinal = same.popleft()
        elif same is not None:
            dup += 1
            continue
        elif entry.fields["event_id"] in by_id:
            ordinal = by_id[entry.fields["event_id"]]
            conflicts += not entry.fields["stripped"]
        else:
            conflicts += 1
            continue
        dup += ordinal in placed
        placed[ordinal] = index
        order.append(ordinal)
    return placed, order, conflicts, dup


def _span(gap: Json, ended_at: float) -> Span:
    """Give a gap's time; one without an end lasts as long as the call."""
    begin = seconds(gap["from"])
    return begin, max(begin, seconds(gap["to"]) if gap["to"] is not None else ended_at)


def _overhang(gap: Span, excused: Sequence[Span]) -> float:
    """Give the part of a time that lies in none of the others."""
    left = gap[1] - gap[0]
    reached = gap[0]
    for begin, end in sorted(excused):
        begin, end = max(begin, reached), min(end, gap[1])
        if end > begin:
            left -= end - begin
            reached = end
    return max(0.0, left)


def _missing(told: Told, placed: dict[int, int], entries: Sequence[Entry]) -> list[_Missing]:
    """List what is not stored, with when it was sent and when it can have arrived: as late as its neighbours did."""
    late = {
        sent.ordinal: max(0.0, seconds(at) - sent.at)
        for sent in told.events
        if sent.ordinal in placed and (at := entries[placed[sent.ordinal]].fields.get("at")) is not None
    }
    ordinals = sorted(late)
    found = []
    for sent in told.events:
        if sent.ordinal not in placed:
            place = bisect_left(ordinals, sent.ordinal)
            longest = max((late[ordinal] for ordinal in ordinals[max(0, place - 1) : place + 1]), default=0.0)
            found.append(_Missing(sent.ordinal, (sent.at, sent.at + longest)))
    return found


def _lost_in(gap: Json, missing: Sequence[_Missing]) -> list[Span]:
    """Give the time over which a gap that counts really lost something."""
    if gap["lost"] is None:
        return []
    begin, end = _stretched(gap)
    spans = [each.span for each in missing if each.span[1] >= begin and each.span[0] <= end]
    return [(min(spans)[0] - TOLERANCE, max(each[1] for each in spans) + TOLERANCE)] if spans else []


def _stretched(gap: Json) -> Span:
    end = float("inf") if gap["to"] is None else seconds(gap["to"]) + TOLERANCE
    return seconds(gap["from"]) - TOLERANCE, end


def _unexplained(
    missing: Sequence[_Missing], placed: dict[int, int], entries: Sequence[Entry], gaps: Sequence[Json]
) -> int:
    """Count what is missing outside of every gap.

    One that counts explains so many of its time or at its place, the others what lies at their place.
    """
    declared = [index for index, entry in enumerate(entries) if entry.kind == "gap"]
    places = {_name(json.loads(entries[index].payload or "{}")): index for index in declared}
    ordinals = sorted(placed)
    spans = [_stretched(gap) for gap in gaps]
    outages = [index for index, gap in enumerate(gaps) if gap["lost"] is None]
    left = {index: gap["lost"] for index, gap in enumerate(gaps) if gap["lost"] is not None}

    def is_within(lost: _Missing, index: int) -> bool:
        return lost.span[1] >= spans[index][0] and lost.span[0] <= spans[index][1]

    unexplained = 0
    for lost in missing:
        before = _neighbour(ordinals, placed, lost.ordinal, earlier=True, default=-1)
        behind = _neighbour(ordinals, placed, lost.ordinal, earlier=False, default=len(entries))
        if any(before < index < behind for index in declared) and any(is_within(lost, index) for index in outages):
            continue
        counted = next(
            (
                index
                for index in left
                # what waited in buffers for long was sent before its gap began, and lies around its entry
                if left[index] and (is_within(lost, index) or before < places.get(_name(gaps[index]), -2) < behind)
            ),
            None,
        )
        if counted is None:
            unexplained += 1
        else:
            left[counted] -= 1
    return unexplained


def _name(gap: Json) -> tuple[str | None, float]:
    """Tell a gap from the others of its call, by what its entry says too."""
    return gap.get("reason"), seconds(gap["from"]) if "from" in gap else 0.0


def _neighbour(ordinals: list[int], placed: dict[int, int], ordinal: int, *, earlier: bool, default: int) -> int:
    """Give the entry that holds the last stored event before this one, or the first behind it."""
    low, high = 0, len(ordinals)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if ordinals[middle] < ordinal else (low, middle)
    index = low - 1 if earlier else low
    return placed[ordinals[index]] if 0 <= index < len(ordinals) else default


def _holes(entries: Sequence[Entry], gaps: Sequence[Json]) -> int:
    """Count the numbers of each epoch that neither an entry has nor a gap counts."""
    seqs: dict[int, list[int]] = defaultdict(list)
    for entry in entries:
        epoch, seq = entry.position
        seqs[epoch].append(seq)
    counted: Counter[int] = Counter()
    anywhere = 0
    for gap in gaps:
        if gap["reason"] == "corrupt":
            # a damaged file has lost what it has lost of all epochs
            anywhere += gap["lost"] or 0
        else:
            counted[gap["epoch"]] += gap["lost"] or 0
    left = sum(max(0, max(found) - len(set(found)) - counted[epoch]) for epoch, found in seqs.items())
    return max(0, left - anywhere)


def _closes_by_us(told: Told) -> int:
    return sum(end == "detached" and (code is None or code in ABRUPT) for code, end in told.closes)
