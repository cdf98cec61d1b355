"""Show a configuration without what is secret in it. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from rtobserver.config.sections import Config, Secret
from rtobserver.config.shape import Key, Kind, keys
from rtobserver.config.storage import without_password
from rtobserver.config.values import format_duration, format_size

HIDDEN = "***"
_SECRET_WORDS = ("authorization", "api_key", "apikey", "api-key", "secret", "password", "credential", "token")
_NOT_SECRET = frozenset({"max_output_tokens", "token_limits", "post_instructions"})


def redacted(config: Config) -> dict[str, Any]:
    """Give all settings as JSON values, named and written as in the file.

    Secrets that are set read `***`, those that are not null. Addresses lose user, password and query, those of
    webhooks their path too, since many services put the secret there.
    """
    return _section(type(config), config)


def changed(shown: Mapping[str, Any]) -> list[str]:
    """Name the settings of `redacted` that are not at their defaults, as dotted paths such as `profile.0.name`."""
    return list(_changed(Config, shown, ""))


def _changed(table: type[Any], shown: Mapping[str, Any], path: str) -> Iterator[str]:
    defaults = {field.name: field for field in dataclasses.fields(table)}
    for key in keys(table):
        if key.name not in shown:
            continue
        value, where = shown[key.name], f"{path}{key.name}"
        if key.kind is Kind.TABLE and key.table is not None:
            yield from _changed(key.table, value, f"{where}.")
        elif key.kind is Kind.TABLES and key.table is not None:
            for index, element in enumerate(value):
                yield from _changed(key.table, element, f"{where}.{index}.")
        elif key.required or not _is_at(_value(table, key, _default(defaults[key.field])), key, value):
            yield where


def _is_at(default: Any, key: Key, value: Any) -> bool:
    # the loader has made a relative path absolute
    is_resolved = key.kind is Kind.PATH and default and str(value).endswith(f"/{default}")
    return bool(is_resolved) or value == default


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _section(table: type[Any], section: Any) -> dict[str, Any]:
    return {key.name: _value(table, key, getattr(section, key.field)) for key in keys(table)}


def _value(table: type[Any], key: Key, value: Any) -> Any:
    match key.kind:
        case Kind.TABLE if key.table is not None:
            return _section(key.table, value)
        case Kind.TABLES if key.table is not None:
            return [_section(key.table, element) for element in value]
        case Kind.SECRET:
            return None if value is None else HIDDEN
        case Kind.DURATION:
            return format_duration(value)
        case Kind.SIZE:
            return format_size(value)
        case Kind.TEXTS:
            return list(value)
        case Kind.OBJECT:
            return without_secrets(value)
        case Kind.NAMES:
            return dict(value)
        case Kind.TEXT if table.__name__ == "Webhook" and key.name == "url":
            return address_shown(value, keep_path=False)
        case Kind.TEXT if table.__name__ == "Store":
            return without_password(value)
        case Kind.TEXT if "://" in value:
            return address_shown(value, keep_path=True)
    return value


def address_shown(value: str, *, keep_path: bool) -> str:
    """Write an address without user, password and query."""
    parts = urlsplit(value)
    host = parts.netloc.rpartition("@")[2]
    user = f"{HIDDEN}@" if "@" in parts.netloc else ""
    path = parts.path if keep_path or parts.path in ("", "/") else f"/{HIDDEN}"
    return f"{parts.scheme}://{user}{host}{path}" + (f"?{HIDDEN}" if parts.query else "")


def without_secrets(value: Any) -> Any:
    """Copy a session's JSON, hiding what tools on other servers are given to prove who we are."""
    if isinstance(value, Secret):
        return HIDDEN
    if isinstance(value, Mapping):
        return {key: _member(key, inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_secrets(element) for element in value]
    return value


def _member(key: str, value: Any) -> Any:
    if key.lower() == "headers" and isinstance(value, Mapping):
        return dict.fromkeys(value, HIDDEN)
    is_secret = key.lower() not in _NOT_SECRET and any(word in key.lower() for word in _SECRET_WORDS)
    return HIDDEN if is_secret and isinstance(value, str) else without_secrets(value)
