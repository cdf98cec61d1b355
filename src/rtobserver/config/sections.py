"""Every setting as a frozen dataclass: one class per TOML table, one field per key.

Pure: reads no file, no environment and no clock (`config/load.py` does). The fields' annotations
are what the loader goes by: `Seconds` is written as a duration ("250ms", "20s", "30m", "7d"),
`Bytes` as a size ("64KiB"), a `Secret` can also come from `KEY_env` and `KEY_file`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NewType

Seconds = NewType("Seconds", float)
"""A duration in seconds."""
Bytes = NewType("Bytes", int)
"""A size in bytes."""
FilePath = NewType("FilePath", str)
"""A path in the file system; the loader has made it absolute, empty stands for none."""


class Secret:
    """Hold a value that is never printed."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Give the value, to whoever must send or use it."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """Say where the Realtime API is and how to prove who we are."""

    provider: Literal["azure", "openai", "compatible"]
    base_url: str
    """Up to and including `/openai/v1` or `/v1`; https, or http to a loopback address."""
    auth: Literal["entra", "api-key"]
    api_key: Secret | None = None
    scope: str = "https://cognitiveservices.azure.com/.default"
    """Token scope asked of Entra."""
    secret_ttl: Seconds = Seconds(60.0)
    """Life of the client secret that is minted for each call; upstream takes 10 s to 2 h."""
    proxy: str = ""
    """HTTP proxy for requests to upstream; environment proxies are never used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicAuth:
    """Say how the browser side learns who calls."""

    mode: Literal["none", "jwt", "forwarded"] = "none"
    """`none` is for loopback addresses only."""
    issuer: str = ""
    audience: str = ""
    jwks_url: str = ""
    secret: Secret | None = None
    algorithms: tuple[str, ...] = ("RS256",)
    user_claim: str = "sub"
    label_claims: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    user_header: str = "X-Forwarded-User"


@dataclass(frozen=True, slots=True, kw_only=True)
class Public:
    """Set up the listener that browsers talk to."""

    host: str = "127.0.0.1"
    port: int = 8080
    """0 picks a free one."""
    base_url: str = ""
    """Origin as browsers see it when a proxy stands before us; no path."""
    allowed_origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    """Besides the loopback names and `base_url`'s host."""
    token_mode: Literal["sealed", "passthrough", "off"] = "sealed"  # noqa: S105 - the name of a mode
    token_ttl: Seconds = Seconds(600.0)
    token_key: Secret | None = None
    """32 random bytes in base64url; required with PostgreSQL, else made once and kept in the store."""
    static_dir: FilePath = FilePath("")
    max_body: Bytes = Bytes(64 * 1024)
    auth: PublicAuth = field(default_factory=PublicAuth)


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorAuth:
    """Say how operators prove who they are."""

    mode: Literal["keys", "jwt"] = "keys"
    issuer: str = ""
    audience: str = ""
    jwks_url: str = ""
    secret: Secret | None = None
    algorithms: tuple[str, ...] = ("RS256",)
    user_claim: str = "sub"
    scope_claim: str = "scope"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """Set up the listener that operators and programs talk to."""

    host: str = "127.0.0.1"
    port: int = 8081
    base_url: str = ""
    allowed_hosts: tuple[str, ...] = ()
    auth: OperatorAuth = field(default_factory=OperatorAuth)


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """Say where the recordings are kept."""

    url: str = "sqlite:///rtobserver.db"
    """`sqlite:///PATH` (relative to the config file) or `postgresql://user@host/db`."""
    durability: Literal["full", "normal"] = "full"
    """`full` syncs each flush to disk; `normal` may lose the last flushes at a power loss."""
    migrate_on_start: bool = True
    journal_dir: FilePath = FilePath("journal")
    distribution: Literal["none", "citus"] = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """Say what of a call is kept."""

    audio: Literal["strip", "keep"] = "strip"
    redact: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Observer:
    """Set the patience of the observers."""

    attach_timeout: Seconds = Seconds(30.0)
    idle_probe: Seconds = Seconds(60.0)
    """A call without an event for this long is probed by a second attach."""
    lease_ttl: Seconds = Seconds(10.0)
    max_frame: Bytes = Bytes(32 * 1024 * 1024)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bound what callers may start; 0 is no limit."""

    concurrent_calls_per_user: int = 0
    connects_per_minute_per_user: int = 0
    concurrent_calls: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """Say how long recordings are kept."""

    entries: Seconds = Seconds(30 * 86400.0)
    calls: Seconds = Seconds(365 * 86400.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pricing:
    """Say what tokens cost."""

    file: FilePath = FilePath("")
    """Own price table; the built-in one is dated."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Deployment name -> model name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Name a session configuration that callers may ask for."""

    name: str
    max_duration: Seconds = Seconds(1800.0)
    """A call that is older is hung up; 0 is no limit (upstream ends it after 60 minutes)."""
    on_unobserved: Literal["continue", "hang_up"] = "continue"
    on_shutdown: Literal["leave", "hang_up"] = "leave"
    webrtcfilter: Literal["on", "off", "client"] = "client"
    client_session_keys: tuple[str, ...] = ()
    """Dotted keys that a browser's session part may set."""
    session: Mapping[str, Any] = field(default_factory=dict)
    """Sent to `client_secrets` as it stands."""

    @property
    def model(self) -> str:
        """Give the session's model (on Azure: the deployment name)."""
        return str(self.session.get("model", ""))


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """Name an address that policies may notify."""

    id: str
    url: str
    secret: Secret | None = None
    allow_http: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Hold the whole configuration; only `cli` and `daemon` see it."""

    upstream: Upstream
    profiles: tuple[Profile, ...]
    """In file order, at least one; written as `[[profile]]`."""
    public: Public = field(default_factory=Public)
    operator: Operator = field(default_factory=Operator)
    store: Store = field(default_factory=Store)
    recording: Recording = field(default_factory=Recording)
    observer: Observer = field(default_factory=Observer)
    limits: Limits = field(default_factory=Limits)
    retention: Retention = field(default_factory=Retention)
    pricing: Pricing = field(default_factory=Pricing)
    webhooks: tuple[Webhook, ...] = ()
    """Written as `[[webhook]]`."""
    path: FilePath = FilePath("")
    """The file it was read from; relative paths have been resolved against its folder."""

    def profile(self, name: str) -> Profile | None:
        """Find a profile by its name."""
        return next((profile for profile in self.profiles if profile.name == name), None)

    @property
    def default_profile(self) -> Profile:
        """Give the profile named `default`, or the first one."""
        return self.profile("default") or self.profiles[0]
