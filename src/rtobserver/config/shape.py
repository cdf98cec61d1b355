"""Tell which keys a table of the file may hold, from the annotations of `sections`."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from rtobserver.config import sections
from rtobserver.config.values import Wrong, quoted

_WRITTEN = {"profiles": "profile", "webhooks": "webhook"}
_NOT_WRITTEN = frozenset({"path"})
_DEEPEST = 100
_BARE = re.compile(r"[A-Za-z0-9_-]+")


class Kind(Enum):
    """Say how a setting is written."""

    TEXT = auto()
    WHOLE = auto()
    FLAG = auto()
    CHOICE = auto()
    DURATION = auto()
    SIZE = auto()
    PATH = auto()
    SECRET = auto()
    TEXTS = auto()
    NAMES = auto()
    """A table of texts."""
    OBJECT = auto()
    """A table that is passed on as JSON."""
    TABLE = auto()
    TABLES = auto()


@dataclass(frozen=True, slots=True)
class Key:
    """Describe one key of a table."""

    name: str
    """As it is written in the file."""
    field: str
    """As the dataclass calls it."""
    kind: Kind
    required: bool
    choices: tuple[str, ...] = ()
    table: type[Any] | None = None
    """The class of `TABLE` and `TABLES`."""

    @property
    def spellings(self) -> tuple[str, ...]:
        """Give every key that sets this one: a secret has two twins."""
        return (self.name, f"{self.name}_env", f"{self.name}_file") if self.kind is Kind.SECRET else (self.name,)


def keys(table: type) -> tuple[Key, ...]:
    """Give the keys of a section, in order."""
    return _listed(table)


@functools.cache
def _listed(table: type) -> tuple[Key, ...]:
    hints = typing.get_type_hints(table)
    found = []
    for field in dataclasses.fields(table):
        if table is sections.Config and field.name in _NOT_WRITTEN:
            continue
        kind, choices, inner = _kind(hints[field.name])
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        written = _WRITTEN.get(field.name, field.name) if kind is Kind.TABLES else field.name
        found.append(Key(written, field.name, kind, required, choices, inner))
    return tuple(found)


def placeholder(key: Key) -> Any:
    """Make a value that stands in for a required one that is wrong; nothing may look at it."""
    if key.kind is Kind.TABLE and key.table is not None:
        return key.table(**{inner.field: placeholder(inner) for inner in keys(key.table) if inner.required})
    if key.kind in (Kind.TABLES, Kind.TEXTS):
        return ()
    return key.choices[0] if key.choices else ""


def join(path: str, key: str) -> str:
    """Write the path of a key inside the table at `path`, quoting the key where TOML would."""
    if not _BARE.fullmatch(key):
        key = quoted(key)
    return f"{path}.{key}" if path else key


def not_json(value: Any, path: str, depth: int = 0) -> Iterator[tuple[str, Wrong]]:
    """Give what TOML can say and JSON cannot, with where it stands."""
    if depth > _DEEPEST:
        yield path, Wrong(f"is nested more than {_DEEPEST} deep", "no session needs that")
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from not_json(inner, join(path, key), depth + 1)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from not_json(inner, f"{path}[{index}]", depth + 1)
    elif isinstance(value, float) and not math.isfinite(value):
        yield path, Wrong(f"has no number in JSON: {value}", "write a finite number")
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        yield path, Wrong("has more digits than a number in JSON may have", "write it in quotes")
    elif not isinstance(value, str | int | float):
        yield path, Wrong("is a date or time, which JSON has not", "write it in quotes")


def _kind(hint: Any) -> tuple[Kind, tuple[str, ...], type[Any] | None]:
    plain = {
        str: Kind.TEXT,
        int: Kind.WHOLE,
        bool: Kind.FLAG,
        sections.Seconds: Kind.DURATION,
        sections.Bytes: Kind.SIZE,
        sections.FilePath: Kind.PATH,
        tuple[str, ...]: Kind.TEXTS,
        Mapping[str, str]: Kind.NAMES,
        Mapping[str, Any]: Kind.OBJECT,
    }
    if hint in plain:
        return plain[hint], (), None
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is typing.Literal:
        return Kind.CHOICE, arguments, None
    if isinstance(hint, types.UnionType) and sections.Secret in arguments:
        return Kind.SECRET, (), None
    if typing.get_origin(hint) is tuple:
        return Kind.TABLES, (), arguments[0]
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return Kind.TABLE, (), hint
    raise TypeError(f"no way to write a setting of type {hint}")
