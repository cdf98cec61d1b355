"""Answer searches in what was said, and sums of calls by group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, cast, get_args

from rtobserver.clock import Clock
from rtobserver.errors import RequestError
from rtobserver.store import search, stats
from rtobserver.store.database import Database
from rtobserver.store.hits import HitPlace
from rtobserver.store.phrases import Phrase
from rtobserver.store.stats import MAX_GROUPS, GroupBy, Wanted
from rtobserver.web import conversation, cursors, queries, shapes
from rtobserver.web.api_calls import CallFilter
from rtobserver.web.parameters import LIMIT_DEFAULT
from rtobserver.web.queries import LIMIT, MOMENT, TEXT, WORDS, choice
from rtobserver.web.routes import Answer, Ask, Route
from rtobserver.web.shapes import time

STATS_DAYS = 30
"""How far sums reach back where nobody says otherwise."""

DAY_US, HOUR_US = 86_400_000_000, 3_600_000_000


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
        HitPlace | None, queries.cursor(cursors.to_hits), "`next_cursor` of the page before, as it came."
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GetStats:
    """Ask for sums."""

    group_by: Annotated[str, choice(get_args(GroupBy), "day"), "What makes a group."] = "day"
    since: Annotated[
        int | None, MOMENT, f"Only calls that began at this time or later; {STATS_DAYS} days before `until` by default."
    ] = None
    until: Annotated[int | None, MOMENT, "Only calls that began before this time; now by default."] = None
    profile: Annotated[str | None, TEXT, "Only calls of this profile."] = None
    model: Annotated[str | None, TEXT, "Only calls of this model."] = None

    def wanted(self, now_us: int) -> Wanted:
        """Say it to the store.

        Raises:
            RequestError: 400, no call can be wanted, or there would be too many groups.

        """
        until = now_us if self.until is None else self.until
        since = max(0, until - STATS_DAYS * DAY_US) if self.since is None else self.since
        if since >= until:
            raise RequestError(400, "invalid_parameter", "`since` must be before `until`.")
        if self.group_by == "hour" and until - since > (MAX_GROUPS - 1) * HOUR_US:
            raise RequestError(400, "invalid_parameter", f"By `hour`, {MAX_GROUPS - 1} hours can be asked for.")
        return Wanted(since=since, until=until, profile=self.profile, model=self.model)


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
            summary="Sum up calls: all of them, or by hour, day, profile, model or policy.",
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
        return shapes.Listed([conversation.hit(hit) for hit in hits], cursors.of_hits(behind))

    async def stats(self, ask: Ask[GetStats, None]) -> conversation.Stats:
        wanted = ask.query.wanted(self._clock.now_us())
        await ask.record("&".join(sorted(set(ask.request.query))))
        return await sums(self._database, cast("GroupBy", ask.query.group_by), wanted)


async def sums(database: Database, by: GroupBy, wanted: Wanted) -> conversation.Stats:
    """Give the sums of calls.

    Raises:
        StoreUnavailable: the database cannot be read now, or it takes too long.

    """
    groups = await stats.groups(database, by, wanted)
    return conversation.Stats(by, time(wanted.since), time(wanted.until), [conversation.group(each) for each in groups])
