"""The page of calls: the filters of the API in a form, pages by key, and how many calls there were when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from aiohttp import web
from multidict import MultiMapping

from rtobserver.clock import Clock
from rtobserver.errors import StoreUnavailable
from rtobserver.store import calls, search, spread
from rtobserver.store.calls import Call
from rtobserver.store.database import Database
from rtobserver.store.search import Hit
from rtobserver.web import cursors
from rtobserver.web.api_calls import CallFilter, ListCalls
from rtobserver.web.pages import filters, wording
from rtobserver.web.pages.filters import Asked
from rtobserver.web.pages.rendering import Rendering
from rtobserver.web.pages.texts import pieces
from rtobserver.web.queries import Anything
from rtobserver.web.routes import Answer, Ask, Route

SUMS_DAYS = 30
"""How far sums reach back where no filter says otherwise."""
MOST_SLICES = 60

_MINUTE, _HOUR, _DAY = 60_000_000, 3_600_000_000, 86_400_000_000
_WIDTHS: Mapping[str, int] = {
    "minute": _MINUTE,
    "5 minutes": 5 * _MINUTE,
    "15 minutes": 15 * _MINUTE,
    "hour": _HOUR,
    "3 hours": 3 * _HOUR,
    "6 hours": 6 * _HOUR,
    "day": _DAY,
    "7 days": 7 * _DAY,
    "30 days": 30 * _DAY,
    "365 days": 365 * _DAY,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AskSums(CallFilter):
    """Ask for sums of calls that pass the page's filters."""


@dataclass(frozen=True, slots=True)
class Bar:
    """Be one slice of time in a drawing that is one high and as wide as there are slices."""

    at: int
    begins_at: int
    call_count: int
    cost_usd: Decimal
    calls_height: float
    cost_height: float
    unpriced_call_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """Be what the page says of all calls that pass its filters."""

    since: int
    until: int
    step: str
    slices: int
    bars: list[Bar]
    call_count: int
    cost_usd: Decimal
    unpriced_call_count: int


def routes(rendering: Rendering, database: Database, clock: Clock) -> list[Route[Any, Any]]:
    """Give the routes."""
    pages = _Pages(rendering, database, clock)
    answers = (Answer(description="The page.", media="text/html"),)
    return [
        Route(
            name="pages.calls",
            path="/calls",
            page=True,
            summary="Show calls, newest first.",
            query=Anything,
            answers=answers,
            answer=pages.calls,
        ),
        Route(
            name="pages.calls.sums",
            path="/calls/sums",
            page=True,
            summary="Show how many calls there were when, and what they cost.",
            query=AskSums,
            answers=answers,
            answer=pages.sums,
        ),
    ]


def tidied(values: MultiMapping[str], path: str) -> None:
    """Lead to the address without what a form sent needlessly.

    Raises:
        HTTPSeeOther: there was something.

    """
    if (meant := filters.tidy(values)) is not None:
        raise web.HTTPSeeOther(Asked(query=None, wrong={}, given=tuple(meant)).address(path))


def vocabulary() -> dict[str, Any]:
    """Give the words of the form of filters and of the rows."""
    return {"statuses": wording.STATUSES, "outcomes": wording.OUTCOMES, "completeness": wording.COMPLETENESS}


class _Pages:
    def __init__(self, rendering: Rendering, database: Database, clock: Clock) -> None:
        self._rendering = rendering
        self._database = database
        self._clock = clock

    async def calls(self, ask: Ask[Anything, None]) -> web.Response:
        values = ask.query.values
        tidied(values, "/calls")
        asked = filters.read(ListCalls, values, self._clock.now_us())
        await ask.record("&".join(sorted(set(values))))
        found: list[Call] = []
        hits: dict[int, Hit] = {}
        older: str | None = None
        if (query := asked.query) is not None:
            page: dict[str, Any] = {"before": query.cursor, "limit": query.limit}
            if query.q is None:
                found, behind = await calls.page(self._database, query.wanted(), **page)
            else:
                found, behind = await search.call_page(self._database, query.q, query.wanted(), **page)
                hits = await search.newest_hits(self._database, query.q, found)
            older = cursors.of_calls(behind)
        return self._rendering.page(
            ask,
            "calls.html",
            status=400 if asked.wrong else 200,
            asked=asked,
            calls=found,
            hits={key: list(pieces(hit.snippet)) for key, hit in hits.items()},
            places={key: hit.item.item_id for key, hit in hits.items()},
            older=older,
            **vocabulary(),
        )

    async def sums(self, ask: Ask[AskSums, None]) -> web.Response:
        await ask.record("&".join(sorted(set(ask.request.query))))
        try:
            found = await sums_of(self._database, ask.query.wanted(), self._clock.now_us())
        except StoreUnavailable:
            # the calls themselves are shown all the same
            found = None
        return self._rendering.fragment(ask, "calls_sums.html", sums=found)


async def sums_of(database: Database, wanted: calls.Filter, now_us: int) -> Sums | None:
    """Sum up calls by slices of the time that is asked for; None where that time is empty."""
    until = now_us if wanted.until is None else wanted.until
    since = max(0, until - SUMS_DAYS * _DAY) if wanted.since is None else wanted.since
    if since >= until:
        return None
    step = next((name for name, width in _WIDTHS.items() if (until - since) // width <= MOST_SLICES), "365 days")
    width = _WIDTHS[step]
    slices = await spread.spread(database, replace(wanted, since=since, until=until), width_us=width)
    most_calls = max((each.call_count for each in slices), default=1)
    most_cost = max((each.cost_usd for each in slices), default=Decimal(0)) or Decimal(1)
    first = since // width
    return Sums(
        since=since,
        until=until,
        step=step,
        slices=(until - 1) // width - first + 1,
        bars=[
            Bar(
                each.begins_at // width - first,
                each.begins_at,
                each.call_count,
                each.cost_usd,
                each.call_count / most_calls,
                float(each.cost_usd / most_cost),
                each.unpriced_call_count,
            )
            for each in slices
        ],
        call_count=sum(each.call_count for each in slices),
        cost_usd=sum((each.cost_usd for each in slices), Decimal(0)),
        unpriced_call_count=sum(each.unpriced_call_count for each in slices),
    )
