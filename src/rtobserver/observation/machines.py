"""Make the machine of a call: of one that was just accepted, or of one that somebody left."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from rtobserver.clock import Clock
from rtobserver.config import sections
from rtobserver.observation.gaps import last_attach
from rtobserver.observation.machine import Machine
from rtobserver.observation.pause import Pause
from rtobserver.observation.plan import Plan, Resumption
from rtobserver.observation.restoration import Restored, restore
from rtobserver.observation.watch import Watch
from rtobserver.policy.active import Active
from rtobserver.policy.view import Subject
from rtobserver.realtime.call import CallState
from rtobserver.store import gaps
from rtobserver.store.database import Database
from rtobserver.store.identity import CallRef
from rtobserver.store.registration import NewCall
from rtobserver.store.unfinished import Mark, Unfinished

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """Be a call that upstream has just accepted."""

    ref: CallRef
    profile: sections.Profile
    user: str | None
    labels: Mapping[str, str] = field(default_factory=dict)
    session: Mapping[str, Any] = field(default_factory=dict)
    """The session that was minted."""
    asked_at: int
    """When the offer was sent."""
    started_at: int

    def row(self) -> NewCall:
        """Give the call's row as it is written first."""
        return _row(self, self.profile.name, self.profile.model, int(self.profile.max_duration * 1e6))


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """Say how a call was left."""

    mark: Mark | None
    """Up to when whoever left it had stored all of it, or declared it lost; None where that is not known."""
    age: Callable[[float], float] | None = None
    """Gives the call's age in seconds at a monotonic time, where it was observed in this process until now."""
    failures: int = 0
    is_hopeless: bool = False
    """Whether observing it has failed so often that it is given up."""
    is_handed_over: bool = False
    """Whether it was heard until we heard it."""


class Machines:
    """Make machines."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        patience: sections.Observer,
        profiles: Mapping[str, sections.Profile],
        default: sections.Profile,
        audio_key: bytes | None,
        new_state: Callable[[sections.Profile, str], CallState],
        active: Active | None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._patience = patience
        self._profiles, self._default = profiles, default
        self._audio_key = audio_key
        self._new_state = new_state
        self._active = active

    def profile(self, name: str) -> sections.Profile:
        """Give the profile that a call has, or the default one where there is none of that name any more."""
        return self._profiles.get(name, self._default)

    def begin(self, accepted: Accepted) -> Machine:
        """Make the machine of a new call."""
        at, mono = self._clock.now_us(), self._clock.mono()
        profile = accepted.profile
        plan = self._plan(profile, accepted.started_at, profile.max_duration, asked_at=accepted.asked_at)
        state = self._new_state(profile, profile.model)
        subject = Subject(
            call_id=accepted.ref.call_id,
            profile=profile.name,
            model=profile.model,
            started_at=accepted.started_at,
            user=accepted.user,
            labels=accepted.labels,
        )
        watch = Watch(state, active=self._active, subject=subject, session=accepted.session)
        return Machine(plan, state, epoch=1, at=at, mono=mono, watch=watch)

    async def resume(self, call: Unfinished, epoch: int, left: Left) -> Machine:
        """Make the machine of a call that goes on, from what is stored of it."""
        profile = self.profile(call.profile)
        restored, watch = await self._restored(call, profile)
        at, mono, up = self._clock.now_us(), self._clock.mono(), self._clock.uptime()
        heard_at = restored.heard_at or call.started_at
        # a gap that ended with an attach says what is missing up to there: nothing is to be declared twice
        now = at if left.mark is None else max(at, left.mark.at)
        known_at = max(heard_at, last_attach(restored.gaps, now) or heard_at)
        watermark, ago = (known_at, None) if left.mark is None else left.mark.since(call.ref.call_id, known_at, up)
        age_us = None if restored.age_us is None else restored.age_us + max(0, watermark - heard_at)
        if left.age is not None and age_us is not None:
            ago = max(0.0, left.age(mono) - age_us / 1e6)
        resumption = Resumption(
            watermark=watermark,
            ago=ago,
            age_us=age_us,
            last_position=call.last_position,
            was_live=call.status == "live",
            given_up=call.status if call.status in ("unobserved", "lost") else None,
            is_hopeless=left.is_hopeless,
            is_handed_over=left.is_handed_over,
            entry_count=restored.entry_count,
            counts=restored.counts,
            gaps=restored.gaps,
            tags=call.tags,
            pause=restored.pause,
            asked=restored.asked,
            losses=restored.lacking(call.entry_count, call.last_position, watermark),
        )
        plan = self._plan(profile, call.started_at, call.max_duration_us / 1e6)
        return Machine(plan, restored.state, epoch=epoch, at=at, mono=mono, resumption=resumption, watch=watch)

    def _plan(
        self, profile: sections.Profile, started_at: int, max_duration: float, *, asked_at: int | None = None
    ) -> Plan:
        return Plan(
            started_at=started_at,
            asked_at=started_at if asked_at is None else asked_at,
            attach_timeout=self._patience.attach_timeout,
            idle_probe=self._patience.idle_probe,
            max_duration=max_duration,
            hang_up_unobserved=profile.on_unobserved == "hang_up",
            audio_key=self._audio_key,
        )

    async def _restored(self, call: Unfinished, profile: sections.Profile) -> tuple[Restored, Watch]:
        """Fold what is stored of a call; a record that cannot be folded is no reason not to go on with it."""
        watch = self._watch(call, self._new_state(profile, call.model))
        try:
            return await restore(self._database, call.ref, watch.state, watch=watch), watch
        except Exception:
            log.exception("call_not_restored", call_id=call.ref.call_id)
            pause = Pause.unknown() if await self._may_be_paused(call.ref) else Pause()
            watch = self._watch(call, self._new_state(profile, call.model))
            return Restored(watch.state, entry_count=call.entry_count, pause=pause, heard_at=call.last_at), watch

    def _watch(self, call: Unfinished, state: CallState) -> Watch:
        subject = Subject(
            call_id=call.ref.call_id,
            profile=call.profile,
            model=call.model,
            started_at=call.started_at,
            user=call.user,
            labels=call.labels,
        )
        return Watch(state, active=self._active, subject=subject, session=call.session, tampered=call.tampered)

    async def _may_be_paused(self, call: CallRef) -> bool:
        try:
            found = await gaps.page(self._database, call, limit=10_000)
        except Exception:  # noqa: BLE001 - whatever it is, nobody can tell
            # better a loss that a gap declares than a word that nobody wanted recorded
            return True
        return any(gap.reason == "paused" and gap.state == "open" for gap in found)


def row_of(call: Unfinished) -> NewCall:
    """Give a call's row as it would be written again."""
    return _row(call, call.profile, call.model, call.max_duration_us)


def _row(call: Accepted | Unfinished, profile: str, model: str, max_duration_us: int) -> NewCall:
    return NewCall(
        call_id=call.ref.call_id,
        status="live",
        started_at=call.started_at,
        profile=profile,
        model=model,
        max_duration_us=max_duration_us,
        user=call.user,
        labels=call.labels,
        session=call.session,
    )
