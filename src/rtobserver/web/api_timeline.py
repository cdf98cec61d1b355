"""Answer for a call over time: its spans, marks and turns, drawn from what was recorded.

Entries are read without those that tell nothing to a timeline (most are deltas), and chunk by
chunk, so that a long call keeps nobody waiting; then come the rows, which are never older.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

from rtobserver.realtime.entries import CommandRow, GapRow
from rtobserver.realtime.moments import TYPES, Moments
from rtobserver.realtime.timeline import Drawing, Subject, draw
from rtobserver.store import commands, decisions, entries, folds, gaps
from rtobserver.store.calls import Call
from rtobserver.store.database import Database
from rtobserver.store.tables import KIND_EVENT
from rtobserver.web import timeline_shapes
from rtobserver.web.api_conversations import apart
from rtobserver.web.queries import Nothing
from rtobserver.web.routes import Answer, Ask, Route

MOST_ROWS = 100_000
"""Commands and gaps of a call that are drawn, and more than any call has."""

_WANTED = entries.Filter(types=TYPES, kind=KIND_EVENT)
_COMMAND, _GAP = (row.__struct_fields__[2:] for row in (CommandRow, GapRow))
"""Fields but for the position."""
_GOING_ON = ("connecting", "live")


def routes(database: Database) -> list[Route[Any, Any]]:
    """Give the routes, bound to what answers them."""

    async def answer(ask: Ask[Nothing, None]) -> timeline_shapes.Timeline:
        call = await ask.call()
        return timeline_shapes.timeline(call, await drawing(database, call))

    return [
        Route(
            name="timeline.get",
            path="/api/v1/calls/{id}/timeline",
            summary="Give a call over time: speech, generation, playback, tools, gaps, and what happened at once.",
            description=(
                "Times are milliseconds from `started_at`, by the wall clock of each entry. Ids stay the same while "
                "the call grows. Of a call whose recording retention took away, only what is kept is given."
            ),
            query=Nothing,
            answers=(Answer(description="The timeline.", body=timeline_shapes.Timeline),),
            answer=answer,
        )
    ]


async def drawing(database: Database, call: Call) -> Drawing:
    """Draw a call from the store.

    Raises:
        StoreUnavailable: the database cannot be read now.

    """
    moments = Moments()
    first, last = await entries.ends(database, call) or (None, None)
    if first is not None and last is not None:
        moments.reach(first.at, *first.position)
        async with aclosing(entries.read(database, call, _WANTED)) as rows:
            async for row in rows:
                if row.position > last.position:
                    # what was recorded meanwhile is the next drawing's
                    break
                moments.take(row.type, row.payload, row.at, row.epoch, row.seq)
        moments.reach(last.at, *last.position)
    purged = call.purged_at is not None
    # the figures of its responses are kept, but nothing of what they were about
    items = [] if purged else await folds.items(database, call)
    responses = [] if purged else await folds.responses(database, call)
    decided = await decisions.rows(database, call)
    sent = [_command(row) for row in await commands.page(database, call, limit=MOST_ROWS) if row.sent_at is not None]
    lost = [_gap(row) for row in await gaps.page(database, call, limit=MOST_ROWS)]
    subject = Subject(
        started_at=call.started_at,
        ended_at=call.ended_at,
        is_live=call.status in _GOING_ON,
        status=call.status,
        outcome=call.outcome,
    )
    return await apart(
        len(items) + len(responses) + len(moments.speech) + len(decided),
        lambda: draw(subject, moments, items=items, responses=responses, decisions=decided, commands=sent, gaps=lost),
    )


def _command(row: commands.Command) -> CommandRow:
    values: dict[str, Any] = {name: getattr(row, name) for name in _COMMAND}
    return CommandRow(*row.position, **values)


def _gap(row: gaps.Gap) -> GapRow:
    values: dict[str, Any] = {name: getattr(row, name) for name in _GAP}
    return GapRow(*row.position, **values)
