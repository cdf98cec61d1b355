"""Let operators in by their keys or access tokens, and audit whom we did not let in.

A key comes in the Authorization header only: what is in a query ends up in logs. Under `mode = "jwt"` an
access token may come in its place, which counts as a key that its issuer made (`Statements`). A browser shows
instead the cookie that it got for a key (`cookies.py`), and since browsers send cookies along
without being asked, a change takes more then: a header that no foreign page can send, and the
`Origin` of a page of ours. Refusals of
callers without a good key are audited one by one up to `REFUSALS_PER_MINUTE` per address; the
rest is counted and written as one row when its minute is over, so that nobody can fill the
database by knocking. Addresses over `ADDRESSES` in a minute share one count.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from aiohttp import web

from rtobserver.clock import Clock
from rtobserver.errors import RequestError, StoreUnavailable
from rtobserver.metrics import Metrics
from rtobserver.store import keys
from rtobserver.store.audit import Audit
from rtobserver.store.database import Database
from rtobserver.store.keys import SCOPES, Key, Scope
from rtobserver.web import problems
from rtobserver.web.cookies import Cookies
from rtobserver.web.guesses import Guesses
from rtobserver.web.identities import bearer, user_of
from rtobserver.web.vigil import ACTOR_PREFIX

if TYPE_CHECKING:
    # loaded where there are any
    from rtobserver.web.access_tokens import AccessTokens

REFUSALS_PER_MINUTE = 10
ADDRESSES = 1000
CSRF_HEADER = "X-RTObserver-CSRF"
PAGE: web.RequestKey[bool] = web.RequestKey("page", bool)
"""Set on requests for pages."""
KEY: web.RequestKey[Key] = web.RequestKey("key", Key)
"""Who was let in."""
UNTIL: web.RequestKey[int] = web.RequestKey("until", int)
"""When the cookie or access token ends that somebody was let in by, in microseconds since 1970."""

KEY_PREFIX = "rto_"
"""What the text of every key begins with."""
_HARMLESS = frozenset({"GET", "HEAD"})
_OWN_SITES = frozenset({"same-origin", "none"})
"""What browsers send as Sec-Fetch-Site where a page of ours asks, or nobody but the person."""
_HEADER_ONLY = frozenset({"/metrics"})
"""Nothing there is for browsers."""

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class Statements:
    """Let in whom an access token names, with the scopes that it lists (`mode = "jwt"`)."""

    def __init__(self, tokens: AccessTokens, *, user_claim: str, scope_claim: str) -> None:
        self._tokens = tokens
        self._user_claim, self._scope_claim = user_claim, scope_claim

    async def key(self, text: str) -> Key | None:
        """Give what a token says in the words of a key; None where it is not to be believed, or names nobody.

        Raises:
            RequestError: 503, that cannot be told now.

        """
        try:
            believed = await self._tokens.read(text)
            user = user_of(self._tokens, believed.claims, self._user_claim)
        except RequestError as refusal:
            if refusal.status != 401:
                raise
            return None
        return Key(
            key_id=f"{ACTOR_PREFIX}{user}",
            name=user,
            scopes=_scopes(believed.claims.get(self._scope_claim)),
            created_at=0,
            expires_at=believed.until,
            revoked_at=None,
        )


@dataclass(slots=True)
class _Knocks:
    minute_ends: float
    written: int = 0
    counted: int = 0


class Bearer:
    """Check the key of each request to one listener."""

    def __init__(
        self,
        *,
        database: Database,
        audit: Audit,
        clock: Clock,
        metrics: Metrics,
        cookies: Cookies | None = None,
        is_own: Callable[[web.BaseRequest], bool] = lambda _: False,
        tokens: Statements | None = None,
    ) -> None:
        self._database = database
        self._audit = audit
        self._clock = clock
        self._metrics = metrics
        self._cookies = cookies
        self._is_own = is_own
        self._tokens = tokens
        self._knocks: dict[str, _Knocks] = {}
        self._guesses = Guesses(clock)
        self._for_figures: dict[bytes, Key] = {}

    async def admit(self, request: web.Request, scope: Scope) -> Key:
        """Give the key that the request presents, if it is good for the scope.

        Raises:
            RequestError: 401 without a good key, 429 after too many wrong ones, 403 where it lacks the scope, or comes
                as a cookie with a change that no page of ours has asked for; 503, access tokens cannot be checked now.
            StoreUnavailable: keys cannot be read now; not for figures, if the key was good when they could be.

        """
        await self._write_counted(lambda knocks: knocks.minute_ends <= self._clock.mono())
        try:
            key = await self.find(request)
        except StoreUnavailable:
            key = self._remembered(request) if scope == "metrics" else None
            if key is None:
                raise
        if key is None:
            # who only has not signed in yet is not turned away
            if not (request.get(PAGE) and self._shows_nothing(request)):
                await self.refuse(request)
            raise RequestError(401, "no_key", "This needs a key: Authorization: Bearer rto_...")
        request[KEY] = key
        if "Authorization" not in request.headers:
            self._check_change(request)
        if scope == "metrics" and key.allows(scope) and not key.key_id.startswith(ACTOR_PREFIX):
            self._for_figures[_digest(request)] = key
        if not key.allows(scope):
            self._metrics.audit_refusals.labels("yes").inc()
            await self._audit.record(
                action=f"refused {scope}",
                object_=problems.route_of(request),
                status=403,
                actor=key.key_id,
                address=request.remote or "",
                request_id=problems.request_id(request),
            )
            raise RequestError(403, "scope_missing", f"This key has no scope `{scope}`.")
        return key

    def _remembered(self, request: web.Request) -> Key | None:
        """Give the key that has had figures before: that the database is away is told by them."""
        key = self._for_figures.get(_digest(request))
        return key if key is not None and key.is_good(self._clock.now_us()) else None

    async def find(self, request: web.Request) -> Key | None:
        """Give the key that the request presents, if it is good now. A header counts before a cookie.

        Raises:
            RequestError: 429, too much from there was wrong; 503, access tokens cannot be checked now.
            StoreUnavailable: keys cannot be read now.

        """
        if "Authorization" not in request.headers:
            return await self._find_by_cookie(request)
        text = bearer(request)
        if not text:
            return None
        return await self.look(request, text)

    async def look(self, request: web.Request, text: str) -> Key | None:
        """Give the key that somebody presents as a text, if it is good now.

        Raises:
            RequestError: 429, too much from there was wrong; 503, access tokens cannot be checked now.
            StoreUnavailable: keys cannot be read now.

        """
        address = _network(request.remote)
        self._guesses.check(address, text)
        if self._tokens is None or text.startswith(KEY_PREFIX):
            key = await keys.verify(self._database, text, now_us=self._clock.now_us())
        else:
            key = await self._tokens.key(text)
            if key is not None and key.expires_at is not None:
                request[UNTIL] = key.expires_at
        if key is None:
            self._guesses.was_wrong(address, text)
        else:
            self._guesses.was_good(text)
        return key

    async def _find_by_cookie(self, request: web.Request) -> Key | None:
        if self._cookies is None or request.path in _HEADER_ONLY or _is_embedded(request):
            return None
        now_us = self._clock.now_us()
        login = self._cookies.read(request, now_us=now_us)
        if login is None:
            return None
        request[UNTIL] = login.expires_at
        return await keys.find(self._database, login.key_id, now_us=now_us)

    def _shows_nothing(self, request: web.Request) -> bool:
        return "Authorization" not in request.headers and (
            self._cookies is None or self._cookies.name(request) not in request.cookies
        )

    def _check_change(self, request: web.Request) -> None:
        """Let a change by cookie pass only where a script of our own has asked for it."""
        if request.method in _HARMLESS:
            return
        if not request.headers.get(CSRF_HEADER) or not self._is_own(request):
            raise RequestError(
                403,
                "csrf_header_missing",
                f"Who is signed in by cookie can change things from our own pages only: send `{CSRF_HEADER}`.",
            )

    async def close(self) -> None:
        """Write what was only counted."""
        await self._write_counted(lambda _: True)

    async def refuse(self, request: web.Request) -> None:
        """Write down that somebody without a good key was not let in, or only count it."""
        await self._write_counted(lambda knocks: knocks.minute_ends <= self._clock.mono())
        address = _network(request.remote)
        if address not in self._knocks and len(self._knocks) >= ADDRESSES:
            address = "others"
        knocks = self._knocks.setdefault(address, _Knocks(self._clock.mono() + 60.0))
        if knocks.written >= REFUSALS_PER_MINUTE:
            knocks.counted += 1
            self._metrics.audit_refusals.labels("no").inc()
            return
        knocks.written += 1
        self._metrics.audit_refusals.labels("yes").inc()
        await self._write(
            object_=problems.route_of(request), address=request.remote or "", request_id=problems.request_id(request)
        )

    async def _write_counted(self, due: Callable[[_Knocks], bool]) -> None:
        for address in [address for address, knocks in self._knocks.items() if due(knocks)]:
            # taken out before the wait, so that no other request writes the same
            knocks = self._knocks.pop(address)
            if knocks.counted:
                await self._write(object_="", address=address, request_id="", count=knocks.counted)

    async def _write(self, *, object_: str, address: str, request_id: str, count: int = 1) -> None:
        try:
            await self._audit.record(
                action="refused", object_=object_, status=401, address=address, request_id=request_id, count=count
            )
        except StoreUnavailable:
            # nothing is given away by a refusal that is not written down, and 401 is the true answer
            _log.warning("refusal_not_audited", count=count)


def is_link(request: web.BaseRequest) -> bool:
    """Say whether somebody goes to an address with the whole tab, as a browser tells it."""
    return request.headers.get("Sec-Fetch-Mode") == "navigate" and request.headers.get("Sec-Fetch-Dest") == "document"


def _is_embedded(request: web.Request) -> bool:
    """Say whether a page of another origin asks, other than by a link to one of our pages.

    `SameSite` lets another port of our own host through, since ports make no site.
    """
    if request.headers.get("Sec-Fetch-Site", "none") in _OWN_SITES:
        return False
    return not (is_link(request) and request.get(PAGE))


def _scopes(claim: object) -> frozenset[str]:
    """Read scopes, which issuers write as one text or as a list; words that are none of ours are other APIs'."""
    words = claim.split() if isinstance(claim, str) else claim if isinstance(claim, list) else []
    return frozenset(word for word in words if isinstance(word, str) and word in SCOPES)


def _digest(request: web.BaseRequest) -> bytes:
    return hashlib.sha256(bearer(request).encode("utf-8", "surrogateescape")).digest()


def _network(remote: str | None) -> str:
    try:
        address = ipaddress.ip_address(remote or "")
    except ValueError:
        return ""
    # a caller has a whole /64 of IPv6 addresses to itself
    return str(ipaddress.ip_network(f"{address}/64", strict=False) if address.version == 6 else address)
