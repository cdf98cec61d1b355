"""List what is checked beyond spelling: single settings in `VALUES`, settings against each other in `RULES`.

Pure; what needs the file system is in `places`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rtobserver.config import addresses, values
from rtobserver.config.sections import (
    Config,
    Limits,
    Observer,
    Operator,
    OperatorAuth,
    Profile,
    Public,
    PublicAuth,
    Retention,
    Store,
    Upstream,
    Webhook,
)
from rtobserver.config.storage import store_url
from rtobserver.errors import Mistake


@dataclass(frozen=True, slots=True)
class Rule:
    """Check settings of one section against each other."""

    looks_at: tuple[str, ...]
    """Keys without which the rule makes no sense; it is skipped where one of them is wrong by itself."""
    check: Callable[[Any], Iterator[Mistake]]
    """Gives mistakes with paths relative to the section."""


def _upstream_path(upstream: Upstream) -> Iterator[Mistake]:
    path = {"azure": "/openai/v1", "openai": "/v1"}.get(upstream.provider, "")
    host = addresses.host_of(upstream.base_url)
    if upstream.provider == "openai" and host.endswith(".azure.com"):
        yield Mistake("base_url", "is an address at Azure, but the provider is openai", 'write provider = "azure"')
    elif upstream.provider == "azure" and host == "api.openai.com":
        yield Mistake("base_url", "is OpenAI's address, but the provider is azure", 'write provider = "openai"')
    elif not upstream.base_url.endswith(path):
        yield Mistake("base_url", f"must end in {path}", "leave out /realtime and all that follows")


def _upstream_auth(upstream: Upstream) -> Iterator[Mistake]:
    if upstream.auth == "entra" and upstream.provider == "openai":
        yield Mistake("auth", "OpenAI takes no Entra tokens", 'write auth = "api-key"')
    if upstream.auth == "entra" and upstream.api_key is not None:
        yield Mistake("api_key", 'is given although auth is "entra"', 'leave it out, or write auth = "api-key"')
    if upstream.auth == "api-key" and upstream.api_key is None:
        yield Mistake("api_key", 'is missing, and auth is "api-key"', "write api_key_env or api_key_file")


def _jwt(auth: PublicAuth | OperatorAuth) -> Iterator[Mistake]:
    if auth.mode != "jwt":
        return
    for key in ("issuer", "audience"):
        if not getattr(auth, key):
            yield Mistake(key, 'is missing, and mode is "jwt"', "write what your identity provider puts in its tokens")
    if auth.secret is not None and auth.jwks_url:
        yield Mistake("secret", "is given beside jwks_url", "leave one of them out")
    elif auth.secret is None and not auth.jwks_url:
        yield Mistake("jwks_url", 'is missing, and mode is "jwt"', "write it, or secret_env or secret_file")
    elif auth.secret is None and any(algorithm.startswith("HS") for algorithm in auth.algorithms):
        yield Mistake(
            "algorithms", "HS algorithms need a secret, not jwks_url", "name the one that your issuer signs with"
        )
    elif auth.secret is not None and not all(algorithm.startswith("HS") for algorithm in auth.algorithms):
        yield Mistake("algorithms", "only HS algorithms work with a secret", 'write algorithms = ["HS256"]')
    elif auth.secret is not None and len(auth.secret.reveal().encode()) < 32:
        yield Mistake("secret", "is shorter than 32 bytes", "HS256 needs a key as long as its hash (RFC 7518)")


def _forwarded(auth: PublicAuth) -> Iterator[Mistake]:
    if auth.mode == "forwarded" and not auth.trusted_proxies:
        yield Mistake("trusted_proxies", 'is empty, and mode is "forwarded"', 'write it as in ["10.0.0.0/8"]')


def _open_only_to_this_machine(public: Public) -> Iterator[Mistake]:
    if public.auth.mode == "none" and not addresses.is_loopback(public.host):
        yield Mistake(
            "auth.mode",
            f'"none" lets everyone who reaches {public.host} spend your quota',
            'write "jwt" or "forwarded", or bind to 127.0.0.1',
        )


def _session(profile: Profile) -> Iterator[Mistake]:
    model, kind = profile.session.get("model"), profile.session.get("type", "realtime")
    if not isinstance(model, str) or not model.strip():
        problem = "is missing" if model is None else "must be a text that is not empty"
        yield Mistake("session.model", problem, "write the model's name; on Azure that of the deployment")
    if kind != "realtime":
        yield Mistake("session.type", 'must be "realtime"', "transcription sessions are not for calls")


def _webhook_url(webhook: Webhook) -> Iterator[Mistake]:
    try:
        addresses.outbound(webhook.url, allow_http=webhook.allow_http)
    except values.Wrong as wrong:
        yield Mistake("url", wrong.problem, wrong.remedy)


def _retention(retention: Retention) -> Iterator[Mistake]:
    if retention.entries > retention.calls:
        yield Mistake("entries", "are kept longer than their calls", "calls must be at least as long")


def _profile_names(config: Config) -> Iterator[Mistake]:
    yield from _twice("profile", "name", [profile.name for profile in config.profiles])


def _webhook_ids(config: Config) -> Iterator[Mistake]:
    yield from _twice("webhook", "id", [webhook.id for webhook in config.webhooks])


def _twice(table: str, key: str, found: list[str]) -> Iterator[Mistake]:
    for index, value in enumerate(found):
        # An empty one stands in for one that is wrong by itself.
        if value and value in found[:index]:
            first = found.index(value)
            yield Mistake(
                f"{table}[{index}].{key}", f'"{value}" is the {key} of {table}[{first}] too', "choose another"
            )


def _two_listeners(config: Config) -> Iterator[Mistake]:
    public, operator = config.public, config.operator
    same = public.host == operator.host or addresses.is_wildcard(public.host) or addresses.is_wildcard(operator.host)
    if public.port and public.port == operator.port and same:
        yield Mistake("operator.port", "is the public listener's too", "the two listeners never share an address")


def _shared_key(config: Config) -> Iterator[Mistake]:
    if config.store.url.startswith("postgresql:") and config.public.token_key is None:
        yield Mistake(
            "public.token_key",
            "is missing, and the store is PostgreSQL",
            "replicas must share it: write token_key_env or token_key_file",
        )


def _distribution(config: Config) -> Iterator[Mistake]:
    if config.store.distribution == "citus" and not config.store.url.startswith("postgresql:"):
        yield Mistake("store.distribution", '"citus" needs PostgreSQL', 'write "none"')


_POSITIVE = values.duration_within("1ms")
_LISTENER: Mapping[str, Callable[[Any], Any]] = {
    "host": addresses.host,
    "port": values.port,
    "base_url": addresses.optional_origin,
    "allowed_hosts": values.each(addresses.host),
}
_TOKENS: Mapping[str, Callable[[Any], Any]] = {
    "jwks_url": addresses.optional_outbound,
    "algorithms": values.algorithms,
    "user_claim": values.text,
}

VALUES: Mapping[type[Any], Mapping[str, Callable[[Any], Any]]] = {
    Upstream: {
        "base_url": addresses.upstream,
        "scope": values.text,
        "secret_ttl": values.duration_within("10s", "2h"),
        "proxy": addresses.proxy,
    },
    Public: {
        **_LISTENER,
        "allowed_origins": values.each(addresses.origin),
        "token_ttl": values.duration_within("1s"),
        "token_key": values.sealing_key,
        "max_body": values.size_at_least("1KiB"),
    },
    PublicAuth: {
        **_TOKENS,
        "label_claims": values.label_claims,
        "trusted_proxies": values.each(addresses.network),
        "user_header": values.header,
    },
    Operator: _LISTENER,
    OperatorAuth: {**_TOKENS, "scope_claim": values.text},
    Store: {
        "url": store_url,
        "journal_max": values.size_at_least("1MiB"),
        "journal_min_free": values.size_at_least("1MiB"),
    },
    Observer: {
        "attach_timeout": _POSITIVE,
        "idle_probe": _POSITIVE,
        "lease_ttl": values.duration_within("1s"),
        "max_frame": values.size_at_least("64KiB"),
    },
    Limits: {
        "concurrent_calls_per_user": values.limit,
        "connects_per_minute_per_user": values.limit,
        "concurrent_calls": values.limit,
    },
    Retention: {"entries": _POSITIVE, "calls": _POSITIVE},
    Profile: {"name": values.name, "client_session_keys": values.each(values.session_key)},
    Webhook: {"id": values.name},
}

RULES: Mapping[type[Any], tuple[Rule, ...]] = {
    Upstream: (
        Rule(("provider", "base_url"), _upstream_path),
        Rule(("provider", "auth", "api_key"), _upstream_auth),
    ),
    PublicAuth: (
        Rule(("mode", "issuer", "audience", "jwks_url", "secret", "algorithms"), _jwt),
        Rule(("mode", "trusted_proxies"), _forwarded),
    ),
    OperatorAuth: (Rule(("mode", "issuer", "audience", "jwks_url", "secret", "algorithms"), _jwt),),
    Public: (Rule(("host", "auth.mode"), _open_only_to_this_machine),),
    Profile: (Rule(("session",), _session),),
    Webhook: (Rule(("url", "allow_http"), _webhook_url),),
    Retention: (Rule(("entries", "calls"), _retention),),
    Config: (
        Rule((), _profile_names),
        Rule((), _webhook_ids),
        Rule(("public.host", "public.port", "operator.host", "operator.port"), _two_listeners),
        Rule(("store.url", "public.token_key"), _shared_key),
        Rule(("store.url", "store.distribution"), _distribution),
    ),
}
