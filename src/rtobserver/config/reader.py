"""Turn the merged table into sections, collecting every mistake on the way.

A key that is wrong gets a stand-in, and no later check that would look at it runs: one mistake is reported once.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from rtobserver.config.checks import RULES, VALUES
from rtobserver.config.files import Document
from rtobserver.config.policies import WORDS
from rtobserver.config.sections import Secret
from rtobserver.config.shape import Key, Kind, join, keys, not_json, placeholder
from rtobserver.config.values import Wrong, WrongAt, described, parse_duration, parse_size, quoted
from rtobserver.errors import Mistake

Section = TypeVar("Section")

_KEY_FILE = "put the secret and nothing else into it; the path is relative to this file"
_EXPECTED = {
    Kind.TEXT: ("a text in quotes", 'as in "text"'),
    Kind.PATH: ("a path in quotes", 'as in "folder/file"'),
    Kind.SECRET: ("a text in quotes", "better not in this file at all: KEY_env and KEY_file name another place"),
    Kind.CHOICE: ("a text in quotes", ""),
    Kind.WHOLE: ("a whole number", "as in 8080, without quotes"),
    Kind.FLAG: ("true or false", "without quotes"),
    Kind.DURATION: ("a duration in quotes", 'a number and ms, s, m, h or d, as in "30s"'),
    Kind.SIZE: ("a size in quotes", 'a number and B, KiB, MiB or GiB, as in "64KiB"'),
    Kind.TEXTS: ("a list of texts", 'as in ["one", "two"]'),
    Kind.NAMES: ("a table of texts", 'as in { name = "text" }'),
    Kind.OBJECT: ("a table", 'as in { model = "gpt-realtime" }'),
    Kind.TABLE: ("a table", "its name stands in brackets on a line of its own"),
    Kind.TABLES: ("an array of tables", "its name stands in double brackets on a line of its own"),
}


class Reader:
    """Read sections from a document; `mistakes` has all that was wrong with them."""

    def __init__(self, document: Document, environ: Mapping[str, str], unread: frozenset[str] = frozenset()) -> None:
        self.mistakes: list[Mistake] = []
        self.key_files: list[Path] = []
        """Files that secrets were read from."""
        self._document = document
        self._environ = environ
        self._unread = unread
        """Secrets whose variable or file is not looked at."""
        self._broken: set[str] = set()

    def section(self, table: type[Section], value: Mapping[str, Any], path: str = "") -> Section:
        """Read one table, and all that are in it."""
        known = keys(table)
        self._refuse_unknown(known, value, path)
        checks = VALUES.get(table, {})
        fields: dict[str, Any] = {}
        for key in known:
            here = join(path, key.name)
            if key.required and key.name not in value:
                self._wrong(here, Wrong("is missing", _missing_hint(key)))
            try:
                if key.kind is Kind.SECRET:
                    fields[key.field] = self._secret(key, value, path)
                elif key.name in value:
                    fields[key.field] = self._value(key, value[key.name], here)
                if key.field in checks and key.field in fields:
                    fields[key.field] = checks[key.field](fields[key.field])
            except Wrong as wrong:
                self._wrong(here, wrong)
                fields.pop(key.field, None)
            if key.required and key.field not in fields:
                fields[key.field] = placeholder(key)
        read = table(**fields)
        for rule in RULES.get(table, ()):
            inside = f"{path}." if path else ""
            if not any(self._is_broken(inside + key) for key in rule.looks_at):
                for mistake in rule.check(read):
                    self._add(replace(mistake, path=inside + mistake.path))
        return read

    def secret(self, name: str, table: Mapping[str, Any], path: str) -> Secret | None:
        """Read a secret of a table that is no section; None where there is none, or it is wrong."""
        try:
            return self._secret(Key(name, name, Kind.SECRET, required=False), table, path)
        except Wrong as wrong:
            self._wrong(join(path, name), wrong)
            return None

    def broken(self, path: str) -> bool:
        """Say whether something at, in or around this key path is wrong."""
        return self._is_broken(path)

    def _value(self, key: Key, value: Any, path: str) -> Any:
        match key.kind, value:
            case Kind.TEXT, str():
                return value
            case Kind.CHOICE, str():
                return _choice(key, value)
            case Kind.DURATION, str():
                return parse_duration(value)
            case Kind.SIZE, str():
                return parse_size(value)
            case Kind.FLAG, bool():
                return value
            case Kind.WHOLE, int() if not isinstance(value, bool):
                return value
            case Kind.PATH, str():
                return str(self._resolved(value, path)) if value else ""
            case Kind.TEXTS, list() if all(isinstance(text, str) for text in value):
                return tuple(value)
            case Kind.NAMES, dict():
                self._check_names(value, path)
                return dict(value)
            case Kind.OBJECT, dict():
                for at, wrong in not_json(value, path):
                    self._wrong(at, wrong)
                return value
            case Kind.TABLE, dict() if key.table is not None:
                return self.section(key.table, value, path)
            case Kind.TABLES, list() if key.table is not None and all(isinstance(table, dict) for table in value):
                if not value and key.required:
                    raise Wrong("is missing", _missing_hint(key))
                return tuple(self.section(key.table, table, f"{path}[{at}]") for at, table in enumerate(value))
        raise _of_another_kind(key, value)

    def _secret(self, key: Key, table: Mapping[str, Any], path: str) -> Secret | None:
        given = [spelling for spelling in key.spellings if table.get(spelling, "") != ""]
        for spelling in given:
            if not isinstance(table[spelling], str):
                other = _of_another_kind(key, table[spelling])
                raise WrongAt(spelling, other.problem, other.remedy)
        if len(given) > 1:
            raise WrongAt(given[1], f"is given beside {given[0]}", "leave one of them out")
        if not given or (join(path, key.name) in self._unread and given[0] != key.name):
            return None
        spelling, written = given[0], table[given[0]]
        if spelling == key.name:
            return Secret(written)
        if spelling.endswith("_env"):
            found = self._environ.get(written, "").strip()
            if not found:
                state = "is empty" if written in self._environ else "is not set"
                raise WrongAt(
                    spelling, f"the environment variable {quoted(written)} {state}", "set it before the start"
                )
            return Secret(found)
        return Secret(self._key_file(spelling, written, join(path, spelling)))

    def _key_file(self, spelling: str, written: str, path: str) -> str:
        file = self._resolved(written, path)
        try:
            found = file.read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it is not text"
            raise WrongAt(spelling, f"the file {quoted(written)} cannot be read: {reason}", _KEY_FILE) from None
        if not found:
            raise WrongAt(spelling, f"the file {quoted(written)} is empty", _KEY_FILE)
        self.key_files.append(file)
        return found

    def _resolved(self, written: str, path: str) -> Path:
        if not written.isprintable():
            raise Wrong(
                "is not a path: it holds control characters",
                "a backslash is written twice, or the text in single quotes",
            )
        return self._document.origin(path).folder / written

    def _check_names(self, table: Mapping[str, Any], path: str) -> None:
        for name, value in table.items():
            if not isinstance(value, str) or not value:
                self._wrong(
                    join(path, name), Wrong(f"must be a text in quotes, not {described(value)}", "name a model")
                )

    def _refuse_unknown(self, known: Iterable[Key], table: Mapping[str, Any], path: str) -> None:
        spellings = [spelling for key in known for spelling in key.spellings]
        here = spellings if path else ["include", *spellings, *WORDS]
        for name in table:
            if name in spellings:
                continue
            near = difflib.get_close_matches(name, [*here, "include"], n=1)
            remedy = f"did you mean {near[0]}?" if near else f"the keys here are {', '.join(here)}"
            if near == ["include"]:
                remedy = "did you mean include? It stands at the top of the file, before the first section"
            self._add(Mistake(join(path, name), "is not a setting", remedy))

    def _wrong(self, path: str, wrong: Wrong) -> None:
        self._broken.add(path)
        if isinstance(wrong, WrongAt):
            path = f"{path.rpartition('.')[0]}.{wrong.key}"
        self._add(Mistake(path, wrong.problem, wrong.remedy))

    def _add(self, mistake: Mistake) -> None:
        origin = self._document.origin(mistake.path)
        self.mistakes.append(replace(mistake, path=origin.path, file=mistake.file or origin.file))

    def _is_broken(self, path: str) -> bool:
        return any(_encloses(broken, path) or _encloses(path, broken) for broken in self._broken)


def _encloses(outer: str, inner: str) -> bool:
    return inner == outer or inner.startswith((outer + ".", outer + "["))


def _choice(key: Key, value: str) -> str:
    if value not in key.choices:
        near = difflib.get_close_matches(value, key.choices, n=1)
        remedy = f'did you mean "{near[0]}"?' if near else f"write one of {_listed(key)}"
        raise Wrong(f"must be one of {_listed(key)}, not {quoted(value)}", remedy)
    return value


def _listed(key: Key) -> str:
    return ", ".join(f'"{choice}"' for choice in key.choices)


def _of_another_kind(key: Key, value: Any) -> Wrong:
    expected, remedy = _EXPECTED[key.kind]
    return Wrong(f"must be {expected}, not {described(value)}", remedy or f"write one of {_listed(key)}")


def _missing_hint(key: Key) -> str:
    if key.kind is Kind.TABLE and key.table is not None:
        needed = ", ".join(inner.name for inner in keys(key.table) if inner.required)
        return f"write [{key.name}] with {needed}"
    if key.kind is Kind.TABLES:
        return f"write at least one [[{key.name}]]"
    return f"it must be {_EXPECTED[key.kind][0]}" if not key.choices else f"write one of {_listed(key)}"
