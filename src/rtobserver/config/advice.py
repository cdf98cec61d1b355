"""Warn about a valid configuration where it will probably not do what was meant. Pure but for the models' table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from datetime import date, timedelta
from typing import Any

from rtobserver.config import addresses
from rtobserver.config.models import Retirement, retirements
from rtobserver.config.release import not_used
from rtobserver.config.sections import Config, OperatorAuth, Profile, PublicAuth
from rtobserver.errors import Mistake

_SOON = timedelta(days=90)
_UPSTREAM_LIMIT_SECONDS = 3600


def warnings(config: Config, today: date) -> list[Mistake]:
    """Give what `check-config` should point out; none of it keeps the daemon from starting."""
    table = retirements()
    found = list(_upstream(config))
    for index, profile in enumerate(config.profiles):
        found += _profile(config, profile, f"profile[{index}]", table, today)
    found += _listeners(config)
    found += _without_effect("public.auth", config.public.auth)
    found += _without_effect("operator.auth", config.operator.auth)
    return [*found, *not_used(config)]


def _upstream(config: Config) -> Iterator[Mistake]:
    if addresses.host_of(config.upstream.base_url) == "resource.openai.azure.com":
        yield Mistake("upstream.base_url", "is still the example's", "put your resource's name in place of RESOURCE")
    if config.public.token_mode == "passthrough":  # noqa: S105 - the name of a mode
        yield Mistake(
            "public.token_mode",
            "calls made with a passed-through secret go past us: they are neither observed nor recorded",
            'write "sealed" to see them',
        )


def _profile(config: Config, profile: Profile, path: str, table: list[Retirement], today: date) -> Iterator[Mistake]:
    models = {"session.model": profile.model}
    transcription = _inside(profile.session, "audio", "input", "transcription", "model")
    if isinstance(transcription, str):
        models["session.audio.input.transcription.model"] = transcription
    for key, name in models.items():
        yield from _retired(config, f"{path}.{key}", "model", config.pricing.aliases.get(name, name), table, today)
    if "prompt" in profile.session:
        yield from _retired(config, f"{path}.session.prompt", "setting", "prompt", table, today)
    if profile.max_duration > _UPSTREAM_LIMIT_SECONDS:
        yield Mistake(f"{path}.max_duration", "is never reached", "upstream ends every call after 60 minutes")


def _retired(
    config: Config, path: str, kind: str, name: str, table: list[Retirement], today: date
) -> Iterator[Mistake]:
    ours = "Azure" if config.upstream.provider == "azure" else "OpenAI"
    known = [row for row in table if row.kind == kind and row.name == name]
    # A vendor's own date counts; on Azure OpenAI's is a hint where there is none.
    row = next((row for row in known if row.by == ours), next((row for row in known if ours == "Azure"), None))
    if row is None or row.retires - today > _SOON:
        return
    when = "retired it on" if row.retires <= today else "retires it on"
    remedy = f"think of {row.instead}" if kind == "model" else f"write {row.instead}"
    if row.by != ours:
        remedy += "; Azure has dates of its own, which its portal shows at the deployment"
    yield Mistake(path, f"{name}: {row.by} {when} {row.retires}", remedy)


def _listeners(config: Config) -> Iterator[Mistake]:
    for name, listener in (("public", config.public), ("operator", config.operator)):
        if not addresses.is_loopback(listener.host) and not listener.base_url and not listener.allowed_hosts:
            yield Mistake(
                f"{name}.base_url",
                f"is empty, so requests to {listener.host} are refused by their Host header",
                "write the address that people use, or name it in allowed_hosts",
            )
        if listener.base_url.startswith("http:") and not addresses.is_loopback(addresses.host_of(listener.base_url)):
            harm = "browsers give no microphone to its pages" if name == "public" else "keys can be read on the way"
            yield Mistake(f"{name}.base_url", f"is not https: {harm}", "put a proxy with TLS before us")


def _without_effect(path: str, auth: PublicAuth | OperatorAuth) -> Iterator[Mistake]:
    """Point out settings of another mode, since a door that looks locked is worse than an open one."""
    used: Mapping[str, tuple[str, ...]] = {
        "jwt": ("issuer", "audience", "jwks_url", "secret", "algorithms", "user_claim", "label_claims", "scope_claim"),
        "forwarded": ("trusted_proxies", "user_header"),
    }
    defaults = type(auth)()
    for field in fields(auth):
        is_set = getattr(auth, field.name) != getattr(defaults, field.name)
        if is_set and field.name != "mode" and field.name not in used.get(auth.mode, ()):
            mode = next(mode for mode, names in used.items() if field.name in names)
            yield Mistake(f"{path}.{field.name}", f'has no effect: mode is "{auth.mode}"', f'it belongs to "{mode}"')


def _inside(value: Any, *path: str) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
