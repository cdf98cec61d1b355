"""Lay settings from the environment over those of the file: `RTOBSERVER_SECTION__KEY`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from rtobserver.config.files import Document, Origin
from rtobserver.config.sections import Config
from rtobserver.config.shape import Key, Kind, keys
from rtobserver.errors import Mistake

PREFIX = "RTOBSERVER_"
_WHOLE = re.compile(r"-?[0-9]{1,18}")
_FLAGS = {"true": True, "false": False}
_NOT_HERE = frozenset({Kind.TABLES, Kind.NAMES, Kind.OBJECT})


def apply(document: Document, environ: Mapping[str, str]) -> None:
    """Set what the environment overrides; names with the prefix but without `__` are not ours to judge."""
    known = dict(_variables(Config, ()))
    given: set[tuple[str, ...]] = set()
    for name in sorted(environ):
        if not name.startswith(PREFIX) or "__" not in name:
            continue
        if name not in known:
            document.mistakes.append(_unknown(name, known))
            continue
        path, key = known[name]
        _set(document, path, key, given, name, _converted(key, path[-1], environ[name]))


def _variables(table: type[Any], path: tuple[str, ...]) -> Iterator[tuple[str, tuple[tuple[str, ...], Key]]]:
    for key in keys(table):
        if key.kind is Kind.TABLE and key.table is not None:
            yield from _variables(key.table, (*path, key.name))
        elif key.kind not in _NOT_HERE:
            for spelling in key.spellings:
                full = (*path, spelling)
                yield PREFIX + "__".join(full).upper(), (full, key)


def _converted(key: Key, spelling: str, value: str) -> Any:
    """Give the value as TOML would; what does not convert is left for the reader to refuse."""
    if key.kind is Kind.WHOLE and _WHOLE.fullmatch(value):
        return int(value)
    if key.kind is Kind.FLAG:
        return _FLAGS.get(value.lower(), value)
    if key.kind is Kind.TEXTS:
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _set(
    document: Document,
    path: tuple[str, ...],
    key: Key,
    given: set[tuple[str, ...]],
    name: str,
    value: Any,
) -> None:
    table = document.table
    for step in path[:-1]:
        inner = table.setdefault(step, {})
        if not isinstance(inner, dict):
            return  # the file's own mistake, which the reader reports
        table = inner
    for spelling in key.spellings:
        # A secret's spelling in the file gives way to another one here; two of them here are a mistake.
        if (*path[:-1], spelling) not in given:
            table.pop(spelling, None)
    table[path[-1]] = value
    given.add(path)
    dotted = ".".join(path)
    document.origins[dotted] = Origin(name, dotted, document.main.folder)


def _unknown(name: str, known: Mapping[str, Any]) -> Mistake:
    section = name.removeprefix(PREFIX).partition("__")[0]
    if section in ("PROFILE", "WEBHOOK", "POLICY", "LISTS") or name.startswith(f"{PREFIX}PRICING__ALIASES"):
        return Mistake(
            name, "cannot be set from the environment", "write it in the file; single settings can be set here"
        )
    near = difflib.get_close_matches(name, known, n=1)
    return Mistake(name, "is not a setting", f"did you mean {near[0]}?" if near else "see config.example.toml")
