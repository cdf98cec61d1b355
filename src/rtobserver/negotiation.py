"""Take an offer to upstream and bring the answer back; register the call and start its observer.

The offer is relayed byte for byte. Nothing is retried after bytes of `POST calls` were sent: a
second paid call would be the result. Storage and the attach never delay the answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self

import structlog

from rtobserver.clock import Clock
from rtobserver.config.sections import Profile
from rtobserver.errors import (
    CallUnobservable,
    RequestError,
    StoreUnavailable,
    UpstreamError,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from rtobserver.metrics import Metrics
from rtobserver.observation.machines import Accepted
from rtobserver.observation.supervisor import Supervisor
from rtobserver.quota import Counts
from rtobserver.realtime import session
from rtobserver.realtime.location import call_id_from
from rtobserver.store import orders, registration
from rtobserver.store.database import Database
from rtobserver.store.identity import CallRef
from rtobserver.store.notes import Note
from rtobserver.store.registration import NewCall
from rtobserver.store.writing import Writing
from rtobserver.upstream.reach import Reach
from rtobserver.upstream.rest import REQUEST_SECONDS, Answer, AnswerBroken, AnswerLate, ClientSecret, Rest

NEGOTIATION_SECONDS = 20.0
LONGEST_WAIT = 8.0
"""Longest wait that upstream may ask for in a negotiation; what is longer the browser is told to do."""
ABANDON_SECONDS = 120.0
MAX_NAMED = 1_000
"""Dropped session keys that are named in the log, each once."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """Be what a browser asks for: SDP, and what it would like of the session."""

    sdp: bytes
    session: Mapping[str, Any] | None = None
    """The browser's `session` part, taken only as far as the profile's `client_session_keys` allow."""
    webrtcfilter: str | None = None
    """The browser's query value, heeded only where the profile says `client`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Be whom a call is for, after all checks."""

    profile: Profile
    user: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    token_id: str | None = None
    """Id of the sealed token that was presented, or None."""
    session: Mapping[str, Any] | None = None
    """The `session` that was sealed into the token, treated as a browser's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """Be the answer for the browser."""

    sdp: bytes
    call_id: str | None
    """None where upstream gave no usable id: the call goes on unobserved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Minted:
    """Be an upstream client secret that is given out (`token_mode = "passthrough"`)."""

    value: str
    expires_at: int
    session: Mapping[str, Any]


class Negotiation:
    """Negotiate calls; an async context manager that ends when what it began is done."""

    def __init__(
        self,
        *,
        rest: Rest,
        supervisor: Supervisor,
        writer: Writing,
        database: Database,
        quota: Counts,
        clock: Clock,
        metrics: Metrics,
        secret_ttl: float,
    ) -> None:
        self._rest, self._supervisor = rest, supervisor
        self._writer, self._database = writer, database
        self._quota, self._clock, self._metrics = quota, clock, metrics
        self._secret_ttl = secret_ttl
        self._tasks = asyncio.TaskGroup()
        self._abandoning: set[asyncio.Task[None]] = set()
        self._patience: set[asyncio.Timeout] = set()
        """Of the offers in flight; endless until `leave`."""
        self._draining = False
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._named: set[tuple[str, str]] = set()
        self._offers = Reach("offer", clock)
        self._secrets = Reach("request for a client secret", clock)
        """Of callers who take their offers to upstream themselves."""
        metrics.upstream_failing.labels("offer").set_function(lambda: self._offers.is_failing)
        metrics.upstream_failing.labels("client_secret").set_function(lambda: self._secrets.is_failing)

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(exc, asyncio.CancelledError):
            await self._tasks.__aexit__(kind, exc, trace)
        else:
            # an error of the block is no reason to cut off what is in progress, nor to be wrapped in a group
            await self._tasks.__aexit__(None, None, None)

    async def drain(self) -> None:
        """Take no more offers; returns when those in flight are answered, and the calls ended that nobody can use."""
        self._draining = True
        await self._idle.wait()
        if self._abandoning:
            await asyncio.wait(self._abandoning)

    def leave(self) -> None:
        """Wait no longer for upstream, even where it may have accepted a call."""
        for patience in self._patience:
            if not patience.expired():
                patience.reschedule(asyncio.get_running_loop().time())
        for task in self._abandoning:
            task.cancel()

    async def negotiate(self, offer: Offer, caller: Caller) -> Answered:
        """Bring an offer to upstream and give its answer.

        Raises:
            RequestError: 503 while draining, 429 where a limit is reached.
            UpstreamError: upstream did not answer as it should; the call's row says how.

        """
        if self._draining:
            raise RequestError(503, "draining", "This replica is stopping; try again.", retry_after=2)
        began = self._clock.mono()
        self._in_flight += 1
        self._idle.clear()
        try:
            async with self._quota.connecting(caller.user, began):
                answered = await self._registered(offer, caller)
            if answered.call_id is not None:
                await self._supervisor.secured(answered.call_id)
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()
        self._metrics.negotiation_seconds.observe(self._clock.mono() - began)
        if answered.call_id is None:
            # nobody will ever learn when this call ends
            self._quota.ended(caller.user)
        return answered

    def reasons(self) -> dict[str, int | None]:
        """Say in short words what keeps everybody's offers from upstream, and since when, for `/readyz`."""
        return self._offers.reasons() | self._secrets.reasons()

    def undelivered(self, answered: Answered) -> None:
        """Hang up, in the background, a call whose browser was gone before the answer was written."""
        observer = self._supervisor.find(answered.call_id) if answered.call_id else None
        if observer is not None:
            observer.hang_up("undelivered")

    async def hang_up(self, call_id: str, *, token_id: str | None, user: str | None) -> bool:
        """End a live call for whoever opened it; False where there is none for this caller, or no longer."""
        observer = self._supervisor.find(call_id)
        # the row of a call that was accepted a moment ago may still wait for its flush
        owner = await registration.owner(self._database, call_id)
        if owner is None and observer is not None:
            await self._writer.readable()
            owner = await registration.owner(self._database, call_id)
        if owner is None:
            return False
        by_token = token_id is not None and owner.token_id == token_id
        by_user = user is not None and owner.user == user
        if not (by_token or by_user):
            return False
        if observer is not None and observer.may_end:
            if observer.is_ending:
                return False
            observer.hang_up("browser")
            return True
        if not owner.goes_on:
            return False
        # and so may the end of one that was observed here
        with contextlib.suppress(StoreUnavailable):
            await self._writer.readable()
        owner = await registration.owner(self._database, call_id)
        if owner is None or not owner.goes_on or await orders.will_end(self._database, owner.call_key):
            return False
        await self._order_hang_up(call_id, owner.call_key)
        return True

    async def _order_hang_up(self, call_id: str, call_key: int) -> None:
        """Have the replica that hears the call end it, as an operator's order does."""
        work = orders.give(
            order_id=f"ord_{secrets.token_hex(12)}",
            call_key=call_key,
            call_id=call_id,
            command=orders.HANG_UP,
            actor="",
            at=self._clock.now_us(),
        )
        await self._writer.run(work)
        self._writer.ordered.announce()

    async def mint(self, caller: Caller) -> Minted:
        """Mint an upstream client secret to give out as it is; its calls are not observed.

        Raises:
            UpstreamError: upstream did not answer as it should.

        """
        if self._draining:
            raise RequestError(503, "draining", "This replica is stopping; try again.", retry_after=2)
        began = self._clock.mono()
        try:
            minted = await self._mint(self._session(caller, None))
        except UpstreamError as exc:
            self._secrets.missed(exc, began)
            raise
        self._secrets.got_through(began)
        return Minted(value=minted.value.reveal(), expires_at=minted.expires_at, session=minted.session)

    # --- one offer ------------------------------------------------------------------------------

    async def _registered(self, offer: Offer, caller: Caller) -> Answered:
        """Negotiate under a row of our own, which then becomes the call's or says how it failed."""
        session_ = self._session(caller, offer)
        row = NewCall(
            call_id=f"neg_{secrets.token_hex(13)}",
            started_at=self._clock.now_us(),
            profile=caller.profile.name,
            model=caller.profile.model,
            max_duration_us=int(caller.profile.max_duration * 1e6),
            user=caller.user,
            labels=caller.labels,
            token_id=caller.token_id,
            session=session_,
        )
        ref = row.ref()
        self._post(registration.register(ref, row), row.call_id)
        began = self._clock.mono()
        try:
            answer, asked_at = await self._asked(offer, caller, session_)
        except UpstreamError as exc:
            self._offers.missed(exc, began)
            self._failed(ref, _outcome(exc))
            if isinstance(exc, AnswerBroken | AnswerLate) and (stray := call_id_from(exc.locations)):
                task = self._tasks.create_task(self._abandon(stray), name=f"abandon {stray}")
                self._abandoning.add(task)
                task.add_done_callback(self._abandoning.discard)
            raise
        except BaseException:
            self._failed(ref, "upstream_error")
            raise
        self._offers.got_through(began)
        call_id = call_id_from(answer.locations)
        if call_id is None or self._supervisor.find(call_id) is not None:
            return self._unobserved(ref, caller, answer, duplicate=call_id)
        self._metrics.calls_negotiated.labels("answered").inc()
        accepted_at = self._clock.now_us()
        call = replace(row, call_id=call_id, started_at=accepted_at, upstream_request_id=answer.request_id)
        call_ref = call.ref()
        self._post(registration.register(call_ref, call, instead_of=ref), call_id, ref)
        log.info("call_accepted", call_id=call_id, profile=caller.profile.name)
        self._supervisor.observe(
            Accepted(
                ref=call_ref,
                profile=caller.profile,
                user=caller.user,
                labels=caller.labels,
                session=session_,
                asked_at=asked_at,
                started_at=accepted_at,
            )
        )
        return Answered(sdp=answer.sdp, call_id=call_id)

    async def _asked(self, offer: Offer, caller: Caller, session_: Mapping[str, Any]) -> tuple[Answer, int]:
        """Ask, until `leave`."""
        try:
            async with asyncio.timeout(None) as patience:
                self._patience.add(patience)
                try:
                    return await self._ask(offer, caller, session_)
                finally:
                    self._patience.discard(patience)
        except TimeoutError:
            raise UpstreamTimeout("stopped before upstream had answered") from None

    async def _ask(self, offer: Offer, caller: Caller, session_: Mapping[str, Any]) -> tuple[Answer, int]:
        """Get upstream's answer, and when the offer was sent for it."""
        filter_ = caller.profile.webrtcfilter
        try:
            async with asyncio.timeout(NEGOTIATION_SECONDS - REQUEST_SECONDS):
                minted = await self._mint(session_)
        except TimeoutError:
            raise UpstreamTimeout("no client secret from upstream in time") from None
        # not cut off from here on, beyond its own deadline: the call may exist before its answer comes
        asked_at = self._clock.now_us()
        try:
            answer = await self._rest.create_call(
                minted.value, offer.sdp, filter_ == "on" or (filter_ == "client" and offer.webrtcfilter == "on")
            )
        except UpstreamError as exc:
            self._metrics.upstream_requests.labels("calls", _status(exc)).inc()
            raise
        self._metrics.upstream_requests.labels("calls", "201").inc()
        return answer, asked_at

    async def _mint(self, session_: Mapping[str, Any]) -> ClientSecret:
        """Mint, waiting once where upstream asks for a wait that the negotiation has room for."""
        try:
            return await self._mint_once(session_)
        except UpstreamRefused as exc:
            if exc.status != 429 or not exc.retry_after or exc.retry_after > LONGEST_WAIT:
                raise
            await self._clock.sleep(exc.retry_after)
            return await self._mint_once(session_)

    async def _mint_once(self, session_: Mapping[str, Any]) -> ClientSecret:
        try:
            minted = await self._rest.create_client_secret(session_, self._secret_ttl)
        except UpstreamError as exc:
            self._metrics.upstream_requests.labels("client_secrets", _status(exc)).inc()
            raise
        self._metrics.upstream_requests.labels("client_secrets", "200").inc()
        return minted

    def _session(self, caller: Caller, offer: Offer | None) -> dict[str, Any]:
        """Lay the profile's session over what the browser may add."""
        profile = caller.profile
        under: dict[str, Any] = {}
        for asked in (caller.session, offer.session if offer else None):
            taken, dropped = session.admit(asked or {}, profile.client_session_keys)
            under = session.merge(under, taken)
            for key in dropped:
                if session.lookup(asked or {}, key) != session.lookup(profile.session, key):
                    self._name_dropped(profile.name, key)
        return session.merge(under, profile.session)

    def _name_dropped(self, profile: str, key: str) -> None:
        if (profile, key) in self._named or len(self._named) >= MAX_NAMED or len(key) > 100:
            return
        self._named.add((profile, key))
        log.warning("session_key_dropped", profile=profile, name=key)

    def _unobserved(self, ref: CallRef, caller: Caller, answer: Answer, *, duplicate: str | None) -> Answered:
        log.error("call_without_id", profile=caller.profile.name, duplicate=duplicate, locations=len(answer.locations))
        self._metrics.calls_negotiated.labels("no_location").inc()
        self._post(registration.close(ref, status="unobserved", outcome="no_location", ended_at=None), ref.call_id)
        if caller.profile.on_unobserved == "hang_up":
            raise CallUnobservable("upstream gave the call no usable id, and unobserved calls are not allowed")
        return Answered(sdp=answer.sdp, call_id=None)

    def _failed(self, ref: CallRef, outcome: str) -> None:
        self._metrics.calls_negotiated.labels(outcome).inc()
        ended_at = self._clock.now_us()
        self._post(registration.close(ref, status="failed", outcome=outcome, ended_at=ended_at), ref.call_id)

    def _post(self, note: Note, call_id: str, negotiation: CallRef | None = None) -> None:
        def done(future: asyncio.Future[Any]) -> None:
            if future.cancelled() or (exc := future.exception()) is None:
                return
            log.error("registration_failed", call_id=call_id, problem=str(exc))
            if negotiation is not None:
                self._disown(call_id, negotiation)

        self._writer.note(note).add_done_callback(done)

    def disown(self, call: CallRef) -> None:
        """Take note that a call cannot have a row of its own, as its id is on record already."""
        if call.origin is not None:
            self._disown(call.call_id, CallRef(call.origin, call.day))

    def _disown(self, call_id: str, negotiation: CallRef) -> None:
        """Stop observing a call that cannot have a row of its own."""
        if observer := self._supervisor.find(call_id):
            observer.drain()

        self._tasks.create_task(self._close(call_id, negotiation), name=f"disown {call_id}")

    async def _close(self, call_id: str, negotiation: CallRef) -> None:
        # in a flush of its own, after what the observer has written of the call's status
        with contextlib.suppress(StoreUnavailable):
            await self._writer.kept()
            note = registration.close(negotiation, status="unobserved", outcome="no_location", ended_at=None)
            self._post(note, call_id)

    async def _abandon(self, call_id: str) -> None:
        """End a call whose answer could not be used: nobody will ever talk in it."""
        try:
            async with asyncio.timeout(ABANDON_SECONDS):
                ended = await self._rest.hang_up(call_id)
        except (UpstreamError, TimeoutError) as exc:
            log.error("abandoned_call_may_run", call_id=call_id, problem=str(exc))  # noqa: TRY400 - the problem says it
        else:
            log.warning("call_abandoned", call_id=call_id, ended=ended)


def _outcome(exc: UpstreamError) -> str:
    if isinstance(exc, UpstreamTimeout):
        return "timeout"
    return "refused" if isinstance(exc, UpstreamRefused) else "upstream_error"


def _status(exc: UpstreamError) -> str:
    status = exc.status if isinstance(exc, UpstreamRefused | UpstreamUnavailable) else None
    return str(status) if status is not None else "timeout" if isinstance(exc, UpstreamTimeout) else "error"
