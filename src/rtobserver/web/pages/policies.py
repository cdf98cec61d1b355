"""The pages of policies: the set in force, one policy, and the result of a replay."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import urlencode

from aiohttp import web

from rtobserver.clock import Clock
from rtobserver.policy import wording
from rtobserver.policy.active import Active
from rtobserver.policy.rules import Limit
from rtobserver.reloading import Reloading
from rtobserver.store.database import Database
from rtobserver.store.decided import Spot, Wanted
from rtobserver.web import api_decisions, api_policies, cursors, queries, shapes
from rtobserver.web.api_decisions import STEPS, CallDecision, DecisionCounts, Per
from rtobserver.web.api_policies import Policy, PolicyLimit
from rtobserver.web.pages.rendering import Rendering
from rtobserver.web.queries import TEXT, choice
from rtobserver.web.routes import Answer, Ask, Route

SHOWN = 50
"""Decisions on a page."""

RANGES: Mapping[str, tuple[str, Per, int]] = {
    "24h": ("24 hours", "hour", 24),
    "7d": ("7 days", "day", 7),
    "30d": ("30 days", "day", 30),
}
"""What a range is called, and how many hours or days it has: the one that goes on now is the last."""

_COLOURS: Mapping[str, str] = {
    "done": "good",
    "observed": "accent",
    "not_in_canary": "user",
    "no_response": "tool",
    "fault": "policy",
    "unknown": "warn",
    "failed": "bad",
    "": "edge",
}
"""By outcome; an outcome in a second mode takes one that is free."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AskPolicies:
    """Ask for the page of all policies, or of one."""

    policy: Annotated[str | None, TEXT, "The policy to show."] = None
    range_: Annotated[str, choice(tuple(RANGES), "24h"), "How far back decisions are counted."] = "24h"
    cursor: Annotated[Spot | None, queries.cursor(cursors.to_all_decisions), "Behind which decision to go on."] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """Be what is counted together over time: decisions of one mode and outcome."""

    key: str
    label: str
    colour: str
    values: Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """Be the decisions of a policy over time."""

    per: Per
    begins: Sequence[int]
    """Of its hours or days, in seconds since 1970."""
    names: Sequence[str]
    columns: Sequence[Column]


def routes(
    *, rendering: Rendering, database: Database, active: Active, reloading: Reloading, clock: Clock
) -> list[Route[Any, Any]]:
    """Give the routes."""

    async def policies(ask: Ask[AskPolicies, None]) -> web.Response:
        query, now = ask.query, clock.now_us()
        _, per, many = RANGES[query.range_]
        since = (now // STEPS[per] - many + 1) * STEPS[per]
        await ask.record(query.policy or "")
        found = await api_policies.in_force(database, active, reloading, since=since, now=now)
        listed = await api_decisions.page(
            database, Wanted(policy=query.policy or None), before=query.cursor, limit=SHOWN
        )
        values: dict[str, Any] = {
            "since": since,
            "set": found,
            "decisions": [_timed(each) for each in listed.data],
            "older": listed.next_cursor,
            "asked": _asked(query),
        }
        if not query.policy:
            return rendering.page(ask, "policies.html", **values)
        policy = next((each for each in found.policies if each.id == query.policy), None)
        counted = await api_decisions.counts(database, query.policy, per, since=since, until=now)
        is_known = policy is not None or bool(listed.data)
        return rendering.page(
            ask,
            "policy.html",
            status=200 if is_known else 404,
            name=query.policy,
            policy=policy,
            rule="" if policy is None else _rule(policy),
            limits="" if policy is None else _limits(policy.limit),
            course=_course(counted, since, now),
            **values,
        )

    async def replay(ask: Ask[queries.Nothing, None]) -> web.Response:
        await ask.record("")
        return rendering.page(ask, "policies_replay.html")

    page = (Answer(description="The page.", media="text/html"),)
    return [
        Route(
            name="pages.policies",
            path="/policies",
            page=True,
            summary="Show the policies in force, or one policy, and what was decided.",
            query=AskPolicies,
            answers=page,
            answer=policies,
        ),
        Route(
            name="pages.policies_replay",
            path="/policies/replay",
            page=True,
            summary="Open the result of a replay; the file stays in the browser.",
            query=queries.Nothing,
            answers=page,
            answer=replay,
        ),
    ]


def _timed(each: CallDecision) -> dict[str, Any]:
    """Give a decision, and how long after its trigger each step came, in milliseconds."""
    received = _milliseconds(each.received_at)
    steps = [
        (word, at, None if at is None else _milliseconds(at) - received)
        for word, at in (("matched", each.matched_at), ("sent", each.sent_at), ("acknowledged", each.acknowledged_at))
    ]
    return {"told": each, "steps": steps}


def _milliseconds(time: str) -> float:
    return datetime.fromisoformat(time).timestamp() * 1000


def _course(counted: DecisionCounts, since: int, until: int) -> Course:
    step = STEPS[counted.per]
    begins = [shapes.time(at) for at in range(since, until, step)]
    found: dict[tuple[str, str], dict[str, int]] = {}
    for each in counted.data:
        found.setdefault((each.outcome or "", each.mode), {})[each.begins_at] = each.decisions
    columns: list[Column] = []
    for place, ((outcome, mode), many) in enumerate(sorted(found.items())):
        columns.append(
            Column(
                key=f"c{place}",
                label=f"{outcome or 'not known yet'} ({mode})",
                colour=_colour(outcome, {column.colour for column in columns}),
                values=[many.get(at, 0) for at in begins],
            )
        )
    return Course(
        per=counted.per,
        begins=[at // 1_000_000 for at in range(since, until, step)],
        names=[at[:10] if counted.per == "day" else at[:16].replace("T", " ") for at in begins],
        columns=columns,
    )


def _colour(outcome: str, taken: set[str]) -> str:
    own = _COLOURS[outcome]
    return own if own not in taken else next((each for each in _COLOURS.values() if each not in taken), own)


def _rule(policy: Policy) -> str:
    written = {**policy.rule.trigger, **({} if policy.when is None else {"when": policy.when}), "do": policy.rule.do}
    return json.dumps(written, ensure_ascii=False, indent=2)


def _limits(limit: PolicyLimit) -> str:
    return wording.limits(
        Limit(
            per_call=limit.per_call,
            cooldown=limit.cooldown_seconds,
            consecutive=limit.consecutive,
            per_minute=limit.per_minute,
        )
    )


def _asked(query: AskPolicies) -> dict[str, Any]:
    given = {"policy": query.policy or "", "range": query.range_}

    def address(**other: str) -> str:
        return "/policies?" + urlencode({name: value for name, value in {**given, **other}.items() if value})

    return {
        "range": query.range_,
        "ranges": [(name, words) for name, (words, _, _) in RANGES.items()],
        "words": RANGES[query.range_][0],
        "is_paged": query.cursor is not None,
        "address": address,
    }
