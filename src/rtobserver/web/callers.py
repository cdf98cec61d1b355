"""Find out whom a request is for: a sealed token, an identity, or anybody, and with which profile.

Also makes the tokens, so that all that is sealed in and all that is believed of it later stand in
one place. An upstream secret or an API key that a caller presents is never forwarded.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog
from aiohttp import web

from rtobserver.clock import Clock
from rtobserver.config.sections import Profile
from rtobserver.errors import RequestError
from rtobserver.negotiation import Caller
from rtobserver.realtime import session as session_part
from rtobserver.web.access import is_plain
from rtobserver.web.identities import LABEL_CAP, Identity, Person, bearer
from rtobserver.web.sealed import PREFIX, Grant, GrantTooLarge, Sealer

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_KEY_PREFIX = "rto_"
_LABEL_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LABEL_COUNT = 16
_NAMED_CAP = 1_000
_NAMED_LENGTH = 100


@dataclass(frozen=True, slots=True)
class Token:
    """Be a sealed token as it is given out."""

    value: str
    expires_at: int
    """Unix seconds."""
    session: Mapping[str, Any] | None
    """What of the browser's session was sealed in."""


class Callers:
    """Know profiles, identities and tokens."""

    def __init__(
        self,
        *,
        profiles: tuple[Profile, ...],
        default: Profile,
        identity: Identity,
        sealer: Sealer,
        clock: Clock,
        token_ttl: float,
    ) -> None:
        self._profiles = {profile.name: profile for profile in profiles}
        self._default = default
        self._identity = identity
        self._sealer = sealer
        self._clock = clock
        self._token_ttl = token_ttl
        self._named: set[tuple[str, str]] = set()

    async def identified(self, request: web.Request, *, profile: str | None, labels: str | None) -> Caller:
        """Tell whom a request is for by its identity alone.

        Raises:
            RequestError: 401 without the identity that the mode asks for, 400 for an unknown profile or bad labels,
                503 where identities cannot be checked now.

        """
        self._presented(request)
        person = await self._identity.person(request)
        return Caller(
            user=person.user,
            profile=self._profile(profile),
            labels=self._labels(read_labels(labels) if labels else {}, person),
        )

    async def admitted(self, request: web.Request, *, profile: str | None, labels: str | None) -> Caller:
        """Tell whom a request is for by its sealed token, or else as `identified` does.

        Raises:
            RequestError: as `identified`; also 401 for a token that is not ours or has expired, and
                400 for a profile that is not the token's.

        """
        grant = self._presented(request)
        if grant is None:
            return await self.identified(request, profile=profile, labels=labels)
        if profile is not None and profile != grant.profile:
            raise RequestError(400, "profile_not_of_token", "The token was made for another profile.")
        sealed = self._profiles.get(grant.profile)
        if sealed is None:
            raise RequestError(401, "invalid_token", "The token's profile is no more.")
        return Caller(
            profile=sealed,
            user=grant.user,
            labels=grant.labels,
            token_id=grant.token_id,
            session=grant.session,
        )

    async def check_identity(self, request: web.Request) -> None:
        """Refuse a request that lacks its identity before anything else of it is looked at.

        Raises:
            RequestError: 401; 503 where identities cannot be checked now.

        """
        self._presented(request)
        await self._identity.person(request)

    async def check_admission(self, request: web.Request) -> None:
        """Refuse a request that has neither token nor identity before anything else of it is looked at.

        Raises:
            RequestError: 401; 503 where identities cannot be checked now.

        """
        if self._presented(request) is None:
            await self._identity.person(request)

    async def owner(self, request: web.Request) -> tuple[str | None, str | None]:
        """Tell which token, else which user, claims a call as its own; both None for anybody.

        A sealed token that has expired still speaks for the calls that it opened.

        Raises:
            RequestError: 503, identities cannot be checked now.

        """
        shown = bearer(request)
        if shown.startswith((PREFIX, _KEY_PREFIX)):
            grant = self._sealer.open(shown)
            return (grant.token_id if grant else None), None
        try:
            return None, (await self._identity.person(request)).user
        except RequestError as refusal:
            if refusal.status != 401:
                raise
            return None, None

    def seal(self, caller: Caller, *, session: Mapping[str, Any] | None = None, seconds: int | None = None) -> Token:
        """Make a token for a caller; `seconds` can only shorten its life.

        Raises:
            RequestError: 400, if labels and session do not fit into a token.

        """
        life = self._token_ttl if seconds is None else min(seconds, self._token_ttl)
        expires_at = int(self._clock.now_us() / 1_000_000 + life)
        grant = Grant(
            token_id=secrets.token_hex(12),
            profile=caller.profile.name,
            expires_at=expires_at,
            user=caller.user,
            labels=caller.labels,
            session=self._wishes(session, caller.profile),
        )
        try:
            return Token(self._sealer.seal(grant), expires_at, grant.session)
        except GrantTooLarge as error:
            raise RequestError(400, "too_much_for_a_token", "Labels and session are too long for a token.") from error

    def _presented(self, request: web.Request) -> Grant | None:
        shown = bearer(request)
        if not shown.startswith((PREFIX, _KEY_PREFIX)):
            return None
        grant = self._sealer.open(shown)
        if grant is None:
            raise RequestError(401, "invalid_token", "The token is not one of this server's.")
        if grant.has_expired(self._clock.now_us() / 1_000_000):
            raise RequestError(401, "expired_token", "The token has expired. Ask for a new one.")
        return grant

    def _labels(self, asked: Mapping[str, str], person: Person) -> Mapping[str, str]:
        # a claim that is missing is no leave to say it oneself
        own = {key: value for key, value in asked.items() if key not in self._identity.reserved}
        labels = {**own, **person.labels}
        if len(labels) > _LABEL_COUNT:
            raise RequestError(400, "invalid_labels", f"With your identity's there are over {_LABEL_COUNT} labels.")
        return labels

    def _profile(self, name: str | None) -> Profile:
        profile = self._default if name is None else self._profiles.get(name)
        if profile is None:
            raise RequestError(400, "unknown_profile", "There is no profile of that name.")
        return profile

    def _wishes(self, session: Mapping[str, Any] | None, profile: Profile) -> dict[str, Any] | None:
        # What no call could use need not travel in every request's header.
        if session is None:
            return None
        taken, dropped = session_part.admit(session, profile.client_session_keys)
        for key in dropped:
            if session_part.lookup(session, key) != session_part.lookup(profile.session, key):
                self._name_dropped(profile.name, key)
        return taken or None

    def _name_dropped(self, profile: str, key: str) -> None:
        # The keys come from outside, so that the set of those that were named must end somewhere.
        if (profile, key) not in self._named and len(self._named) < _NAMED_CAP and len(key) <= _NAMED_LENGTH:
            self._named.add((profile, key))
            _log.warning("session_key_dropped", profile=profile, name=key)


def read_labels(text: str) -> dict[str, str]:
    """Read labels from JSON.

    Raises:
        RequestError: 400 that says which rule they break.

    """
    try:
        labels = msgspec.json.decode(text.encode(), type=dict[str, str])
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise RequestError(400, "invalid_labels", "`labels` is a JSON object whose values are strings.") from error
    if len(labels) > _LABEL_COUNT:
        raise RequestError(400, "invalid_labels", f"There are more than {_LABEL_COUNT} labels.")
    for key, value in labels.items():
        if not _LABEL_KEY.fullmatch(key):
            raise RequestError(400, "invalid_labels", "A label's key has 1 to 64 letters, digits, `_` or `-`.")
        if value and not is_plain(value, LABEL_CAP):
            raise RequestError(
                400,
                "invalid_labels",
                f"A label's value has up to {LABEL_CAP} characters, no control characters.",
            )
    return labels
