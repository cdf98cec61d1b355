"""Replay policies over the calls of a store, one after another, and compare what is decided.

The database is only read, so a daemon may run on it. Entries are streamed: what is held of a call is its
folded state and its decisions.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from rtobserver.clock import SystemClock
from rtobserver.config.sections import Config
from rtobserver.errors import StoreError
from rtobserver.policy import rules
from rtobserver.policy.active import Active
from rtobserver.policy.difference import Change, Decided, Place, Tallies, compare
from rtobserver.policy.explanation import Explainer, Explanation, NoSuchEntry
from rtobserver.policy.replay import Replay, Watched, decided, uncapped
from rtobserver.policy.view import Subject
from rtobserver.realtime.cost import Prices
from rtobserver.settings import Settings, new_state, prices_for
from rtobserver.storage import reading
from rtobserver.store import calls, commands, decisions, entries, minted, schema, unfinished
from rtobserver.store.calls import Before, Call, Filter
from rtobserver.store.database import Database
from rtobserver.store.decisions import Decision
from rtobserver.store.places import Place as Where
from rtobserver.terminal.running import progress

PAGE = 200
"""Calls, decisions or commands that are read at a time."""
STEP = 500
"""Entries between two movements of the progress bar."""

Why = Literal["live", "purged", "erased", "empty"]

TIMED = frozenset(
    rules.TRIGGER_NAMES[each] for each in (rules.After, rules.Idle, rules.DeadAir, rules.UnansweredTool, rules.Absent)
)
"""Triggers that are true because time passed."""

WORDS: dict[Why, str] = {
    "live": "it is still going on",
    "purged": "its entries were purged",
    "erased": "it was erased",
    "empty": "nothing was recorded of it",
}
"""Why a call cannot be replayed."""


class NotReplayable(StoreError):
    """Report that a call cannot be replayed."""


class Rehearsal:
    """Replay many calls, and count what is decided differently."""

    def __init__(self, new: Side, old: Side | None) -> None:
        self.new, self.old = new, old
        self.tallies = Tallies()
        self.skipped: Counter[Why] = Counter()
        """Calls that could not be replayed."""
        self.calls = self.entries = 0
        """What was replayed."""
        self.is_complete = False

    async def run(
        self, place: Where, *, since: int, profile: str | None, limit: int | None, show: Callable[[Replayed], None]
    ) -> None:
        """Go through the calls that began since then, newest first, with a bar on stderr; `show` is given each.

        Raises:
            SchemaMismatch: the database is of another release.
            StoreUnavailable: it cannot be read now.

        """
        await asyncio.to_thread(schema.check, place)
        wanted = Filter(since=since, profile=profile, erased=True)
        async with reading(place, SystemClock()) as database:
            total = 0
            async for call in chosen(database, wanted, limit):
                total += call.entry_count
            with progress(total, "entries") as moved:
                async for call in chosen(database, wanted, limit):
                    replayed = await replay_call(database, call, self.new, self.old, moved)
                    self._count(replayed)
                    show(replayed)
        self.is_complete = True

    def _count(self, replayed: Replayed) -> None:
        if replayed.why is not None:
            self.skipped[replayed.why] += 1
            return
        self.calls += 1
        self.entries += replayed.entries
        self.tallies.add(replayed.before, replayed.after, replayed.changes)


class Side:
    """Be a set of policies that calls are replayed with."""

    def __init__(self, settings: Settings) -> None:
        self.config: Config = settings.config
        self.policies = settings.policies
        self._active = Active(uncapped(settings.policies))
        self._prices: Prices = prices_for(settings.config)

    def replay(self, call: Call, known: Known, active: Active | None = None) -> Replay:
        """Begin to replay a call, with its policies or with others that are `active`."""
        profile = self.config.profile(call.profile) or self.config.default_profile
        watched = known.watched
        if profile.on_shutdown == "hang_up":
            # policies are at work until the call is over
            watched = replace(watched, stops=())
        return Replay(
            active or self._active,
            subject_of(call),
            new_state(profile, call.model, self._prices),
            session=profile.session if known.session is None else known.session,
            commands=known.issuers,
            watched=watched,
        )


@dataclass(frozen=True, slots=True)
class Known:
    """Be what is stored of a call beside its entries."""

    session: dict[str, Any] | None
    issuers: dict[str, str]
    """Policies of commands."""
    watched: Watched
    decided: list[Decided]


async def known_of(database: Database, call: Call) -> Known:
    """Read what a replay goes by, and what it is compared with.

    Raises:
        StoreUnavailable: the database cannot be read now.

    """
    found: list[Decided] = []
    moments: dict[int, list[float]] = {}
    async for each in _decisions(database, call):
        found.append(_recorded(each))
        if each.trigger in TIMED:
            moments.setdefault(each.position.epoch, []).append((each.received_at - call.started_at) / 1e6)
    stops = await unfinished.stops(database, call.started_at)
    watched = Watched(
        epochs=call.epoch,
        stops=[(stop - call.started_at) / 1e6 for stop in stops],
        moments={epoch: sorted(ages) for epoch, ages in moments.items()},
    )
    session, issuers = await minted.session_of(database, call), await commands.policies(database, call)
    return Known(session, issuers, watched, found)


def subject_of(call: Call) -> Subject:
    """Say what is known of a call from its beginning on."""
    return Subject(
        call_id=call.call_id,
        profile=call.profile,
        model=call.model,
        started_at=call.started_at,
        user=call.user,
        labels=call.labels,
        protocol=call.protocol,
    )


@dataclass(slots=True)
class Replayed:
    """Say what came of one call."""

    call: Call
    why: Why | None = None
    """Why it could not be replayed."""
    entries: int = 0
    before: list[Decided] = field(default_factory=list)
    after: list[Decided] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)


async def chosen(database: Database, wanted: Filter, limit: int | None) -> AsyncIterator[Call]:
    """Give the calls that are wanted, newest first, those without entries too."""
    before: Before | None = None
    left = limit
    while left is None or left > 0:
        asked = PAGE if left is None else min(PAGE, left)
        page, before = await calls.page(database, wanted, before=before, limit=asked)
        for call in page:
            yield call
        left = None if left is None else left - len(page)
        if before is None:
            return


async def replay_call(
    database: Database, call: Call, new: Side, old: Side | None, moved: Callable[[int], None] = lambda _: None
) -> Replayed:
    """Replay one call and compare: with what `old` decides, or with what was recorded.

    Raises:
        StoreUnavailable: the database cannot be read now.

    """
    replayed = Replayed(call, await _why_not(database, call))
    if replayed.why is not None:
        moved(call.entry_count)
        return replayed
    known = await known_of(database, call)
    sides = [side.replay(call, known) for side in (new, old) if side is not None]
    found: list[list[Decided]] = [[] for _ in sides]
    async for entry in entries.read(database, call):
        for side, told in zip(sides, found, strict=True):
            if verdicts := side.take(entry):
                told += map(decided, verdicts)
        replayed.entries += 1
        if replayed.entries % STEP == 0:
            moved(STEP)
    moved(call.entry_count - replayed.entries // STEP * STEP)
    if not replayed.entries:
        replayed.why = "empty"
        return replayed
    if call.ended_at is not None:
        for side, told in zip(sides, found, strict=True):
            told += map(decided, side.pass_time(side.over_at((call.ended_at - call.started_at) / 1e6)))
    replayed.after = found[0]
    replayed.before = found[1] if old is not None else known.decided
    replayed.changes = compare(replayed.before, replayed.after)
    return replayed


async def explain_entry(place: Where, side: Side, call_id: str, at: Place) -> list[Explanation]:
    """Explain what each policy decided, or did not, at an entry of a recorded call.

    Raises:
        NotReplayable: there is no such call or entry, or its entries are gone.
        SchemaMismatch: the database is of another release.
        StoreUnavailable: it cannot be read now.

    """
    await asyncio.to_thread(schema.check, place)
    async with reading(place, SystemClock()) as database:
        call = await calls.find(database, call_id)
        if call is None:
            raise NotReplayable(f"there is no call {call_id}")
        why = await _why_not(database, call)
        if why in ("purged", "erased"):
            raise NotReplayable(f"{call_id} cannot be replayed: {WORDS[why]}")
        known = await known_of(database, call)
        explainer = Explainer(side.policies, lambda active: side.replay(call, known, active), at)
        async for entry in entries.read(database, call):
            explainer.take(entry)
            if explainer.is_done:
                break
        try:
            return explainer.finish(None if call.ended_at is None else (call.ended_at - call.started_at) / 1e6)
        except NoSuchEntry as exc:
            raise NotReplayable(f"{exc} in {call_id}") from None


async def _why_not(database: Database, call: Call) -> Why | None:
    if call.purged_at is not None:
        return "erased" if await calls.was_erased(database, call.call_id, call) else "purged"
    return "live" if call.status in ("connecting", "live") else None


async def _decisions(database: Database, call: Call) -> AsyncIterator[Decision]:
    after = None
    while True:
        page = await decisions.page(database, call, after=after, limit=PAGE)
        for each in page:
            yield each
        if len(page) < PAGE:
            return
        after = page[-1].place


def _recorded(each: Decision) -> Decided:
    return Decided(
        policy=each.policy,
        position=Place(*each.position),
        trigger=each.trigger,
        mode=each.mode,
        acts=each.acted,
        would_act=each.outcome != "fault",
        actions=tuple(map(str, each.actions)),
        match=each.match,
        fault=each.detail if each.outcome == "fault" else None,
    )
