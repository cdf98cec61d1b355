"""Answer for what policies decided over all calls: the newest decisions, and how many there were when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from rtobserver.clock import Clock
from rtobserver.errors import RequestError
from rtobserver.store import decided
from rtobserver.store.database import Database
from rtobserver.store.decided import Spot, Told, Wanted
from rtobserver.web import conversation, cursors, queries, shapes
from rtobserver.web.parameters import LIMIT_DEFAULT
from rtobserver.web.queries import LIMIT, MOMENT, TEXT, choice
from rtobserver.web.routes import Answer, Ask, Route

MAX_STRETCHES = 1000
"""Stretches of time in which decisions are counted at once."""

Per = Literal["hour", "day"]
STEPS: dict[Per, int] = {"hour": 3_600_000_000, "day": 86_400_000_000}
"""Microseconds."""
_COUNT_DAYS = 7


class CallDecision(conversation.Decision, frozen=True):
    """Be one policy's verdict on one entry of a call."""

    call_id: str


class DecisionCount(Struct, frozen=True):
    """Say how often a policy decided alike in a stretch of time."""

    begins_at: Annotated[shapes.Time, Meta(description="When the hour or day (UTC) begins.")]
    mode: Annotated[str, Meta(extra_json_schema={"enum": list(conversation.MODES)})]
    outcome: Annotated[str, Meta(extra_json_schema={"enum": list(conversation.DECISION_OUTCOMES)})] | None
    decisions: int


class DecisionCounts(Struct, frozen=True):
    """Be the counts of one policy, earliest first; stretches without a decision are left out."""

    policy: str
    per: Per
    since: shapes.Time
    until: shapes.Time
    data: list[DecisionCount]
    next_cursor: Annotated[None, Meta(description="Always null: counts are not paged.")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListAllDecisions:
    """Ask for a page of the decisions of all calls."""

    policy: Annotated[str | None, TEXT, "Only decisions of this policy."] = None
    mode: Annotated[str | None, choice(conversation.MODES), "Only decisions in this mode."] = None
    outcome: Annotated[str | None, choice(conversation.DECISION_OUTCOMES), "Only decisions of this outcome."] = None
    since: Annotated[int | None, MOMENT, "Only decisions whose trigger came at this time or later."] = None
    until: Annotated[int | None, MOMENT, "Only decisions whose trigger came before this time."] = None
    limit: Annotated[int, LIMIT, "How many decisions a page may have."] = LIMIT_DEFAULT
    cursor: Annotated[
        Spot | None, queries.cursor(cursors.to_all_decisions), "`next_cursor` of the page before, as it came."
    ] = None

    def wanted(self) -> Wanted:
        """Say it to the store."""
        return Wanted(policy=self.policy, mode=self.mode, outcome=self.outcome, since=self.since, until=self.until)


@dataclass(frozen=True, slots=True, kw_only=True)
class CountDecisions:
    """Ask how often a policy decided."""

    policy: Annotated[str, TEXT, "Whose decisions are counted."]
    per: Annotated[Literal["hour", "day"], choice(tuple(STEPS), "day"), "How long a stretch of time is."] = "day"
    since: Annotated[
        int | None, MOMENT, f"Decisions of this time or later; {_COUNT_DAYS} days before `until` by default."
    ] = None
    until: Annotated[int | None, MOMENT, "Decisions before this time; now by default."] = None


def routes(*, database: Database, clock: Clock) -> list[Route[Any, Any]]:
    """Give the routes, bound to what answers them."""

    async def newest(ask: Ask[ListAllDecisions, None]) -> shapes.Listed[CallDecision]:
        await ask.record("&".join(sorted(set(ask.request.query))))
        return await page(database, ask.query.wanted(), before=ask.query.cursor, limit=ask.query.limit)

    async def counted(ask: Ask[CountDecisions, None]) -> DecisionCounts:
        query = ask.query
        until = clock.now_us() if query.until is None else query.until
        since = max(0, until - _COUNT_DAYS * STEPS["day"]) if query.since is None else query.since
        if since >= until:
            raise RequestError(400, "invalid_parameter", "`since` must be before `until`.")
        if until - since > (MAX_STRETCHES - 1) * STEPS[query.per]:
            raise RequestError(400, "invalid_parameter", f"{MAX_STRETCHES - 1} stretches of time can be asked for.")
        await ask.record(query.policy)
        return await counts(database, query.policy, query.per, since=since, until=until)

    return [
        Route(
            name="decisions.newest",
            path="/api/v1/decisions",
            summary="List what policies decided in all calls, newest first.",
            description="Decisions of policies that are no longer in force are among them.",
            query=ListAllDecisions,
            answers=(Answer(description="A page of decisions.", body=shapes.Listed[CallDecision]),),
            answer=newest,
        ),
        Route(
            name="decisions.count",
            path="/api/v1/decisions/counts",
            summary="Count a policy's decisions by hour or day, mode and outcome.",
            query=CountDecisions,
            answers=(Answer(description="The counts.", body=DecisionCounts),),
            answer=counted,
        ),
    ]


async def page(
    database: Database, wanted: Wanted, *, before: Spot | None = None, limit: int
) -> shapes.Listed[CallDecision]:
    """Give a page of the decisions of all calls.

    Raises:
        StoreUnavailable: the database cannot be read now, or it takes too long.

    """
    rows = await decided.newest(database, wanted, before=before, limit=limit + 1)
    more = rows[limit - 1].spot if len(rows) > limit else None
    return shapes.Listed([_told(row) for row in rows[:limit]], cursors.of_all_decisions(more))


async def counts(database: Database, policy: str, per: Per, *, since: int, until: int) -> DecisionCounts:
    """Give how often a policy decided in a range of time.

    Raises:
        StoreUnavailable: the database cannot be read now, or it takes too long.

    """
    found = await decided.counts(database, policy, since=since, until=until, step=STEPS[per])
    return DecisionCounts(
        policy=policy,
        per=per,
        since=shapes.time(since),
        until=shapes.time(until),
        data=[
            DecisionCount(
                begins_at=shapes.time(each.begins), mode=each.mode, outcome=each.outcome, decisions=each.decisions
            )
            for each in found
        ],
    )


def _told(row: Told) -> CallDecision:
    return CallDecision(**msgspec.structs.asdict(conversation.decision(row.decision)), call_id=row.call_id)
