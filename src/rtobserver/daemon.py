"""Build every part, start them in order, stop them backwards.

The only place that knows all parts. Stopping: no new offers, those in flight are answered, observers
leave their calls or hang them up, what was recorded is committed, the file is let go.
"""

from __future__ import annotations

import asyncio
import base64
import resource
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import structlog

from rtobserver import __version__
from rtobserver.clock import Clock, SystemClock
from rtobserver.config.addresses import is_wildcard
from rtobserver.config.display import redacted
from rtobserver.config.sections import Config
from rtobserver.errors import StoreError
from rtobserver.housekeeping import Housekeeping, keeping_house
from rtobserver.metrics import Metrics
from rtobserver.negotiation import Negotiation
from rtobserver.observation.ownership import Ownership, Sole
from rtobserver.observation.rates import Rates, sharing_rates
from rtobserver.observation.sharing import Sharing
from rtobserver.observation.supervisor import Supervisor
from rtobserver.outbound import Outbound
from rtobserver.policy.active import MINUTE_US, Active, compile_rules
from rtobserver.policy.rules import Policy, PolicySet
from rtobserver.quota import Counts, Quota
from rtobserver.recorder import Bounds, Recorder
from rtobserver.reloading import Reloading, reloading
from rtobserver.settings import Settings, new_state, prices_for
from rtobserver.storage import Storage, held, opened
from rtobserver.store import decisions, orders, unfinished
from rtobserver.store import secrets as own_keys
from rtobserver.store.audit import Audit
from rtobserver.store.places import Server, place_of
from rtobserver.store.quotas import SharedQuota
from rtobserver.store.trouble import trouble_of
from rtobserver.store.writer import EntryRow, Transaction
from rtobserver.store.writing import Writing
from rtobserver.upstream.attach import Attach
from rtobserver.upstream.credentials import credentials_for
from rtobserver.upstream.endpoints import Endpoints
from rtobserver.upstream.rest import Rest
from rtobserver.watchdog import watching
from rtobserver.web.health import Health
from rtobserver.web.listener import Listener, listening
from rtobserver.web.operator import OPERATOR_PATIENCE, operator_app
from rtobserver.web.public import public_app
from rtobserver.web.sealed import Sealer
from rtobserver.web.vitals import Checkup
from rtobserver.web.waiting import waiting_operator, waiting_public

DRAIN_SECONDS = 30.0
"""The longest that stopping may take before what is left is cut off."""
LONG_START_SECONDS = 2.0
"""A start that takes longer says what it waits for."""
RESERVED_FILES = 64
"""Descriptors, at least, that calls leave to everything else."""

log = structlog.get_logger()


class Daemon:
    """Be a running daemon; made by `running`."""

    def __init__(
        self,
        supervisor: Supervisor,
        negotiation: Negotiation,
        writer: Writing,
        outbound: Outbound,
        reloads: Reloading,
    ) -> None:
        self._supervisor = supervisor
        self._negotiation = negotiation
        self._writer = writer
        self._outbound = outbound
        self._reloads = reloads
        self.failed = writer.done
        """Is done when the daemon can no longer record; carries the reason."""
        self.public_url = ""
        self.operator_url = ""
        self.draining = False
        self._patience: asyncio.Timeout | None = None
        """Of a drain that goes on."""

    async def drain(self) -> None:
        """Answer what is in flight, leave the calls (or hang them up) and return; again, it does nothing."""
        if self.draining:
            return
        self.draining = True
        log.info("draining", calls=self._supervisor.count)
        try:
            async with asyncio.timeout(DRAIN_SECONDS) as self._patience:
                await self._negotiation.drain()
                await self._supervisor.drain()
        except TimeoutError:
            log.warning("drain_cut_off", calls=self._supervisor.count)
            self._negotiation.leave()
            self._supervisor.leave()
        finally:
            self._patience = None

    def reload(self) -> None:
        """Have the configuration read again soon; where it was read from no file, it does nothing."""
        self._reloads.ask()

    def hurry(self) -> None:
        """Have the end wait for nothing more: calls that should have been hung up are left, notifications are lost.

        What a database that refuses has not taken then is lost, and the next start declares it.
        """
        self._writer.hurry()
        self._outbound.hurry()
        if self._patience is not None and not self._patience.expired():
            self._patience.reschedule(asyncio.get_running_loop().time())


@asynccontextmanager
async def running(
    config: Config,
    policies: PolicySet = PolicySet(),  # noqa: B008 - it is frozen
    *,
    files: tuple[Path, ...] = (),
    read: Callable[[], Settings] | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[Daemon]:
    """Run a daemon for the length of the block; leaving the block drains it.

    With `read`, which runs in a thread, policies and webhooks are read again when one of the `files` changes.

    Raises:
        StoreBusy: another daemon runs on the same file.
        SchemaMismatch: the database needs `rtobserver migrate`.
        OSError: a listener's address cannot be bound.

    """
    async with AsyncExitStack() as stack:
        try:
            daemon = await stack.enter_async_context(_running(config, policies, files, read, clock or SystemClock()))
        except StoreError as exc:
            if trouble_of(exc) != "damaged":
                raise
            # what can still be read stands in a new file by now
            log.warning("starting_again", problem=str(exc))
            daemon = await stack.enter_async_context(_running(config, policies, files, read, clock or SystemClock()))
        yield daemon


@asynccontextmanager
async def _running(
    config: Config,
    policies: PolicySet,
    files: tuple[Path, ...],
    read: Callable[[], Settings] | None,
    clock: Clock,
) -> AsyncIterator[Daemon]:
    metrics = Metrics()
    prices = prices_for(config)
    async with AsyncExitStack() as stack:
        stack.enter_context(watching(metrics))
        observers: list[Supervisor] = []

        def refused(rows: list[EntryRow]) -> None:
            for supervisor in observers:
                supervisor.refused(rows)

        log.info("starting", version=__version__)
        stack.callback(log.info, "stopped")
        replica_id, began_at = f"rep_{secrets.token_hex(8)}", clock.now_us()
        stack.enter_context(held(config.store))
        condition = Condition(began_at)
        health, count_refusal = condition.health(), _counting(metrics)
        bound = _bound(config, condition, health, count_refusal)
        public, operator = await stack.enter_async_context(bound)
        waits: dict[str, int | None] = {}
        condition.parts.append(lambda: waits)
        storage = await stack.enter_async_context(
            opened(config, replica_id=replica_id, refused=refused, metrics=metrics, clock=clock, waits=waits)
        )
        condition.parts.append(storage.reasons)
        writer, reads = storage.writer, storage.reads
        mark = None
        if storage.file is not None:
            mark = await unfinished.watermark(reads)
            await writer.run(_beginning(replica_id, began_at))
        audio_key, token_key, login_key = await writer.run(_keys(config))

        credentials = credentials_for(config.upstream, clock)
        stack.push_async_callback(credentials.close)
        endpoints = Endpoints(config.upstream.base_url, config.upstream.provider)
        rest = await stack.enter_async_context(Rest(endpoints, credentials, config.upstream, clock))
        recorder = Recorder(writer, bounds=Bounds())
        active = _watched(Active(policies), metrics)
        capped = [policy.id for policy in policies.policies if policy.limit.per_minute]
        active.restore(await decisions.rates(reads, capped, since=clock.now_us() - MINUTE_US))
        outbound = await stack.enter_async_context(Outbound(config.webhooks, clock, metrics))
        attach = Attach(endpoints, credentials, config.upstream, config.observer.max_frame)
        ownership, quota = await stack.enter_async_context(_shared(config, storage, replica_id, attach, metrics, clock))
        supervisor = Supervisor(
            attach=attach,
            rest=rest,
            recorder=recorder,
            writer=writer,
            database=reads,
            clock=clock,
            metrics=metrics,
            quota=quota,
            patience=config.observer,
            profiles={profile.name: profile for profile in config.profiles},
            default=config.default_profile,
            audio_key=audio_key if config.recording.audio == "strip" else None,
            new_state=lambda profile, model: new_state(profile, model, prices),
            ownership=ownership,
            active=active,
            outbound=outbound,
        )
        observers.append(supervisor)
        await stack.enter_async_context(supervisor)
        negotiation = await stack.enter_async_context(
            Negotiation(
                rest=rest,
                supervisor=supervisor,
                writer=writer,
                database=reads,
                quota=quota,
                clock=clock,
                metrics=metrics,
                secret_ttl=config.upstream.secret_ttl,
            )
        )
        storage.tell(live=supervisor.live, begun_anew=supervisor.begun_anew, disown=negotiation.disown)
        settings = Settings(config, policies, files)
        shown = redacted(config)
        adopt = _adopting(active, outbound, supervisor, shown)
        reloads = Reloading(settings, read=read or (lambda: settings), adopt=adopt, clock=clock, metrics=metrics)
        if storage.file is None:
            await stack.enter_async_context(sharing_rates(Rates(active, reads, clock, lambda: reloads.loaded_at)))
        daemon = Daemon(supervisor, negotiation, writer, outbound, reloads)
        daemon.public_url, daemon.operator_url = public.url, operator.url
        condition.parts += [ownership.reasons, negotiation.reasons, supervisor.reasons]
        housekeeping = await stack.enter_async_context(
            keeping_house(
                Housekeeping(database=reads, writer=writer, clock=clock, metrics=metrics, retention=config.retention)
            )
        )
        audit = Audit(writer, clock=clock, is_refused=storage.is_refused)
        await stack.enter_async_context(
            operator.serving(
                operator_app(
                    section=config.operator,
                    database=reads,
                    writer=writer,
                    audit=audit,
                    housekeeping=housekeeping,
                    checkup=Checkup(
                        replica_id, began_at, health, metrics, writer, clock, shown, outbound.states, storage.backlog
                    ),
                    metrics=metrics,
                    health=health,
                    clock=clock,
                    active=active,
                    reloading=reloads,
                    login_key=login_key,
                    front=lambda: _front(config, daemon.public_url),
                )
            )
        )
        adopted = await supervisor.adopt(mark) if storage.file is not None else 0
        stack.push_async_callback(daemon.drain)
        await stack.enter_async_context(
            public.serving(
                public_app(
                    section=config.public,
                    profiles=config.profiles,
                    default=config.default_profile,
                    negotiation=negotiation,
                    sealer=Sealer(token_key),
                    clock=clock,
                    upstream_origin=_origin(config.upstream.base_url),
                    refused=count_refusal,
                )
            )
        )
        condition.daemon = daemon
        log.info("listening", public=public.url, operator=operator.url, adopted=adopted)
        if read is not None and files:
            await stack.enter_async_context(reloading(reloads))
        yield daemon


class Condition:
    """Know how the daemon is, as far as there are parts of it that can tell."""

    def __init__(self, began_at: int) -> None:
        self._began_at = began_at
        self.daemon: Daemon | None = None
        """None while it starts."""
        self.parts: list[Callable[[], Mapping[str, int | None]]] = []
        """Say what is wrong with them, and since when."""

    def health(self) -> Health:
        """Give what the listeners tell of it."""
        return Health(draining=self._is_draining, broken=self._broken, degraded=self.reasons)

    def _is_draining(self) -> bool:
        return self.daemon is not None and self.daemon.draining

    def _broken(self) -> dict[str, int | None]:
        if self.daemon is None:
            return {"it is starting": self._began_at}
        return {"the recorder has stopped": None} if self.daemon.failed.done() else {}

    def reasons(self) -> dict[str, int | None]:
        """Say what is wrong with the parts that there are."""
        return {reason: since for part in self.parts for reason, since in part().items()}


@asynccontextmanager
async def _bound(
    config: Config, condition: Condition, health: Health, refused: Callable[[str], None]
) -> AsyncIterator[tuple[Listener, Listener]]:
    """Bind the public and the operator listener, which say that the daemon starts until others serve there."""
    public, operator = waiting_public(config.public, refused), waiting_operator(config.operator, health)
    async with (
        listening(
            operator, host=config.operator.host, port=config.operator.port, patience=OPERATOR_PATIENCE
        ) as for_operators,
        listening(public, host=config.public.host, port=config.public.port) as for_all,
    ):
        with _telling(condition, for_all.url, for_operators.url):
            yield for_all, for_operators


@contextmanager
def _telling(condition: Condition, public: str, operator: str) -> Iterator[None]:
    """Say where to ask for the reason if a start takes long."""

    def tell() -> None:
        if condition.daemon is None:
            log.warning("still_starting", public=public, operator=operator, reasons=list(condition.reasons()))

    timer = asyncio.get_running_loop().call_later(LONG_START_SECONDS, tell)
    try:
        yield
    finally:
        timer.cancel()


def _counting(metrics: Metrics) -> Callable[[str], None]:
    def refused(code: str) -> None:
        metrics.requests_refused.labels(code).inc()

    return refused


def _watched(active: Active, metrics: Metrics) -> Active:
    """Tell people of policies that are demoted."""

    def demoted(policy: Policy, _at: int) -> None:
        metrics.policy_demotions.labels(policy.id).inc()
        log.warning("policy_demoted", policy=policy.id, per_minute=policy.limit.per_minute)

    active.demoted = demoted
    return active


def _adopting(
    active: Active, outbound: Outbound, supervisor: Supervisor, shown: dict[str, Any]
) -> Callable[[Settings], Awaitable[None]]:
    """Put other policies and webhooks in force, for calls that go on too; `shown` are the settings that people see."""

    async def adopt(settings: Settings) -> None:
        # not on the loop: the calls that go on should not notice
        compiled = await asyncio.to_thread(compile_rules, settings.policies)
        active.replace(settings.policies, compiled)
        outbound.replace(settings.config.webhooks)
        shown["webhook"] = redacted(settings.config)["webhook"]
        supervisor.policies_changed()

    return adopt


@asynccontextmanager
async def _shared(
    config: Config, storage: Storage, replica_id: str, attach: Attach, metrics: Metrics, clock: Clock
) -> AsyncIterator[tuple[Ownership, Counts]]:
    """Own calls and count callers: alone, or together with other replicas."""
    place, journal = place_of(config.store.url), storage.journal
    if journal is None or not isinstance(place, Server):
        yield Sole(storage.writer, replica_id), Quota(config.limits, room=_room())
        return
    sharing = Sharing(
        place,
        replica_id=replica_id,
        attach=attach,
        writer=storage.writer,
        clock=clock,
        metrics=metrics,
        ttl=config.observer.lease_ttl,
        journal=journal.journal_id,
    )
    quota = SharedQuota(
        place,
        config.limits,
        room=_room(),
        clock=clock,
        replica_id=lambda: sharing.replica_id,
        replicas=lambda: sharing.replicas,
    )
    sharing.beside = quota.compare
    try:
        await sharing.enter()
        yield sharing, quota
    finally:
        sharing.close()
        quota.close()


def _beginning(replica_id: str, at: int) -> Callable[[Transaction], None]:
    """Enter this run and close what an earlier one left hanging."""

    def work(transaction: Transaction) -> None:
        unfinished.close_negotiations(at)(transaction)
        unfinished.enter_replica(replica_id, at)(transaction)
        orders.abandon(owner=replica_id)(transaction)

    return work


def _keys(config: Config) -> Callable[[Transaction], tuple[bytes, bytes, bytes]]:
    """Give the keys for audio, tokens and cookies, which the first run makes."""

    def work(transaction: Transaction) -> tuple[bytes, bytes, bytes]:
        audio_key = own_keys.keep(transaction, own_keys.AUDIO_KEY)
        login_key = own_keys.keep(transaction, own_keys.LOGIN_KEY)
        if config.public.token_key is not None:
            return audio_key, base64.urlsafe_b64decode(config.public.token_key.reveal() + "=="), login_key
        return audio_key, own_keys.keep(transaction, own_keys.TOKEN_KEY), login_key

    return work


def _room() -> int:
    """Take all the descriptors that this process may have; gives how many calls they are enough for."""
    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files != most:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
            files = most
        except (OSError, ValueError):
            log.warning("descriptors_not_raised", files=files)
    if files == resource.RLIM_INFINITY:
        return 0
    # a call holds one; the store, those who ask and upstream's other connections share what is left over
    return max(1, files - max(RESERVED_FILES, files // 4))


def _front(config: Config, url: str) -> str:
    """Give the address of the page that callers use; nothing where there is none, or no browser could find it."""
    if not config.public.static_dir:
        return ""
    address = config.public.base_url or ("" if is_wildcard(config.public.host) else url)
    return f"{address}/" if address else ""


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
