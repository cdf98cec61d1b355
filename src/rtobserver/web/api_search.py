"""Answer searches in what was said, and sums of calls by group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, get_args

from rtobserver.clock import Clock
from rtobserver.errors import RequestError
from rtobserver.store import search, stats
from rtobserver.store.database import Database
from rtobserver.store.phrases import Phrase
from rtobserver.store.stats import GroupBy
from rtobserver.web import conversation, cursors, queries, shapes
from rtobserver.web.api_calls import CallFilter
from rtobserver.web.parameters import LIMIT_DEFAULT
from rtobserver.web.queries import LIMIT, MOMENT, WORDS, choice
from rtobserver.web.routes import Answer, Ask, Route
from rtobserver.web.shapes import time

STATS_DAYS = 30
"""How far sums reach back where nobody says otherwise."""

_DAY_US = 86_400_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Search(CallFilter):
    """Ask for lines in which something is found."""

    q: Annotated[
        tuple[Phrase, ...],
        WORDS,
        'Words, all of which a line must have; `"a phrase"`; `begin*` for words that begin so.',
    ]
    limit: Annotated[int, LIMIT, "How many lines a page may have."] = LIMIT_DEFAULT
    cursor: Annotated[
        int | None, queries.cursor(cursors.to_number), "`next_cursor` of the page before, as it came."
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GetStats:
    """Ask for sums."""

    group_by: Annotated[str, choice(get_args(GroupBy), "day"), "What makes a group."] = "day"
    since: Annotated[
        int | None, MOMENT, f"Only calls that began at this time or later; {STATS_DAYS} days before `until` by default."
    ] = None
    until: Annotated[int | None, MOMENT, "Only calls that began before this time; now by default."] = None


def routes(database: Database, clock: Clock) -> list[Route[Any, Any]]:
    """Give the routes, bound to what answers them."""
    api = _Api(database, clock)
    return [
        Route(
            name="search",
            path="/api/v1/search",
            summary="Find final lines of conversations, newest call first.",
            description=(
                "Case and accents make no difference. Signs are no part of words, and no text is an operator. "
                "The filters of `/calls` can be combined with it."
            ),
            query=Search,
            answers=(Answer(description="A page of lines.", body=shapes.Listed[conversation.Hit]),),
            answer=api.search,
        ),
        Route(
            name="stats.get",
            path="/api/v1/stats",
            summary="Sum up calls by day, profile, model or policy.",
            description="By `policy` a call counts once for each policy that decided anything in it.",
            query=GetStats,
            answers=(Answer(description="The sums.", body=conversation.Stats),),
            answer=api.stats,
        ),
    ]


class _Api:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def search(self, ask: Ask[Search, None]) -> shapes.Listed[conversation.Hit]:
        query = ask.query
        await ask.record("&".join(sorted(set(ask.request.query))))
        hits, behind = await search.page(
            self._database, query.q, query.wanted(), before=query.cursor, limit=query.limit
        )
        return shapes.Listed([conversation.hit(hit) for hit in hits], cursors.of_number(behind))

    async def stats(self, ask: Ask[GetStats, None]) -> conversation.Stats:
        query = ask.query
        until = self._clock.now_us() if query.until is None else query.until
        since = max(0, until - STATS_DAYS * _DAY_US) if query.since is None else query.since
        if since >= until:
            raise RequestError(400, "invalid_parameter", "`since` must be before `until`.")
        await ask.record("&".join(sorted(set(ask.request.query))))
        by: GroupBy = query.group_by  # type: ignore[assignment]
        groups = await stats.groups(self._database, by, since=since, until=until)
        return conversation.Stats(by, time(since), time(until), [conversation.group(each) for each in groups])
