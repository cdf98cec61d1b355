"""The page of sums: calls, minutes, cost, latencies, interruptions and errors, by time, profile and model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from aiohttp import web

from rtobserver.clock import Clock
from rtobserver.store.database import Database
from rtobserver.store.stats import MAX_GROUPS, GroupBy, Wanted
from rtobserver.web import conversation, shapes
from rtobserver.web.api_search import DAY_US, HOUR_US, sums
from rtobserver.web.pages.rendering import Rendering
from rtobserver.web.parameters import TEXT_CAP, Parameters
from rtobserver.web.queries import TEXT, Form, choice
from rtobserver.web.routes import Answer, Ask, Route

RANGES: Mapping[str, tuple[str, int, int]] = {
    "24h": ("24 hours", HOUR_US, 24),
    "7d": ("7 days", DAY_US, 7),
    "30d": ("30 days", DAY_US, 30),
}
"""What a range is called, its unit, and how many of these it has: the one that goes on now is the last."""
BY_HOURS_US = 3 * DAY_US
"""Longest range that is shown by hours."""

Good = Literal["good", "bad", ""]


def _moment_or_nothing(query: Parameters, name: str, now_us: int) -> int | None:
    # a field that was left empty is sent all the same
    return None if query.text(name) == "" else query.moment(name, now_us)


MOMENT_OR_NOTHING = Form(take=_moment_or_nothing, schema={"type": "string", "maxLength": TEXT_CAP})


@dataclass(frozen=True, slots=True, kw_only=True)
class AskStatistics:
    """Ask for the page."""

    range_: Annotated[str, choice(tuple(RANGES), "7d"), "How far back, up to now."] = "7d"
    since: Annotated[int | None, MOMENT_OR_NOTHING, "Calls that began then or later; instead of a range."] = None
    until: Annotated[int | None, MOMENT_OR_NOTHING, "Calls that began before then; instead of a range."] = None
    profile: Annotated[str | None, TEXT, "Only calls of this profile."] = None
    model: Annotated[str | None, TEXT, "Only calls of this model."] = None

    @property
    def is_own(self) -> bool:
        """Whether a range of one's own is asked for."""
        return self.since is not None or self.until is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """Be the time that is summed up."""

    wanted: Wanted
    step: int
    """Microseconds of an hour, or of a day."""

    @property
    def before(self) -> Wanted:
        """Give as much time before it."""
        since, until = self.wanted.since, self.wanted.until
        return replace(self.wanted, since=max(0, 2 * since - until), until=since)

    def begins(self) -> Iterator[int]:
        """Give when each of its hours or days begins; it may begin and end within one."""
        first = self.wanted.since // self.step * self.step
        yield from range(first, self.wanted.until, self.step)


def period(query: AskStatistics, now: int) -> Period | str:
    """Read which time is asked for; gives words where it cannot be summed up."""
    if query.is_own:
        until = now if query.until is None else query.until
        since = max(0, until - 7 * DAY_US) if query.since is None else query.since
        if since >= until:
            return "The time ends before it begins."
        if until - since > (MAX_GROUPS - 1) * DAY_US:
            return f"That is too long: at most {MAX_GROUPS - 1} days are summed up here."
        step = HOUR_US if until - since <= BY_HOURS_US else DAY_US
    else:
        _, step, many = RANGES[query.range_]
        until, since = now, (now // step - many + 1) * step
    wanted = Wanted(since=since, until=until, profile=query.profile or None, model=query.model or None)
    return Period(wanted=wanted, step=step)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Be an hour or a day of the page's table."""

    at: int
    """When it begins, in seconds since 1970."""
    name: str
    sums: conversation.Group | None
    """None where no call began in it."""
    calls: str
    """The address of the list of its calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """Be one of the figures above the charts."""

    name: str
    value: Decimal | None
    before: Decimal | None
    form: Literal["count", "money", "ms"]
    more_is: Good = ""
    note: str = ""

    @property
    def change(self) -> Decimal | None:
        """Say how much more it is, as a share of what it was before; None where that cannot be said."""
        if self.value is None or not self.before:
            return None
        return (self.value - self.before) / self.before

    @property
    def sense(self) -> Good:
        """Say whether the change is for the better."""
        change = self.change
        if not change or not self.more_is:
            return ""
        return self.more_is if change > 0 else "good" if self.more_is == "bad" else "bad"


def routes(rendering: Rendering, database: Database, clock: Clock) -> list[Route[Any, Any]]:
    """Give the route."""

    async def answer(ask: Ask[AskStatistics, None]) -> web.Response:
        query = ask.query
        asked = period(query, clock.now_us())
        await ask.record("&".join(sorted(set(ask.request.query))))
        if isinstance(asked, str):
            return rendering.page(ask, "statistics.html", status=400, asked=_asked(query), wrong=asked)
        return rendering.page(ask, "statistics.html", asked=_asked(query), wrong="", **await _read(database, asked))

    return [
        Route(
            name="pages.statistics",
            path="/stats",
            page=True,
            summary="Show sums of calls.",
            query=AskStatistics,
            answers=(Answer(description="The page.", media="text/html"),),
            answer=answer,
        )
    ]


async def _read(database: Database, asked: Period) -> dict[str, Any]:
    wanted = asked.wanted
    by: GroupBy = "hour" if asked.step == HOUR_US else "day"
    all_ = (await sums(database, "all", wanted)).data
    before = (await sums(database, "all", asked.before)).data
    found: dict[str, Any] = {
        "by": by,
        "since": wanted.since,
        "until": wanted.until,
        "before": asked.before,
        "total": all_[0] if all_ else None,
        "cards": _cards(all_[0], before[0] if before else None) if all_ else [],
        "rows": [],
        "groups": [],
    }
    if all_:
        found["rows"] = _rows(asked, (await sums(database, by, wanted)).data)
        found["groups"] = [
            ("profile", (await sums(database, "profile", wanted)).data),
            ("model", (await sums(database, "model", wanted)).data),
        ]
    return found


def _rows(asked: Period, groups: list[conversation.Group]) -> list[Row]:
    by_name = {each.group: each for each in groups}
    filters = {"profile": asked.wanted.profile, "model": asked.wanted.model}
    rows = []
    for begins in asked.begins():
        text = shapes.time(begins)
        # as the groups are called: a day is a date, an hour a time without its fraction
        name = text[:10] if asked.step == DAY_US else f"{text[:19]}Z"
        since, until = max(begins, asked.wanted.since), min(begins + asked.step, asked.wanted.until)
        those = {"since": shapes.time(since), "until": shapes.time(until), **filters}
        calls = "/calls?" + urlencode({key: value for key, value in those.items() if value})
        rows.append(Row(at=begins // 1_000_000, name=name, sums=by_name.get(name), calls=calls))
    return rows


def _cards(now: conversation.Group, before: conversation.Group | None) -> list[Card]:
    was = before or _NOTHING
    unpriced = now.unpriced_call_count
    latency, older = now.latency, was.latency
    return [
        Card(name="Calls", value=_whole(now.call_count), before=_whole(was.call_count), form="count"),
        Card(name="Minutes", value=_whole(round(now.minutes)), before=_whole(round(was.minutes)), form="count"),
        Card(
            name="Cost",
            value=_exact(now.cost_usd),
            before=_exact(was.cost_usd),
            form="money",
            note=f"without {unpriced:,} of unknown cost" if unpriced else "",
        ),
        Card(
            name="First audio, median",
            value=_whole(latency.first_audio_ms.p50),
            before=_whole(older.first_audio_ms.p50),
            form="ms",
            more_is="bad",
        ),
        Card(
            name="First audio, p95",
            value=_whole(latency.first_audio_ms.p95),
            before=_whole(older.first_audio_ms.p95),
            form="ms",
            more_is="bad",
        ),
        Card(
            name="Generation, median",
            value=_whole(latency.generation_ms.p50),
            before=_whole(older.generation_ms.p50),
            form="ms",
            more_is="bad",
        ),
        Card(
            name="Interruptions",
            value=_whole(now.interruption_count),
            before=_whole(was.interruption_count),
            form="count",
            note=f"in {now.turn_count:,} turns",
        ),
        Card(
            name="Errors",
            value=_whole(now.error_count),
            before=_whole(was.error_count),
            form="count",
            more_is="bad",
        ),
    ]


_NOTHING = conversation.Group(
    group="all",
    call_count=0,
    minutes=0.0,
    turn_count=0,
    interruption_count=0,
    error_count=0,
    usage=conversation.GroupTokens(0, 0, 0, 0),
    cost_usd=None,
    unpriced_call_count=0,
    latency=shapes.Latency(),
)


def _whole(number: int | None) -> Decimal | None:
    return None if number is None else Decimal(number)


def _exact(amount: str | None) -> Decimal | None:
    return None if amount is None else Decimal(amount)


def _asked(query: AskStatistics) -> dict[str, Any]:
    """Say what was asked for, and how the same is asked with something else."""
    filters = {"profile": query.profile or "", "model": query.model or ""}
    own = {"since": _date(query.since), "until": _date(query.until)} if query.is_own else {}
    kept = own or {"range": query.range_}

    def address(**other: str) -> str:
        given = {**(kept if not {"range"} & other.keys() else {}), **filters, **other}
        return "/stats?" + urlencode({name: value for name, value in given.items() if value})

    return {
        **filters,
        "since": own.get("since", ""),
        "until": own.get("until", ""),
        "is_own": query.is_own,
        "range": "" if query.is_own else query.range_,
        "ranges": [(name, words) for name, (words, _, _) in RANGES.items()],
        "address": address,
    }


def _date(at: int | None) -> str:
    if at is None:
        return ""
    text = shapes.time(at)
    # a day as the field for days has it; what is finer is kept as it is
    return text[:10] if text[10:] == "T00:00:00.000000Z" else text
