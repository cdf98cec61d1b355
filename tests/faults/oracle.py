"""Compare upstream's ledger with what the API gives back, and say what is left in figures.

The ledger is the simulator's (`simulator/ledger.py`): a line for each event before it is sent, whether
anybody is attached or not, and a line for each attach and detach. Nothing here asks the daemon what it
believes: what was lost, and when nobody listened, is upstream's word.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from bisect import bisect_left
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from tests.faults import verdicts
from tests.faults.figures import Figures
from tests.support.stage import Entry

Json = dict[str, Any]
Span = tuple[float, float]
"""From and to, in Unix seconds."""

TOLERANCE = 0.5
"""Seconds that an event may take from upstream to its receipt on a busy machine."""
UNKNOWN = 0.05
"""Seconds from upstream's answer to the first commit of a call's row: who is killed in them may leave a call of
which nobody knows (docs/promises.md, what is not promised)."""
EXCUSES = {
    "the answer broke off": "A connection that breaks under the answer to an offer",
    "the first page is destroyed": "A file whose first page is destroyed",
}
"""Why a call may be forgotten besides a kill, and the words of docs/promises.md that say so."""
_COUNTED = {"gap_s", "gap_overhang_s", "forgotten", "rss", "loop_gap", "starved"}
_NOT_OUTAGES = ("before_attach", "paused", "erased")
_ID = re.compile(rb"rtc_\w+")
ABRUPT = {1002, 1006, 1007, 1009, 1011}
"""Codes with which a client leaves a connection that it cannot or will not go on with."""


@dataclass(frozen=True, slots=True)
class Sent:
    """Hold a ledger line of an event."""

    ordinal: int
    digest: str
    event_id: str | None
    at: float
    sidebands: tuple[str, ...]
    """Those to which it was written."""

    @property
    def heard(self) -> bool:
        """Say whether it was written to at least one sideband."""
        return bool(self.sidebands)


@dataclass
class Told:
    """Hold what the ledger says of one call."""

    call_id: str
    answered_at: float = 0.0
    """When upstream made the call and was about to say 201."""
    events: list[Sent] = field(default_factory=list)
    attached: list[Span] = field(default_factory=list)
    """When each sideband was open, whoever closed it; one that was not closed is open up to the last line."""
    names: list[str] = field(default_factory=list)
    closes: list[tuple[int | None, str]] = field(default_factory=list)
    """Code and manner of each end of a sideband; `detached` is that the daemon was first."""
    ended_at: float | None = None
    last_at: float = 0.0
    """When upstream last wrote down anything of the call."""

    @property
    def over_at(self) -> float:
        """Give when the call ended, or as far as upstream knows of it."""
        return self.last_at if self.ended_at is None else self.ended_at

    @property
    def away(self) -> list[Span]:
        """Give the times, from the first attach to the call's end, in which no sideband was open."""
        spans = self.absences
        reached = max((end for _, end in self.attached), default=self.over_at)
        return [*spans, (reached, self.over_at)] if reached < self.over_at else spans

    @property
    def absences(self) -> list[Span]:
        """Give those that ended with an attach."""
        spans: list[Span] = []
        reached: float | None = None
        for begin, end in sorted(self.attached):
            if reached is not None and begin > reached:
                spans.append((reached, begin))
            reached = end if reached is None else max(reached, end)
        return spans

    def handshake(self, placed: Iterable[int], deaths: Sequence[Span]) -> float:
        """Give when the handshake was done of which the record knows: up to then `before_attach` explains.

        It is the first, unless who made that was killed before anything of it was stored.
        """
        stored = {name for ordinal in placed for name in self.events[ordinal - 1].sidebands}
        done = float("inf")
        for name, (begin, end) in zip(self.names, self.attached, strict=True):
            done = begin
            was_killed = any(died >= begin and alive <= end + TOLERANCE for alive, died in deaths)
            if name in stored or not was_killed:
                break
        return done


def read_ledger(path: Path, only: Iterable[str] = ()) -> dict[str, Told]:
    """Read a ledger; gives what it says by call, of all calls or of some."""
    calls: dict[str, Told] = {}
    wanted = {call_id.encode() for call_id in only}
    for text in path.read_bytes().splitlines():
        if wanted and not wanted.intersection(_ID.findall(text)):
            continue
        line: Json = json.loads(text)
        told = calls.setdefault(line["call_id"], Told(line["call_id"]))
        told.last_at = line["at"]
        match line["kind"]:
            case "answer":
                told.answered_at = line["at"]
            case "event":
                names = tuple(line["sidebands"])
                told.events.append(Sent(line["ordinal"], line["sha256"], line["event_id"], line["at"], names))
            case "attach":
                told.names.append(line["sideband"])
                told.attached.append((line["at"], float("inf")))
            case "detach":
                index = told.names.index(line["sideband"])
                told.attached[index] = (told.attached[index][0], line["at"])
                told.closes.append((line["code"], line["end"]))
            case "end":
                told.ended_at = line["at"]
    for told in calls.values():
        told.attached = [(begin, max(begin, min(end, told.last_at))) for begin, end in told.attached]
    return calls


class _Missing(NamedTuple):
    sent: Sent
    span: Span
    """When it was sent, and when it can have arrived."""


@dataclass(frozen=True, slots=True)
class Record:
    """Hold what the API gives back of one call."""

    entries: Sequence[Entry]
    gaps: Sequence[Json]
    call: Json | None = None
    """Its row, read behind these."""


def verify(
    told: Iterable[Told],
    records: dict[str, Record],
    *,
    rss: float,
    loop_gap: float,
    starved: float = 0.0,
    cut: Sequence[Span] = (),
    deaths: Sequence[Span] = (),
    excuse: str = "",
) -> Figures:
    """Give the figures of some calls; one that has no record was forgotten, and all that it produced is missing.

    `cut` are times in which what was written to a sideband could not arrive, which upstream cannot know;
    `deaths` are when daemons were killed, as the last moment at which each was seen alive and the first at which it
    was not; `excuse`, one of `EXCUSES`, is why no daemon can know of a call that is forgotten.
    """
    known: list[Told] = []
    forgotten: list[Told] = []
    for each in told:
        (known if each.call_id in records else forgotten).append(each)
    unstored = [*cut, *lost_with(deaths, [(each, records[each.call_id].entries) for each in known])]
    parts = [_verify(each, records[each.call_id], unstored, deaths) for each in known]
    parts += [_forgotten(each, deaths, is_explained=excuse in EXCUSES) for each in forgotten]
    sums: Counter[str] = Counter()
    for part in parts:
        sums.update({name: value for name, value in part.items() if name != "gap_overhang_s"})
    overhang = max((part.get("gap_overhang_s", 0.0) for part in parts), default=0.0)
    whole = {name: int(sums[name]) for name in Figures.__dataclass_fields__ if name not in _COUNTED}
    return Figures(
        **whole,
        forgotten=len(forgotten),
        gap_s=round(sums["gap_s"], 3),
        gap_overhang_s=round(overhang, 3),
        rss=round(rss, 1),
        loop_gap=round(loop_gap, 1),
        starved=round(starved, 1),
    )


def _forgotten(told: Told, deaths: Sequence[Span], *, is_explained: bool) -> dict[str, float]:
    """Count what is missing of a call of which nobody knows.

    That is explained where the daemon was killed before the call's row can have been committed.
    """
    since, until = told.answered_at - TOLERANCE, told.answered_at + UNKNOWN + TOLERANCE
    is_explained = is_explained or any(died >= since and alive <= until for alive, died in deaths)
    count = len(told.events)
    # a call that said nothing is one that is lost all the same
    return {"produced": count, "missing": count, "missing_unexplained": 0 if is_explained else max(1, count)}


def lost_with(deaths: Sequence[Span], calls: Sequence[tuple[Told, Sequence[Entry]]]) -> list[Span]:
    """Give, for each death of a daemon, the time before it of which nothing was stored any more.

    There is one writer for all calls: it begins with the oldest event, of whichever call, that was written to a
    sideband which the death ended, and behind which nothing that came there is on record. Of a call that was quiet
    then nobody can know that nothing was lost.
    """
    if not deaths:
        return []
    missing = [(told, {sent.ordinal for sent in lost(told, entries)}) for told, entries in calls]
    found = []
    for alive, died in deaths:
        since = died
        for told, unstored in missing:
            for name, (_, end) in zip(told.names, told.attached, strict=True):
                if alive - TOLERANCE <= end <= died + TOLERANCE:
                    for sent in reversed([sent for sent in told.events if name in sent.sidebands]):
                        if sent.ordinal not in unstored:
                            break
                        since = min(since, sent.at)
        found.append((since, died))
    return found


def lost(told: Told, entries: Sequence[Entry]) -> list[Sent]:
    """Give the events that were written to a sideband and are not on record."""
    placed, _, _, _ = _place(told, entries)
    return [sent for sent in told.events if sent.heard and sent.ordinal not in placed]


def seconds(time: str) -> float:
    """Give a time of the API as Unix seconds."""
    return datetime.fromisoformat(time).timestamp()


def _verify(told: Told, record: Record, cut: Sequence[Span], deaths: Sequence[Span]) -> dict[str, float]:
    entries, gaps = record.entries, record.gaps
    placed, order, conflicts, dup = _place(told, entries)
    missing = _missing(told, placed, entries)
    away = [*told.away, *cut]
    lengths = [_span(gap, told.over_at) for gap in gaps if gap["reason"] != "before_attach"]
    overhangs = [
        _overhang(_span(gap, told.over_at), [*away, *_lost_in(gap, missing)])
        for gap in gaps
        if gap["reason"] not in ("before_attach", "paused")
    ]
    numbers = _left_out(entries)
    handshake = told.handshake(placed, deaths)
    explained = _explain(missing, placed, record, handshake)
    wrong = []
    if record.call is not None:
        wrong = list(
            verdicts.contradictions(
                record.call,
                entries,
                gaps,
                was_heard=bool(told.attached),
                missed=any(each.sent.at > handshake for each in missing),
            )
        )
        sys.stdout.write("".join(f"{told.call_id}: {words}\n" for words in wrong))
    return {
        "produced": len(told.events),
        "stored": len(placed),
        "missing": len(missing),
        "missing_unexplained": len(missing) - explained.events,
        "gap_s": sum(end - begin for begin, end in lengths),
        "gap_overhang_s": max(overhangs, default=0.0),
        "empty_gaps": sum(_is_empty(gap, missing, away) for gap in gaps),
        "double_gaps": verdicts.double(gaps),
        "false_verdicts": bool(wrong),
        "overcounted": _overcounted(gaps, explained.left, numbers),
        "dup": dup,
        "holes": _holes(numbers, gaps),
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
            found.append(_Missing(sent, (sent.at, sent.at + longest)))
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


class _Explained(NamedTuple):
    events: int
    left: dict[int, int]
    """What each gap that counts, by its index, counts beyond what it explains."""


def _explain(missing: Sequence[_Missing], placed: dict[int, int], record: Record, handshake: float) -> _Explained:
    """Find a gap for what is missing.

    One that counts explains so many of its time or at its place, the others what lies at their place and in their
    time. `before_attach` explains nothing that was sent after the handshake.
    """
    entries, gaps = record.entries, record.gaps
    declared = [index for index, entry in enumerate(entries) if entry.kind == "gap"]
    by_name: dict[tuple[str | None, float], list[int]] = defaultdict(list)
    for index in declared:
        by_name[_name(json.loads(entries[index].payload or "{}"))].append(index)
    # a damaged file may have lost the entry of a gap: then any will do
    places = [by_name.get(_name(gap), declared) for gap in gaps]
    ordinals = sorted(placed)
    spans = [_stretched(gap) for gap in gaps]
    left = {index: gap["lost"] for index, gap in enumerate(gaps) if gap["lost"] is not None}

    def is_in_time(lost: _Missing, index: int) -> bool:
        if gaps[index]["reason"] == "before_attach" and lost.sent.at > handshake:
            return False
        return lost.span[1] >= spans[index][0] and lost.span[0] <= spans[index][1]

    found = 0
    for lost in missing:
        before = _neighbour(ordinals, placed, lost.sent.ordinal, earlier=True, default=-1)
        behind = _neighbour(ordinals, placed, lost.sent.ordinal, earlier=False, default=len(entries))

        def is_at(index: int, before: int = before, behind: int = behind) -> bool:
            return any(before < place < behind for place in places[index])

        # what waited in buffers for long was sent before its gap began, and lies around its entry
        counted = [index for index in left if left[index] and (is_in_time(lost, index) or is_at(index))]
        if lost.sent.heard and counted:
            left[counted[0]] -= 1
            found += 1
        else:
            outages = (index for index in range(len(gaps)) if index not in left)
            found += any(is_at(index) and is_in_time(lost, index) for index in outages)
    return _Explained(found, left)


def _is_empty(gap: Json, missing: Sequence[_Missing], away: Sequence[Span]) -> bool:
    """Tell whether a gap stands for nothing: nobody was away in its time, and nothing was lost."""
    if gap["reason"] in _NOT_OUTAGES:
        return False
    if gap["lost"] is not None:
        return not gap["lost"]
    begin, end = _stretched(gap)
    return not any(span[1] >= begin and span[0] <= end for span in (*away, *(each.span for each in missing)))


def _overcounted(gaps: Sequence[Json], left: dict[int, int], numbers: dict[int, int]) -> int:
    """Count the losses that gaps count and that were none."""
    damaged = {index for index in left if gaps[index]["reason"] == "corrupt"}
    beyond = sum(count for index, count in left.items() if index not in damaged)
    # a damaged file has lost commands and gaps as well, of which upstream knows nothing: they left their numbers out
    others: int = sum(gap["lost"] or 0 for gap in gaps if gap["reason"] != "corrupt")
    declared: int = sum(gaps[index]["lost"] for index in damaged)
    explained = declared - sum(left[index] for index in damaged)
    return beyond + max(0, declared - max(explained, sum(numbers.values()) - others))


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


def _left_out(entries: Sequence[Entry]) -> dict[int, int]:
    """Count the numbers of each epoch that no entry has."""
    seqs: dict[int, set[int]] = defaultdict(set)
    for entry in entries:
        epoch, seq = entry.position
        seqs[epoch].add(seq)
    return {epoch: max(found) - len(found) for epoch, found in seqs.items()}


def _holes(numbers: dict[int, int], gaps: Sequence[Json]) -> int:
    """Count the numbers that no entry has and no gap counts."""
    counted: Counter[int] = Counter()
    anywhere = 0
    for gap in gaps:
        if gap["reason"] == "corrupt":
            # a damaged file has lost what it has lost of all epochs
            anywhere += gap["lost"] or 0
        else:
            counted[gap["epoch"]] += gap["lost"] or 0
    left = sum(max(0, count - counted[epoch]) for epoch, count in numbers.items())
    return max(0, left - anywhere)


def _closes_by_us(told: Told) -> int:
    return sum(end == "detached" and (code is None or code in ABRUPT) for code, end in told.closes)
