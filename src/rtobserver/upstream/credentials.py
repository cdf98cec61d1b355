"""Prove to upstream who we are: with an API key, or with a token from Entra.

`azure.identity` is imported when the first token is needed and not before, in a thread: it costs
most of a second of CPU, and key users never pay it. No message raised here repeats what a token
endpoint said, since such bodies may hold what was sent.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import structlog

from rtobserver.clock import Clock
from rtobserver.config.sections import Secret, Upstream
from rtobserver.errors import CredentialError

EARLY = 300.0
"""Seconds before its end that a token is replaced (protocol.md 1.3)."""
REFRESH_SPACING = 60.0
"""Seconds between two refreshes that callers ask for, so that a storm of 401s makes one."""
RETRY_SPACING = 30.0
"""Seconds between two attempts to replace a token that still works."""

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)
_AADSTS = re.compile(r"AADSTS\d{4,8}", re.ASCII)
_TRIED = re.compile(r"^\s*([A-Z]\w+Credential):", re.ASCII | re.MULTILINE)


class Credentials(Protocol):
    """Give the headers that authenticate a request to upstream."""

    async def headers(self) -> dict[str, str]:
        """Give the headers.

        Raises:
            CredentialError: No credential could be had.
        """

    async def refresh(self) -> None:
        """Forget what is cached, because upstream refused it; at most once a minute."""

    async def close(self) -> None:
        """Give back connections."""


class GivenToken(Protocol):
    """Describe what the library gives."""

    @property
    def token(self) -> str:
        """Give the token itself."""

    @property
    def expires_on(self) -> int:
        """Give the end of its life in unix seconds."""


class TokenSource(Protocol):
    """Describe as much of the library's credentials as is used here."""

    async def get_token(self, scope: str, /) -> GivenToken:
        """Give a token, from its own cache or from Entra."""

    async def close(self) -> None:
        """Give back connections."""


class ApiKey:
    """Send a fixed key: as `api-key` to Azure, as a bearer to the others."""

    def __init__(self, provider: str, secret: Secret) -> None:
        self._name, self._prefix = ("api-key", "") if provider == "azure" else ("Authorization", "Bearer ")
        self._secret = secret

    async def headers(self) -> dict[str, str]:
        """Give the key's header."""
        return {self._name: self._prefix + self._secret.reveal()}

    async def refresh(self) -> None:
        """Do nothing: a key has no second version."""

    async def close(self) -> None:
        """Do nothing."""


def _default_credential(proxy: str) -> TokenSource:
    from azure.identity.aio import DefaultAzureCredential

    proxies = {"https": proxy} if proxy else None
    return DefaultAzureCredential(use_env_settings=False, proxies=proxies)


@dataclass(frozen=True, slots=True)
class _Token:
    value: Secret
    due_mono: float
    """When it should be replaced."""
    ends_mono: float
    """When it must have been; on the monotonic clock, so that a wall clock that jumps does not end it."""


class Entra:
    """Send a token that Entra gives to this machine's identity.

    Which identity, is up to `DefaultAzureCredential` and the AZURE_* variables that it honours;
    proxies of the environment are not. `proxy` serves https token endpoints only: those of managed
    identities are on the machine itself.
    """

    def __init__(
        self,
        scope: str,
        clock: Clock,
        *,
        proxy: str = "",
        timeout: float = 10.0,
        patience: float = 3.0,
        source: Callable[[str], TokenSource] = _default_credential,
    ) -> None:
        self._scope = scope
        self._clock = clock
        self._proxy = proxy
        self._timeout = timeout
        """Seconds for a token without which nothing can go on."""
        self._patience = patience
        """Seconds for the replacement of a token that still works."""
        self._make = source
        self._lock = asyncio.Lock()
        self._source: TokenSource | None = None
        self._token: _Token | None = None
        self._rejected = False
        self._refreshed_mono = float("-inf")
        self._retry_mono = float("-inf")
        self._failure: CredentialError | None = None
        self._failed_mono = float("-inf")

    async def headers(self) -> dict[str, str]:
        """Give a bearer header; one caller fetches a token, all others wait for it or use the old one.

        Raises:
            CredentialError: There is no token that works and none could be had.
        """
        return {"Authorization": f"Bearer {(await self._current()).value.reveal()}"}

    async def refresh(self) -> None:
        """Make the next request fetch another token, past the library's own cache.

        The token in hand is kept for the case that none can be had: upstream may have refused it by
        mistake, and a refusal says more than our not asking.
        """
        now = self._clock.mono()
        if now - self._refreshed_mono < REFRESH_SPACING:
            return
        self._refreshed_mono = now
        self._rejected = True
        self._retry_mono = float("-inf")

    async def close(self) -> None:
        """Close the library's connections."""
        source, self._source = self._source, None
        if source is not None:
            await source.close()

    async def _current(self) -> _Token:
        asked_mono = self._clock.mono()
        token = self._token
        if token is not None and not self._is_due(token, asked_mono):
            return token
        # Nobody waits for a replacement while the token in hand is good.
        if token is not None and self._works(token, asked_mono) and self._lock.locked() and not self._rejected:
            return token
        async with self._lock:
            now = self._clock.mono()
            token = self._token
            if token is not None and not self._is_due(token, now):
                return token
            if self._failure is not None and self._failed_mono >= asked_mono:
                raise CredentialError(str(self._failure))
            return await self._replace(token, now)

    async def _replace(self, old: _Token | None, now: float) -> _Token:
        spare = old if old is not None and self._works(old, now) else None
        try:
            token = await self._fetch(self._patience if spare is not None else self._timeout)
        except CredentialError as exc:
            if spare is not None:
                self._rejected, self._retry_mono = False, now + RETRY_SPACING
                _log.warning("token_not_replaced", problem=str(exc), seconds_left=round(spare.ends_mono - now))
                return spare
            self._failure, self._failed_mono = exc, self._clock.mono()
            raise
        self._token, self._failure, self._rejected = token, None, False
        return token

    async def _fetch(self, timeout: float) -> _Token:
        try:
            async with asyncio.timeout(timeout):
                if self._rejected:
                    # The library would give the same token out of its own cache.
                    await self.close()
                if self._source is None:
                    self._source = await asyncio.to_thread(self._make, self._proxy)
                got = await self._source.get_token(self._scope)
        except TimeoutError:
            raise CredentialError(f"no token for {self._scope} within {timeout:g} s") from None
        except Exception as exc:  # noqa: BLE001 - the library raises its own classes, azure-core's and built-in ones
            # The cause is cut off: its text quotes the token endpoint's answer.
            raise CredentialError(f"no token for {self._scope}: {_gist(exc)}") from None
        if not _fits_header(got.token):
            raise CredentialError(f"the token for {self._scope} holds what no header can")
        now, life = self._clock.mono(), got.expires_on - self._clock.now_us() / 1e6
        # A token that is shorter than the margin would otherwise be fetched for each request.
        return _Token(Secret(got.token), now + life - min(EARLY, life / 2), now + life)

    def _is_due(self, token: _Token, now: float) -> bool:
        if not self._works(token, now):
            return True
        return (self._rejected or now >= token.due_mono) and now >= self._retry_mono

    @staticmethod
    def _works(token: _Token, now: float) -> bool:
        return now < token.ends_mono


def credentials_for(section: Upstream, clock: Clock) -> Credentials:
    """Choose the credentials that the configuration asks for.

    Raises:
        CredentialError: An API key is asked for, and there is none or none that can be sent.
    """
    if section.auth == "entra":
        return Entra(section.scope, clock, proxy=section.proxy)
    if section.api_key is None:
        raise CredentialError("no API key is configured for upstream")
    if not _fits_header(section.api_key.reveal()):
        raise CredentialError("the API key for upstream is empty or holds what no header can")
    return ApiKey(section.provider, section.api_key)


def _fits_header(value: str) -> bool:
    return bool(value) and value.isascii() and value.isprintable() and " " not in value


def _gist(exc: Exception) -> str:
    """Say what went wrong by names and numbers only."""
    text = ""
    with suppress(Exception):
        text = str(exc)
    facts = [type(exc).__name__, *dict.fromkeys(_AADSTS.findall(text))]
    if tried := list(dict.fromkeys(_TRIED.findall(text))):
        facts.append(f"tried {', '.join(tried)}")
    return "; ".join(facts)
