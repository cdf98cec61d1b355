"""Answer for the policies: which are in force, what each did, what came of the last reload."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from rtobserver.clock import Clock
from rtobserver.errors import Mistake
from rtobserver.policy import wording, written_out
from rtobserver.policy.active import Active, Standing
from rtobserver.policy.rules import ACTION_NAMES, TRIGGER_NAMES, Limit
from rtobserver.reloading import Reload, Reloading
from rtobserver.store.database import Database
from rtobserver.store.tallies import FAULTS, Fault, Last, Tally, tallies
from rtobserver.web import shapes
from rtobserver.web.queries import MOMENT
from rtobserver.web.routes import Answer, Ask, Route

_DAY_US = 86_400_000_000

Mode = Literal["observe", "canary", "enforce"]


class PolicyLimit(Struct, frozen=True):
    """Say how often a policy may act."""

    per_call: Annotated[int, Meta(description="0 is no limit.")]
    cooldown_seconds: Annotated[float, Meta(description="In which it does not act again in the same call.")]
    consecutive: Annotated[int, Meta(description="Turns in a row that must match until it acts.")]
    per_minute: Annotated[int, Meta(description="Over all calls; past it the policy only observes.")]


class Rule(Struct, frozen=True):
    """Be what a policy waits for and does, as the file has it: lists filled in, durations in seconds."""

    trigger: dict[str, Any]
    do: list[dict[str, Any]]


class PolicyCounts(Struct, frozen=True):
    """Count the decisions of a policy that are stored."""

    decisions: int
    acted: int
    would_have_acted: Annotated[int, Meta(description="Decisions in observe mode, or outside the canary.")]
    faults: Annotated[int, Meta(description="Decisions that could not be taken or filled in.")]


class LastDecision(Struct, frozen=True):
    """Say where a policy decided last."""

    call_id: str
    position: shapes.Place


class PolicyFault(Struct, frozen=True):
    """Be one fault of a policy."""

    call_id: str
    position: shapes.Place
    at: shapes.Time
    detail: Annotated[str | None, Meta(description="What was wrong; null where it went with the recording.")]


class Policy(Struct, frozen=True):
    """Be one policy that is in force."""

    id: str
    mode: Annotated[Mode, Meta(description="As configured; while `demoted_at` is set it only observes.")]
    canary_percent: Annotated[int | None, Meta(description="Null unless the mode is `canary`.")]
    demoted_at: Annotated[
        shapes.Time | None, Meta(description="When it went past its `per_minute`; a reload takes that back.")
    ]
    profiles: Annotated[list[str], Meta(description="Empty: all of them.")]
    trigger: str
    waits_for: Annotated[str, Meta(description="The trigger in a few words; a long list is cut.")]
    when: Annotated[str | None, Meta(description="The condition, as written.")]
    limit: PolicyLimit
    actions: list[str]
    rule: Annotated[Rule, Meta(description="The whole of trigger and actions, without what is secret in it.")]
    last_minute: Annotated[
        int, Meta(description="Decisions of the last minute that count against `per_minute`; 0 where that is 0.")
    ]
    counts: Annotated[PolicyCounts, Meta(description="Of the time that was asked for.")]
    matched: Annotated[int, Meta(description="Times that trigger and condition were true in this run of the daemon.")]
    limited: Annotated[int, Meta(description="Of those, how often a limit or the loop breaker kept it from deciding.")]
    last_decision_at: shapes.Time | None
    last_decision: Annotated[
        LastDecision | None, Meta(description="Where that was; null where there is none, and once its call was erased.")
    ]
    last_faults: Annotated[
        list[PolicyFault], Meta(description=f"Of the time that was asked for, newest first, at most {FAULTS}.")
    ]


class ReloadMistake(Struct, frozen=True):
    """Be one mistake of a configuration."""

    file: str
    path: Annotated[str, Meta(description="The key's path; empty for the file as a whole.")]
    problem: str
    help: str


class LastReload(Struct, frozen=True):
    """Say what came of reading the configuration again."""

    at: shapes.Time
    ok: Annotated[bool, Meta(description="False where there were mistakes and the set in force stayed.")]
    mistakes: list[ReloadMistake]


class PolicySet(Struct, frozen=True):
    """Be the set of policies that is in force."""

    policy_set: Annotated[str, Meta(description="The set's hash, which its decisions carry.")]
    files: Annotated[
        list[str], Meta(description="What it was read from, the main file first; seen from its folder where they can.")
    ]
    loaded_at: shapes.Time
    last_reload: Annotated[LastReload | None, Meta(description="Null where there was none in this run of the daemon.")]
    since: Annotated[shapes.Time, Meta(description="From when on decisions are counted.")]
    policies: Annotated[list[Policy], Meta(description="In the order of the files, in which they run.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class AskPolicies:
    """Ask which policies are in force."""

    since: Annotated[int | None, MOMENT, "Count decisions from this time on; by default of the last day."] = None


def routes(*, database: Database, active: Active, reloading: Reloading, clock: Clock) -> list[Route[Any, Any]]:
    """Give the routes, bound to what answers them."""

    async def policies(ask: Ask[AskPolicies, None]) -> PolicySet:
        await ask.record("")
        since = clock.now_us() - _DAY_US if ask.query.since is None else ask.query.since
        return await in_force(database, active, reloading, since=since, now=clock.now_us())

    return [
        Route(
            name="policies.get",
            path="/api/v1/policies",
            summary="Give the set of policies in force, with counts and faults, and what came of the last reload.",
            query=AskPolicies,
            answers=(Answer(description="The set.", body=PolicySet),),
            answer=policies,
        ),
    ]


async def in_force(database: Database, active: Active, reloading: Reloading, *, since: int, now: int) -> PolicySet:
    """Give the set in force, with what its policies decided since a time.

    Raises:
        StoreUnavailable: the database cannot be read now, or it takes too long.

    """
    # a reload may come while the counts are read: what is told belongs to one set
    standings, hash_, loaded_at = active.standings(), active.policies.hash, reloading.loaded_at
    rates = {each.policy.id: active.rate(each.policy, now) for each in standings}
    files, last = reloading.settings.files, reloading.last
    found = await tallies(database, [each.policy.id for each in standings], since=since)
    return PolicySet(
        policy_set=hash_,
        files=[_seen_from(files[0].parent, file) for file in files],
        loaded_at=shapes.time(loaded_at),
        last_reload=None if last is None else _reload(last),
        since=shapes.time(since),
        policies=[_policy(each, found[each.policy.id], rates[each.policy.id]) for each in standings],
    )


def _seen_from(folder: Path, file: Path) -> str:
    return str(file.relative_to(folder)) if file.is_relative_to(folder) else str(file)


def _policy(standing: Standing, tally: Tally, rate: int) -> Policy:
    policy = standing.policy
    return Policy(
        id=policy.id,
        mode=policy.mode,
        canary_percent=policy.canary_percent if policy.mode == "canary" else None,
        demoted_at=shapes.time_or_none(standing.demoted_at),
        profiles=list(policy.profiles or ()),
        trigger=TRIGGER_NAMES[type(policy.trigger)],
        waits_for=wording.awaited(policy.trigger),
        when=policy.when,
        limit=_limit(policy.limit),
        actions=[ACTION_NAMES[type(action)] for action in policy.actions],
        rule=Rule(trigger=written_out.trigger(policy), do=written_out.actions(policy)),
        last_minute=rate,
        counts=PolicyCounts(
            decisions=tally.decisions, acted=tally.acted, would_have_acted=tally.would_have_acted, faults=tally.faults
        ),
        matched=standing.matched,
        limited=standing.limited,
        last_decision_at=None if tally.last is None else shapes.time(tally.last.at),
        last_decision=_last(tally.last),
        last_faults=[_fault(fault) for fault in tally.last_faults],
    )


def _limit(limit: Limit) -> PolicyLimit:
    return PolicyLimit(
        per_call=limit.per_call,
        cooldown_seconds=limit.cooldown,
        consecutive=limit.consecutive,
        per_minute=limit.per_minute,
    )


def _last(last: Last | None) -> LastDecision | None:
    if last is None or last.call_id is None:
        return None
    return LastDecision(call_id=last.call_id, position=str(last.position))


def _fault(fault: Fault) -> PolicyFault:
    return PolicyFault(
        call_id=fault.call_id, position=str(fault.position), at=shapes.time(fault.at), detail=fault.detail
    )


def _reload(reload: Reload) -> LastReload:
    return LastReload(
        at=shapes.time(reload.at), ok=not reload.mistakes, mistakes=[_mistake(each) for each in reload.mistakes]
    )


def _mistake(mistake: Mistake) -> ReloadMistake:
    return ReloadMistake(file=mistake.file, path=mistake.path, problem=mistake.problem, help=mistake.help)
