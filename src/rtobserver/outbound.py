"""Send to addresses of the configuration: notify webhooks, ask the endpoints that answer tools.

Nothing here stands between a frame and what is done about it: `notify` only encodes a small
document, its delivery and `ask` wait for nothing but their own socket. No redirect is followed, no
cookie kept, no proxy of the environment used, and no more of an answer read than its bound. Each
request has a connection of its own: one that stood idle may be closed by the other side at the very
moment when it is used again, and then nobody can tell whether the request was read.

What may be sent twice differs. A notification may, until it was taken or `GIVE_UP_SECONDS` are
over: its `webhook-id` stays the same, by which the receiver can tell. A question may not.
"""

from __future__ import annotations

import asyncio
import base64
import os
import random
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from types import TracebackType
from typing import Any, Literal, Self

import aiohttp
import msgspec
import structlog
from standardwebhooks import Webhook as Signer

from rtobserver import __version__
from rtobserver.clock import Clock
from rtobserver.config.sections import Secret, Webhook
from rtobserver.errors import OutboundError
from rtobserver.metrics import Metrics
from rtobserver.upstream.backoff import delay, retry_after

ANSWER_BYTES = 64 * 1024
TRY_SECONDS = 10.0
"""For one try to deliver a notification."""
FIRST_DELAY, LONGEST_DELAY = 1.0, 60.0
"""Seconds between the first two tries, and between two at most."""
GIVE_UP_SECONDS = 600.0
"""Age at which a notification is tried no more."""
QUEUE = 1000
"""Notifications that may wait for one webhook; at it, further ones are dropped, counted and logged."""
QUEUE_BYTES = 8 * 1024 * 1024
"""What these may hold, with the same consequence."""
AT_ONCE = 4
"""Tries at one time for one webhook. Webhooks do not share them: one that hangs holds up no other."""
DRAIN_SECONDS = 5.0
"""The longest that the end waits for deliveries, after a last try of each."""
CONNECTIONS = 100
"""To one host; a question waits for one within its own time."""

Json = Any
Became = Literal["delivered", "failed", "given_up", "dropped", "lost"]

_PREFIX = "whsec_"
_PAGES = ("text/html", "application/xhtml+xml")
_PAGE_BEGINS = ("<!doctype html", "<html")
_BEGINNING = 1024
"""Characters in which a page must have begun."""
_WIDE = ("utf-16", "utf-32", "utf-7")

log = structlog.get_logger()


@dataclass(slots=True, eq=False)
class _Hook:
    """Be a webhook, and what waits for it."""

    section: Webhook
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    waiting: int = 0
    bytes: int = 0
    failing_since: int | None = None
    """Microseconds since 1970; None while deliveries succeed."""
    is_full: bool = False


@dataclass(frozen=True, slots=True)
class HookState:
    """Say how one webhook is doing."""

    id: str
    waiting: int
    """Notifications that wait for their delivery."""
    failing_since: int | None
    """Microseconds since 1970 since when no try succeeds; None while they do."""
    is_full: bool
    """Whether so much waits that further notifications are dropped."""


class Outbound:
    """Notify and ask; enter it before use, and after whatever uses it leave it: it then delivers what still waits."""

    def __init__(
        self,
        webhooks: Sequence[Webhook],
        clock: Clock,
        metrics: Metrics,
        *,
        first_delay: float = FIRST_DELAY,
        try_seconds: float = TRY_SECONDS,
        give_up_seconds: float = GIVE_UP_SECONDS,
        drain_seconds: float = DRAIN_SECONDS,
    ) -> None:
        self._clock = clock
        self._metrics = metrics
        self._first_delay = first_delay
        self._try_seconds = try_seconds
        self._give_up_seconds = give_up_seconds
        self._hooks: dict[str, _Hook] = {}
        self._session: aiohttp.ClientSession | None = None
        self._tasks = asyncio.TaskGroup()
        self._deliveries: set[asyncio.Task[None]] = set()
        self._closing = asyncio.Event()
        self._drain_seconds = drain_seconds
        self._patience: asyncio.Timeout | None = None
        self._lost = 0
        self.replace(webhooks)

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, limit_per_host=CONNECTIONS, force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            headers={"User-Agent": f"rtobserver/{__version__}", "Accept-Encoding": "identity"},
            auto_decompress=False,
            trust_env=False,
        )
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        try:
            if self._deliveries and not isinstance(exc, asyncio.CancelledError):
                log.info("webhooks_draining", notifications=len(self._deliveries))
                async with asyncio.timeout(self._drain_seconds) as self._patience:
                    await asyncio.wait(self._deliveries)
        except TimeoutError:
            pass
        finally:
            self._patience = None
            for task in self._deliveries:
                task.cancel()
            try:
                # an error of the block is no reason to be wrapped in a group
                await self._tasks.__aexit__(None, None, None)
            finally:
                if self._session is not None:
                    await self._session.close()
                if self._lost:
                    log.warning("notifications_lost", count=self._lost)

    def hurry(self) -> None:
        """Have the end wait for no delivery."""
        self._drain_seconds = 0.0
        if self._patience is not None and not self._patience.expired():
            self._patience.reschedule(asyncio.get_running_loop().time())

    def replace(self, webhooks: Sequence[Webhook]) -> None:
        """Take other webhooks; what waits for one that is still there goes to its new address.

        What waits for one that is gone is given up.
        """
        old = self._hooks
        self._hooks = {}
        for section in webhooks:
            hook = old.pop(section.id) if section.id in old else _Hook(section)
            hook.section = section
            self._hooks[section.id] = hook
            self._metrics.webhook_queue.labels(section.id).set(hook.waiting)
        for id_ in old:
            self._metrics.webhook_queue.remove(id_)

    def states(self) -> list[HookState]:
        """Say how each webhook is doing, in the order of the file."""
        return [HookState(id_, hook.waiting, hook.failing_since, hook.is_full) for id_, hook in self._hooks.items()]

    # --- questions ------------------------------------------------------------------------------

    async def ask(self, url: str, body: bytes, *, timeout: float, secret: Secret | None) -> str:
        """Post a JSON document, once, and give the text of the answer.

        `timeout` is in seconds and holds for all of it, from the look-up of the host's name on.

        Raises:
            OutboundError: there is no answer, or none that can be used.

        """
        try:
            text = await self._exchange(url, body, secret, _new_id(), timeout=timeout)
        except OutboundError as exc:
            self._metrics.tool_asks.labels(exc.outcome).inc()
            raise
        self._metrics.tool_asks.labels("answered").inc()
        return text

    # --- notifications --------------------------------------------------------------------------

    def notify(self, webhook: str, payload: Mapping[str, Json]) -> None:
        """Have a JSON document delivered in the background; never waits and never raises."""
        hook = self._hooks.get(webhook)
        if hook is None:
            log.warning("notification_without_webhook", webhook=webhook)
            return
        try:
            body = msgspec.json.encode(payload, enc_hook=_plain)
        except (TypeError, ValueError):
            log.exception("notification_not_encoded", webhook=webhook)
            self._count(hook, "dropped")
            return
        if self._closing.is_set():
            self._lost += 1
            self._count(hook, "lost")
        elif hook.waiting >= QUEUE or hook.bytes + len(body) > QUEUE_BYTES:
            if not hook.is_full:
                hook.is_full = True
                log.warning("webhook_queue_full", webhook=webhook, notifications=hook.waiting, bytes=hook.bytes)
            self._count(hook, "dropped")
        else:
            hook.is_full = False
            self._hold(hook, 1, len(body))
            task = self._tasks.create_task(self._deliver(hook, _new_id(), body), name=f"notify {webhook}")
            self._deliveries.add(task)
            task.add_done_callback(self._deliveries.discard)

    async def _deliver(self, hook: _Hook, message_id: str, body: bytes) -> None:
        """Be the boundary of one notification: nothing that goes wrong with it reaches another."""
        became: Became = "lost"
        try:
            became = await self._delivered(hook, message_id, body)
        except Exception:
            log.exception("notification_failed", webhook=hook.section.id, message_id=message_id)
            became = "failed"
        finally:
            self._hold(hook, -1, -len(body))
            self._lost += became == "lost"
            self._count(hook, became)

    async def _delivered(self, hook: _Hook, message_id: str, body: bytes) -> Became:
        began = self._clock.mono()
        for attempt in count():
            async with hook.turns:
                if self._hooks.get(hook.section.id) is not hook:
                    gone = "the webhook is configured no more"
                    log.warning("notification_not_delivered", webhook=hook.section.id, became="given_up", problem=gone)
                    return "given_up"
                is_last = self._closing.is_set()
                try:
                    await self._exchange(
                        hook.section.url, body, hook.section.secret, message_id, timeout=self._try_seconds, heed=False
                    )
                except OutboundError as exc:
                    problem = exc
                    self._failed(hook, exc)
                else:
                    self._succeeded(hook)
                    return "delivered"
            # spread, so that many notifications do not come back at once; no secret depends on it
            wait = delay(
                attempt,
                random.random(),  # noqa: S311
                first=self._first_delay,
                ceiling=LONGEST_DELAY,
                retry_after=problem.retry_after,
            )
            if not problem.may_pass:
                became: Became = "failed"
            elif is_last:
                became = "lost"
            elif self._clock.mono() + wait - began > self._give_up_seconds:
                became = "given_up"
            else:
                await self._pause(wait)
                continue
            log.warning(
                "notification_not_delivered",
                webhook=hook.section.id,
                became=became,
                message_id=message_id,
                tries=attempt + 1,
                problem=str(problem),
            )
            return became
        raise AssertionError("the last try returns")

    async def _pause(self, seconds: float) -> None:
        """Wait for so long, or until the end begins."""
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            pass

    def _failed(self, hook: _Hook, problem: OutboundError) -> None:
        if self._hooks.get(hook.section.id) is hook:
            self._metrics.webhook_failures.labels(hook.section.id).inc()
        if hook.failing_since is None:
            hook.failing_since = self._clock.now_us()
            log.warning("webhook_failing", webhook=hook.section.id, problem=str(problem))

    def _succeeded(self, hook: _Hook) -> None:
        if hook.failing_since is not None:
            hook.failing_since = None
            log.info("webhook_recovered", webhook=hook.section.id, waiting=hook.waiting - 1)

    def _hold(self, hook: _Hook, notifications: int, bytes_: int) -> None:
        hook.waiting += notifications
        hook.bytes += bytes_
        if self._hooks.get(hook.section.id) is hook:
            self._metrics.webhook_queue.labels(hook.section.id).set(hook.waiting)

    def _count(self, hook: _Hook, became: Became) -> None:
        self._metrics.webhook_notifications.labels(hook.section.id, became).inc()

    # --- HTTP -----------------------------------------------------------------------------------

    async def _exchange(
        self, url: str, body: bytes, secret: Secret | None, message_id: str, *, timeout: float, heed: bool = True
    ) -> str:
        """Post once; `heed` says whether the answer's text matters, or only that it was taken."""
        if self._session is None:
            raise RuntimeError("enter Outbound before using it")
        headers = {"Content-Type": "application/json"} | _signature(secret, message_id, self._clock.now_us(), body)
        try:
            async with (
                asyncio.timeout(timeout),
                self._session.post(url, data=body, headers=headers, allow_redirects=False) as response,
            ):
                if not 200 <= response.status < 300:
                    raise self._refused(response)
                return await _text(response) if heed else ""
        except TimeoutError:
            raise OutboundError("timeout", f"there was no whole answer within {timeout:g} s", may_pass=True) from None
        except aiohttp.ClientPayloadError:
            raise OutboundError("broken", "the answer broke off", may_pass=True) from None
        except aiohttp.ClientError as exc:
            raise _unreachable(exc) from None

    def _refused(self, response: aiohttp.ClientResponse) -> OutboundError:
        status = response.status
        if 300 <= status < 400:
            return OutboundError("refused", f"the answer was a redirect ({status}), and none is followed")
        return OutboundError(
            "refused",
            f"the answer was {status}",
            may_pass=status in (408, 429) or status >= 500,
            retry_after=retry_after(response.headers.get("Retry-After"), self._clock.now_us() / 1e6),
        )


async def _text(response: aiohttp.ClientResponse) -> str:
    """Read an answer up to its bound; what is left unread costs the connection, not us."""
    # an endpoint's answer is for the model; a page is a proxy's or a login's, whatever its status and type say
    page = OutboundError("broken", "the answer was a web page")
    if response.content_type in _PAGES:
        raise page
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise OutboundError("broken", "the answer was compressed, which was not asked for")
    parts: list[bytes] = []
    left = ANSWER_BYTES
    async for part in response.content.iter_any():
        left -= len(part)
        if left < 0:
            raise OutboundError("broken", f"the answer was longer than {ANSWER_BYTES // 1024} KiB")
        parts.append(part)
    foreign = OutboundError("broken", "the answer was not text in UTF-8")
    if (response.charset or "").lower().startswith(_WIDE):
        raise foreign
    try:
        text = b"".join(parts).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise foreign from None
    if text[:_BEGINNING].lstrip()[:15].casefold().startswith(_PAGE_BEGINS):
        raise page
    return text


def _unreachable(exc: aiohttp.ClientError) -> OutboundError:
    """Name a failure without repeating what was sent or received."""
    if isinstance(exc, aiohttp.ClientConnectorError):
        code = exc.os_error.errno
        # asyncio writes the address into the error's own words; those of a failed look-up have none
        told = os.strerror(code) if isinstance(code, int) and code > 0 else exc.os_error.strerror
        problem = f"there was no connection ({type(exc).__name__}{f': {told}' if told else ''})"
    else:
        problem = f"the connection failed before the answer ({type(exc).__name__})"
    return OutboundError("unreachable", problem, may_pass=not isinstance(exc, aiohttp.InvalidURL))


def _signature(secret: Secret | None, message_id: str, now_us: int, body: bytes) -> dict[str, str]:
    """Write the headers of Standard Webhooks; without a secret there is no signature among them."""
    at = now_us // 1_000_000
    headers = {"webhook-id": message_id, "webhook-timestamp": str(at)}
    if secret is not None:
        signer = Signer(signing_key(secret))
        headers["webhook-signature"] = signer.sign(message_id, datetime.fromtimestamp(at, UTC), body.decode())
    return headers


def signing_key(secret: Secret) -> bytes:
    """Give the key of a secret: what `whsec_` and base64 stand for, else the text itself in UTF-8."""
    text = secret.reveal()
    if text.startswith(_PREFIX):
        encoded = text.removeprefix(_PREFIX).rstrip("=")
        try:
            if key := base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True):
                return key
        except ValueError:
            pass
    return text.encode()


def _new_id() -> str:
    return f"msg_{secrets.token_hex(16)}"


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is nothing that JSON has")
