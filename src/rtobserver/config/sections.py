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
    """Decides headers and paths; `compatible` is anything that speaks the GA calls protocol."""
    base_url: str
    """Up to and including `/openai/v1` or `/v1`; https, or http to a loopback address."""
    auth: Literal["entra", "api-key"]
    """Not `entra` with `openai`."""
    api_key: Secret | None = None
    """Needed with `api-key`; with `entra` its `_env` and `_file` twins are not looked at."""
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
    """`iss` of the tokens, to the letter."""
    audience: str = ""
    """`aud` of the tokens."""
    jwks_url: str = ""
    """Where the issuer publishes its keys; https, or http to a loopback address. Or `secret`, not both."""
    secret: Secret | None = None
    """Shared key of at least 32 bytes, for HS algorithms only."""
    algorithms: tuple[str, ...] = ("RS256",)
    """Accepted signatures; never `none`."""
    user_claim: str = "sub"
    """Claim that names the user."""
    label_claims: tuple[str, ...] = ()
    """Claims that become labels of the call, under their own names; no caller can set these labels itself."""
    trusted_proxies: tuple[str, ...] = ()
    """Networks in CIDR notation whose `user_header` is believed."""
    user_header: str = "X-Forwarded-User"
    """Header that the proxy puts the user in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Public:
    """Set up the listener that browsers talk to."""

    host: str = "127.0.0.1"
    """Name or IP address to bind to, without port or brackets."""
    port: int = 8080
    """0 picks a free one."""
    base_url: str = ""
    """Origin as browsers see it when a proxy stands before us; no path."""
    allowed_origins: tuple[str, ...] = ()
    """Exact origins besides our own, as browsers send them: `scheme://host[:port]`."""
    allowed_hosts: tuple[str, ...] = ()
    """Besides the loopback names and `base_url`'s host."""
    token_mode: Literal["sealed", "passthrough", "off"] = "sealed"  # noqa: S105 - the name of a mode
    """`sealed` gives out our tokens, `passthrough` upstream's secrets (such calls are not observed), `off` none."""
    token_ttl: Seconds = Seconds(600.0)
    """Life of a sealed token; it opens any number of calls until then."""
    token_key: Secret | None = None
    """32 random bytes in base64url; required with PostgreSQL, else made once and kept in the store."""
    static_dir: FilePath = FilePath("")
    """Folder of a web app to serve at `/`; empty for none."""
    max_body: Bytes = Bytes(64 * 1024)
    """Largest request, counted on the wire."""
    auth: PublicAuth = field(default_factory=PublicAuth)


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorAuth:
    """Say how operators prove who they are."""

    mode: Literal["keys", "jwt"] = "keys"
    """`keys` are made by `rtobserver keys create`; with `jwt` they are good too, where there are any."""
    issuer: str = ""
    """`iss` of the tokens, to the letter."""
    audience: str = ""
    """`aud` of the tokens."""
    jwks_url: str = ""
    """Where the issuer publishes its keys. Or `secret`, not both."""
    secret: Secret | None = None
    """Shared key of at least 32 bytes, for HS algorithms only."""
    algorithms: tuple[str, ...] = ("RS256",)
    """Accepted signatures; never `none`."""
    user_claim: str = "sub"
    """Claim that names the operator."""
    scope_claim: str = "scope"
    """Claim that lists the scopes: a text with spaces, or a list of texts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """Set up the listener that operators and programs talk to."""

    host: str = "127.0.0.1"
    """Name or IP address to bind to, without port or brackets."""
    port: int = 8081
    """0 picks a free one."""
    base_url: str = ""
    """Origin as people see it when a proxy stands before us; no path."""
    allowed_hosts: tuple[str, ...] = ()
    """Besides the loopback names and `base_url`'s host."""
    auth: OperatorAuth = field(default_factory=OperatorAuth)


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """Say where the recordings are kept."""

    url: str = "sqlite:///rtobserver.db"
    """`sqlite:///` and an absolute path (the loader made it so), or `postgresql://user@host/db`."""
    durability: Literal["full", "normal"] = "full"
    """`full` syncs each flush to disk; `normal` may lose the last flushes at a power loss."""
    migrate_on_start: bool = True
    """Bring an older schema up to date at start; else `rtobserver migrate` must."""
    journal_dir: FilePath = FilePath("journal")
    """Where rows wait while PostgreSQL is away; SQLite has no use for it."""
    journal_max: Bytes = Bytes(16 * 1024**3)
    """Once the journal takes so much, only what must not be lost is recorded; PostgreSQL only."""
    journal_min_free: Bytes = Bytes(256 * 1024**2)
    """The same once its disk has less than this free; PostgreSQL only."""
    distribution: Literal["none", "citus"] = "none"
    """`citus` makes `migrate` distribute the tables of calls; PostgreSQL only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """Say what of a call is kept."""

    audio: Literal["strip", "keep"] = "strip"
    """`strip` puts size and hash in place of audio, `keep` stores it."""
    redact: tuple[str, ...] = ()
    """Names of patterns whose matches are blanked before storage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observer:
    """Set the patience of the observers."""

    attach_timeout: Seconds = Seconds(30.0)
    """How long attaching to a call is tried."""
    idle_probe: Seconds = Seconds(60.0)
    """A call without an event for this long is probed by a second attach."""
    lease_ttl: Seconds = Seconds(10.0)
    """How long a replica's claim to its calls lasts without renewal."""
    max_frame: Bytes = Bytes(32 * 1024 * 1024)
    """Largest message taken from upstream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bound what callers may start; 0 is no limit."""

    concurrent_calls_per_user: int = 0
    """Calls at one time of one user; those without an identity are one user together."""
    connects_per_minute_per_user: int = 0
    """Negotiations begun in a minute by one user."""
    concurrent_calls: int = 0
    """Calls at one time in all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """Say how long recordings are kept."""

    entries: Seconds = Seconds(30 * 86400.0)
    """For entries, transcript items and the search index; not longer than `calls`."""
    calls: Seconds = Seconds(365 * 86400.0)
    """For everything else of a call."""


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
    """Unique; letters, digits, hyphens and underscores. `default` is taken where no profile is asked for."""
    max_duration: Seconds = Seconds(1800.0)
    """A call that is older is hung up; 0 is no limit (upstream ends it after 60 minutes)."""
    on_unobserved: Literal["continue", "hang_up"] = "continue"
    """What to do with a call that cannot be observed."""
    on_shutdown: Literal["leave", "hang_up"] = "leave"
    """What becomes of live calls when the daemon stops."""
    webrtcfilter: Literal["on", "off", "client"] = "client"
    """Whether upstream sends the browser a reduced set of events; `client` lets the browser say."""
    client_session_keys: tuple[str, ...] = ()
    """Dotted keys that a browser's session part may set; never `model` or `type`."""
    session: Mapping[str, Any] = field(default_factory=dict)
    """Sent to `client_secrets` as it stands; holds at least `type` and `model`."""

    @property
    def model(self) -> str:
        """Give the session's model (on Azure: the deployment name)."""
        return str(self.session.get("model", ""))


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """Name an address that policies may notify."""

    id: str
    """Unique; what a policy calls it."""
    url: str
    """https, or http to a loopback address or with `allow_http`."""
    secret: Secret | None = None
    """Signs what is sent (Standard Webhooks)."""
    allow_http: bool = False
    """Take an address without TLS."""


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
    """The file it was read from; a relative path was resolved against the folder of the file that it stood in."""

    def profile(self, name: str) -> Profile | None:
        """Find a profile by its name."""
        return next((profile for profile in self.profiles if profile.name == name), None)

    @property
    def default_profile(self) -> Profile:
        """Give the profile named `default`, or the first one."""
        return self.profile("default") or self.profiles[0]
