"""Answer for recorded calls: the list of them, one, its entries, gaps and commands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, TypeVar

from aiohttp import web

from rtobserver.clock import Clock
from rtobserver.store import calls, commands, entries, feed, gaps, search
from rtobserver.store.calls import Before
from rtobserver.store.database import Database
from rtobserver.store.phrases import Phrase
from rtobserver.store.positions import Position
from rtobserver.web import cursors, queries, shapes, verdicts
from rtobserver.web.entry_lists import LINES, send_lines, send_page, wants_lines
from rtobserver.web.parameters import LIMIT_DEFAULT
from rtobserver.web.queries import DURATION, GLOB, LIMIT, MOMENT, PLACE, TEXT, TEXTS, WORDS, Page, choice, choices
from rtobserver.web.routes import Answer, Ask, Route

MOST_GAPS = 10_000
"""Gaps of one call that its verdict is told from."""

R = TypeVar("R")
S = TypeVar("S")


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFilter:
    """Ask for calls of which all of this is true."""

    status: Annotated[str | None, choice(shapes.STATUSES), "Only calls of this status."] = None
    outcome: Annotated[str | None, choice(shapes.OUTCOMES), "Only calls that ended so."] = None
    profile: Annotated[str | None, TEXT, "Only calls of this profile."] = None
    model: Annotated[str | None, TEXT, "Only calls of this model."] = None
    user: Annotated[str | None, TEXT, "Only calls of this user."] = None
    label: Annotated[
        Mapping[str, str], queries.labels(calls.is_label), "`label.KEY=VALUE`: only calls with this label."
    ] = field(default_factory=dict)
    tag: Annotated[tuple[str, ...], TEXTS, "Only calls with this tag; repeated: with all of them."] = ()
    since: Annotated[
        int | None, MOMENT, "Only calls that began at this time or later: a time, a date, or a duration before now."
    ] = None
    until: Annotated[int | None, MOMENT, "Only calls that began before this time."] = None
    min_duration: Annotated[int | None, DURATION, "Only ended calls that lasted as long: seconds, or `30m`."] = None
    has: Annotated[tuple[calls.Has, ...], choices(calls.HAS), "Only calls with this; repeated: with all of it."] = ()
    policy: Annotated[str | None, TEXT, "Only calls in which this policy decided anything, acted or not."] = None

    def wanted(self) -> calls.Filter:
        """Say it to the store."""
        return calls.Filter(
            status=self.status,
            outcome=self.outcome,
            profile=self.profile,
            model=self.model,
            user=self.user,
            labels=self.label,
            tags=self.tag,
            since=self.since,
            until=self.until,
            min_duration_us=self.min_duration,
            has=self.has,
            policy=self.policy,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ListCalls(CallFilter):
    """Ask for a page of calls, newest first."""

    q: Annotated[tuple[Phrase, ...] | None, WORDS, "Only calls in whose transcript this is found; as in a search."] = (
        None
    )
    limit: Annotated[int, LIMIT, "How many calls a page may have."] = LIMIT_DEFAULT
    cursor: Annotated[
        Before | None, queries.cursor(cursors.to_calls), "`next_cursor` of the page before, as it came."
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListEntries(Page):
    """Ask for a call's entries."""

    type: Annotated[
        str | None, GLOB, "Only entries of this type; `*` stands for anything and `?` for one character."
    ] = None
    kind: Annotated[str | None, choice(tuple(shapes.KINDS)), "Only entries of this kind."] = None
    after: Annotated[Position | None, PLACE, "Only entries behind this position."] = None
    overlap: Annotated[
        str, choice(("include", "skip"), "skip"), "Whether to give what an old owner received after its successor."
    ] = "skip"


def routes(database: Database, streams: Database, clock: Clock) -> list[Route[Any, Any]]:
    """Give the routes, bound to what answers them; `streams` is read for answers without a limit."""
    api = _Api(database, streams, clock)
    return [
        Route(
            name="calls.list",
            path="/api/v1/calls",
            summary="List calls, newest first.",
            query=ListCalls,
            answers=(Answer(description="A page of calls.", body=shapes.Listed[shapes.Call]),),
            answer=api.calls,
        ),
        Route(
            name="calls.get",
            path="/api/v1/calls/{id}",
            summary="Give one call.",
            query=queries.Nothing,
            answers=(Answer(description="The call.", body=shapes.Call),),
            answer=api.call,
        ),
        Route(
            name="verdict.get",
            path="/api/v1/calls/{id}/verdict",
            summary="Say how whole the record of a call is, and why.",
            query=queries.Nothing,
            answers=(Answer(description="The verdict.", body=verdicts.Verdict),),
            answer=api.verdict,
        ),
        Route(
            name="entries.list",
            path="/api/v1/calls/{id}/entries",
            summary="List what was recorded of a call, in order.",
            description=f"With `Accept: {LINES}` all of it is streamed, as far as it was recorded at the request; "
            "`limit` bounds a stream only if it is given.",
            query=ListEntries,
            answers=(
                Answer(description="A page of entries.", body=shapes.Listed[shapes.Entry]),
                Answer(description="All entries, one per line.", media=LINES, body=shapes.Entry),
            ),
            answer=api.entries,
        ),
        Route(
            name="gaps.list",
            path="/api/v1/calls/{id}/gaps",
            summary="List what of a call was not received or not kept, and why.",
            query=Page,
            answers=(Answer(description="A page of gaps.", body=shapes.Listed[shapes.Gap]),),
            answer=api.gaps,
        ),
        Route(
            name="commands.list",
            path="/api/v1/calls/{id}/commands",
            summary="List the client events that rtobserver sent into a call, and what became of them.",
            query=Page,
            answers=(Answer(description="A page of commands.", body=shapes.Listed[shapes.Command]),),
            answer=api.commands,
        ),
    ]


def page_of(rows: Sequence[R], limit: int, shape: Callable[[R], S], place: Callable[[R], Position]) -> shapes.Listed[S]:
    """Make a page of a call's rows; one row more than `limit` says that there is a next page."""
    shown = rows[:limit]
    behind = place(shown[-1]) if len(rows) > limit else None
    return shapes.Listed([shape(row) for row in shown], cursors.of_positions(behind))


async def examined(database: Database, call: calls.Call) -> verdicts.Verdict:
    """Read what the record of a call was found to be.

    Raises:
        StoreUnavailable: the database cannot be read now.

    """
    found = await calls.checks(database, call)
    return verdicts.verdict(call, found, await gaps.page(database, call, limit=MOST_GAPS))


class _Api:
    def __init__(self, database: Database, streams: Database, clock: Clock) -> None:
        self._database = database
        self._streams = streams
        self._clock = clock

    async def calls(self, ask: Ask[ListCalls, None]) -> shapes.Listed[shapes.Call]:
        query = ask.query
        await ask.record("&".join(sorted(set(ask.request.query))))
        page: dict[str, Any] = {"before": query.cursor, "limit": query.limit}
        if query.q is None:
            found, behind = await calls.page(self._database, query.wanted(), **page)
        else:
            found, behind = await search.call_page(self._database, query.q, query.wanted(), **page)
        return shapes.Listed([shapes.call(row) for row in found], cursors.of_calls(behind))

    async def call(self, ask: Ask[queries.Nothing, None]) -> shapes.Call:
        return shapes.call(await ask.call())

    async def verdict(self, ask: Ask[queries.Nothing, None]) -> verdicts.Verdict:
        return await examined(self._database, await ask.call())

    async def entries(self, ask: Ask[ListEntries, None]) -> web.StreamResponse:
        query = ask.query
        lines = wants_lines(ask.request)
        call = await ask.call(action="entries.stream" if lines else None)
        wanted = entries.Filter(
            type=query.type,
            kind=None if query.kind is None else shapes.KINDS[query.kind],
            overlap=query.overlap == "include",
        )
        # whoever follows a list keeps the query of its first page, `after` included
        after = query.cursor or query.after
        if lines:
            # the limit of a page is no limit of a stream, unless somebody asked for it
            limit = query.limit if "limit" in ask.request.query else None
            # a call that goes on would have no end
            wanted = replace(wanted, until_number=(await feed.newest(self._database)).number)
            rows = entries.read(self._streams, call, wanted, after=after, limit=limit)
            return await send_lines(ask.request, rows, is_good=ask.is_good, clock=self._clock)
        async with aclosing(entries.read(self._database, call, wanted, after=after, limit=query.limit + 1)) as rows:
            return await send_page(ask.request, rows, query.limit)

    async def gaps(self, ask: Ask[Page, None]) -> shapes.Listed[shapes.Gap]:
        query = ask.query
        rows = await gaps.page(self._database, await ask.call(), after=query.cursor, limit=query.limit + 1)
        return page_of(rows, query.limit, shapes.gap, lambda row: row.position)

    async def commands(self, ask: Ask[Page, None]) -> shapes.Listed[shapes.Command]:
        query = ask.query
        rows = await commands.page(self._database, await ask.call(), after=query.cursor, limit=query.limit + 1)
        return page_of(rows, query.limit, shapes.command, lambda row: row.position)
