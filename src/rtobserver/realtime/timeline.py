"""Draw a call over time: who made a sound when, what was generated, which tools were at work, what was decided.

`Moments` folds what only entries tell: each stretch of speech and of playback, and where everything
else begins and ends. `draw` puts it beside the rows of items and responses, which alone say what
became of them, so that a drawing and the call's turns cannot differ. Pure; times are microseconds
since 1970, as received.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from rtobserver.realtime.entries import CommandRow, DecisionRow, GapRow
from rtobserver.realtime.moments import Moments, Point, Stretch
from rtobserver.realtime.rows import ItemRow, ResponseRow
from rtobserver.realtime.turns import Turn, tool_of, tool_span, turns

SpanLane = Literal["user", "assistant", "playback", "tools", "gaps"]
MarkLane = Literal["assistant", "playback", "tools", "commands", "decisions", "errors", "call"]

UNFINISHED = "unfinished"
"""Status of what went on when the call ended, and of what ended without anybody telling when."""
LONGEST_LABEL = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Be something that took time."""

    id: str
    """Stays the same while the call grows."""
    lane: SpanLane
    kind: Literal["speech", "typed", "generation", "out_of_band", "heard", "function_call", "mcp", "gap"]
    from_at: int
    to_at: int | None
    """None while it goes on."""
    label: str = ""
    position: str
    to_position: str | None = None
    item_id: str | None = None
    response_id: str | None = None
    status: str | None = None
    interrupted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Be something that happened at once."""

    id: str
    lane: MarkLane
    kind: Literal[
        "barge_in", "cleared", "truncated", "command", "decision", "error", "transcription_failed", "began", "ended"
    ]
    at: int
    label: str = ""
    position: str | None
    policy: str | None = None
    state: str | None = None
    acted: bool | None = None
    """Of a decision: whether its actions were to be done."""
    item_id: str | None = None
    response_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Say of a call what stands in its own row."""

    started_at: int
    ended_at: int | None
    is_live: bool
    status: str
    outcome: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """Be a call over time; lists are in the order of their beginnings."""

    is_live: bool
    until_at: int
    """Until when there is anything to draw."""
    spans: list[Span]
    marks: list[Mark]
    turns: list[Turn]
    """Those whose times are known."""
    after: str | None
    """The last entry that was folded."""


def draw(
    subject: Subject,
    moments: Moments,
    *,
    items: Sequence[ItemRow],
    responses: Sequence[ResponseRow],
    decisions: Iterable[DecisionRow] = (),
    commands: Iterable[CommandRow] = (),
    gaps: Iterable[GapRow] = (),
) -> Drawing:
    """Draw a call; what belongs together was read in this order: entries, then the rest."""
    decided, sent, lost = list(decisions), list(commands), list(gaps)
    until = _until(subject, moments, decided, sent)
    drawer = _Drawer(subject, moments, until, items, responses)
    spans = [*drawer.speech(), *drawer.typed(), *drawer.generation(), *drawer.playback()]
    spans += [*drawer.tools(), *drawer.gaps(lost)]
    marks = [*drawer.of_call(), *drawer.of_sound(), *drawer.errors(), *_decisions(decided), *_commands(sent)]
    drawn = sorted(map(drawer.within, spans), key=lambda span: (span.from_at, span.id))
    return Drawing(
        is_live=subject.is_live,
        until_at=max(until, *(span.to_at or span.from_at for span in drawn), *(mark.at for mark in marks)),
        spans=drawn,
        marks=sorted(marks, key=lambda mark: (mark.at, mark.id)),
        turns=[turn for turn in turns(items, responses) if turn.started_at is not None],
        after=moments.last and moments.last.position,
    )


class _Drawer:
    def __init__(
        self,
        subject: Subject,
        moments: Moments,
        until: int,
        items: Sequence[ItemRow],
        responses: Sequence[ResponseRow],
    ) -> None:
        self._subject = subject
        self._moments = moments
        self._until = until
        self._items = {item.item_id: item for item in items}
        self._responses = {response.response_id: response for response in responses}
        self._words: dict[str, str] = {}
        self._heard: dict[str, str] = {}
        for item in items:
            if item.role == "assistant" and item.response_id is not None:
                words = f"calls {item.tool_name or 'a tool'}" if item.kind == "tool_call" else item.text
                self._words.setdefault(item.response_id, words)
                if item.kind == "speech":
                    heard = item.text if item.heard_text is None else item.heard_text
                    self._heard[item.response_id] = f"{self._heard.get(item.response_id, '')} {heard}"

    def within(self, span: Span) -> Span:
        """Close what cannot go on any more; nothing ends before it began, even if a clock was set back."""
        if span.to_at is None and not self._subject.is_live:
            status = UNFINISHED if span.status == "in_progress" else span.status
            return replace(span, to_at=max(self._until, span.from_at), status=status)
        if span.to_at is not None and span.to_at < span.from_at:
            return replace(span, to_at=span.from_at)
        return span

    def speech(self) -> Iterable[Span]:
        for stretch in self._moments.speech:
            item = self._items.get(stretch.id or "")
            if stretch.end == "open":
                status = "in_progress"
            elif stretch.end != "stopped":
                # cleared, or its end was not told
                status = stretch.end
            else:
                status = "uncommitted" if item is None else item.status
            yield Span(
                id=f"speech:{stretch.begin.position}",
                lane="user",
                kind="speech",
                **_between(stretch),
                label=excerpt(item.text) if item else "",
                item_id=stretch.id,
                status=status,
            )

    def typed(self) -> Iterable[Span]:
        for item in self._items.values():
            if item.role == "user" and item.kind == "text" and item.started_at is not None and not item.out_of_band:
                position = f"{item.epoch}:{item.seq}"
                yield Span(
                    id=f"typed:{item.item_id}",
                    lane="user",
                    kind="typed",
                    from_at=item.started_at,
                    to_at=item.started_at,
                    label=excerpt(item.text),
                    position=position,
                    to_position=position,
                    item_id=item.item_id,
                    status=item.status,
                )

    def generation(self) -> Iterable[Span]:
        open_until = self._superseded()
        for response in self._responses.values():
            began = self._began(response)
            if began is None:
                continue
            end = self._moments.where(response.response_id, response.done_at, ended=True)
            unfinished_at = open_until.get(response.response_id)
            status: str = response.status
            if response.done_at is None and unfinished_at is not None:
                status = UNFINISHED
            yield Span(
                id=f"response:{response.response_id}",
                lane="assistant",
                kind="out_of_band" if response.out_of_band else "generation",
                from_at=began,
                to_at=unfinished_at if response.done_at is None else response.done_at,
                label=excerpt(self._words.get(response.response_id, "")),
                position=f"{response.epoch}:{response.seq}",
                to_position=end,
                response_id=response.response_id,
                status=status,
                interrupted=response.interrupted,
            )

    def playback(self) -> Iterable[Span]:
        for stretch in self._moments.playback:
            response = self._responses.get(stretch.id or "")
            yield Span(
                id=f"playback:{stretch.begin.position}",
                lane="playback",
                kind="heard",
                **_between(stretch),
                label=excerpt(self._heard.get(stretch.id or "", "")),
                response_id=stretch.id,
                status="in_progress" if stretch.end == "open" else stretch.end,
                interrupted=response is not None and response.interrupted,
            )

    def tools(self) -> Iterable[Span]:
        outputs = {
            item.tool_call_id: item for item in self._items.values() if item.kind == "tool_output" and item.tool_call_id
        }
        for item in self._items.values():
            if item.kind != "tool_call" or item.called_at is None:
                continue
            output = outputs.get(item.tool_call_id or "")
            span = tool_span(item, output)
            status: str = tool_of(item, output).status
            to_at, to_position = None, None
            if span is not None:
                to_at = span[1]
                to_position = (
                    f"{output.epoch}:{output.seq}"
                    if output
                    else self._moments.where(item.item_id, item.ended_at, ended=True)
                )
            elif status not in ("unanswered", "in_progress"):
                # it came to an end, and when was not told
                to_at = item.called_at
            elif status == "unanswered" and self._subject.is_live:
                status = "in_progress"
            yield Span(
                id=f"tool:{item.item_id}",
                lane="tools",
                kind="mcp" if item.tool_call_id is None else "function_call",
                from_at=item.called_at,
                to_at=to_at,
                label=excerpt(item.tool_name or ""),
                position=self._moments.where(item.item_id, item.called_at)
                or self._moments.where(item.response_id, item.called_at)
                or f"{item.epoch}:{item.seq}",
                to_position=to_position,
                item_id=item.item_id,
                response_id=item.response_id,
                status=status,
            )

    def gaps(self, gaps: Iterable[GapRow]) -> Iterable[Span]:
        for gap in gaps:
            yield Span(
                id=f"gap:{gap.epoch}:{gap.seq}",
                lane="gaps",
                kind="gap",
                from_at=gap.from_at,
                to_at=gap.to_at,
                label=gap.reason,
                position=f"{gap.epoch}:{gap.seq}",
                status=gap.state,
            )

    def of_call(self) -> Iterable[Mark]:
        subject, first, last = self._subject, self._moments.first, self._moments.last
        yield Mark(id="began", lane="call", kind="began", at=subject.started_at, position=first and first.position)
        if not subject.is_live:
            yield Mark(
                id="ended",
                lane="call",
                kind="ended",
                at=self._until if subject.ended_at is None else subject.ended_at,
                label=subject.outcome or "",
                position=last and last.position,
                state=subject.status,
            )

    def of_sound(self) -> Iterable[Mark]:
        for barged_id, user_id, point in self._moments.barged:
            response = self._responses.get(barged_id)
            if response is not None and response.interrupted:
                yield Mark(
                    id=f"barge_in:{point.position}",
                    lane="playback",
                    kind="barge_in",
                    at=point.at,
                    position=point.position,
                    item_id=user_id,
                    response_id=barged_id,
                )
        for response_id, point in self._moments.cleared:
            yield Mark(
                id=f"cleared:{point.position}",
                lane="playback",
                kind="cleared",
                at=point.at,
                position=point.position,
                response_id=response_id,
            )
        for item_id, point in self._moments.truncated:
            item = self._items.get(item_id or "")
            yield Mark(
                id=f"truncated:{point.position}",
                lane="playback",
                kind="truncated",
                at=point.at,
                label=excerpt(item.heard_text or "") if item else "",
                position=point.position,
                item_id=item_id,
                response_id=item.response_id if item else None,
            )

    def errors(self) -> Iterable[Mark]:
        for words, point in self._moments.errors:
            yield Mark(
                id=f"error:{point.position}",
                lane="errors",
                kind="error",
                at=point.at,
                label=excerpt(words),
                position=point.position,
            )
        for item_id, point in self._moments.unheard:
            item = self._items.get(item_id or "")
            yield Mark(
                id=f"transcription_failed:{point.position}",
                lane="errors",
                kind="transcription_failed",
                at=point.at,
                label=(item.error or "") if item else "",
                position=point.position,
                item_id=item_id,
            )
        for response in self._responses.values():
            if response.status == "failed" and response.done_at is not None:
                yield Mark(
                    id=f"failed:{response.response_id}",
                    lane="errors",
                    kind="error",
                    at=response.done_at,
                    label=excerpt(response.reason or "the response failed"),
                    position=self._moments.where(response.response_id, response.done_at, ended=True)
                    or f"{response.epoch}:{response.seq}",
                    state="failed",
                    response_id=response.response_id,
                )

    def _began(self, response: ResponseRow) -> int | None:
        """Tell when a response was first heard of: its beginning may have fallen into a gap."""
        if response.created_at is not None:
            return response.created_at
        times = (response.first_output_at, response.playback_started_at, self._moments.named(response.response_id))
        return min((time for time in times if time is not None), default=response.done_at)

    def _superseded(self) -> dict[str, int]:
        """Tell until when at most those responses can have gone on whose end was not told.

        A conversation makes one response at a time: the next one says that the one before is over.
        """
        ends: dict[str, int] = {}
        waiting: list[str] = []
        within = [each for each in self._responses.values() if not each.out_of_band]
        for response in sorted(within, key=lambda each: (each.epoch, each.seq)):
            began = self._began(response)
            if began is None:
                continue
            ends.update(dict.fromkeys(waiting, began))
            waiting = [response.response_id] if response.done_at is None else []
        return ends


def excerpt(text: str) -> str:
    """Give the beginning of a text, in one line."""
    words = " ".join(text[: 4 * LONGEST_LABEL].split())
    return words if len(words) <= LONGEST_LABEL else f"{words[: LONGEST_LABEL - 1]}…"


def _until(subject: Subject, moments: Moments, decisions: list[DecisionRow], commands: list[CommandRow]) -> int:
    times = [subject.started_at, subject.ended_at or 0]
    times += [moments.last.at, moments.latest_at] if moments.last else []
    times += [decision.matched_at for decision in decisions]
    return max(times + [command.sent_at for command in commands])


def _decisions(rows: Iterable[DecisionRow]) -> Iterable[Mark]:
    for row in rows:
        yield Mark(
            id=f"decision:{row.epoch}:{row.seq}:{row.policy}",
            lane="decisions",
            kind="decision",
            at=row.matched_at or row.received_at,
            label=excerpt(row.trigger),
            position=f"{row.epoch}:{row.seq}",
            policy=row.policy,
            state=row.outcome,
            acted=row.acted,
            item_id=row.item_id,
            response_id=row.response_id,
        )


def _commands(rows: Iterable[CommandRow]) -> Iterable[Mark]:
    for row in rows:
        yield Mark(
            id=f"command:{row.epoch}:{row.seq}",
            lane="commands",
            kind="command",
            at=row.sent_at,
            label=excerpt(row.type),
            position=f"{row.epoch}:{row.seq}",
            policy=row.policy,
            state=row.state,
        )


def _between(stretch: Stretch) -> dict[str, Any]:
    until = stretch.until
    return {
        "from_at": stretch.begin.at,
        "to_at": stretch.until_at,
        "position": stretch.begin.position,
        "to_position": until.position if isinstance(until, Point) else None,
    }
