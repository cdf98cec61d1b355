"""Scenarios from TOML: strict, every mistake named by its place."""

from __future__ import annotations

import difflib
import tomllib
import types
import typing
from dataclasses import MISSING, fields
from importlib import resources
from pathlib import Path
from typing import Any

from rtobserver.errors import ConfigError, Mistake
from rtobserver.simulator.faults import Faults, parse_faults
from rtobserver.simulator.scenario import STEP_KINDS, Repeat, Scenario, Step

_KINDS: dict[str, type[Step]] = {step.kind: step for step in STEP_KINDS}


def shipped() -> list[str]:
    """Name the scenarios that come with the package."""
    folder = resources.files("rtobserver.simulator") / "scenarios"
    return sorted(file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml"))


def load_scenario(name: str) -> Scenario:
    """Read a shipped scenario by its name, or a file by its path (anything that ends in `.toml`).

    Raises: ConfigError, if there is no such scenario or it has mistakes.
    """
    if name.endswith(".toml"):
        path = Path(name)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            raise ConfigError([Mistake("", f"cannot be read: {exc}", file=name)]) from exc
        return parse_scenario(text, path.stem, file=name)
    if name not in shipped():
        raise ConfigError([Mistake("scenario", f"there is no scenario {name!r}", _nearest(name, shipped()))])
    file = resources.files("rtobserver.simulator") / "scenarios" / f"{name}.toml"
    return parse_scenario(file.read_text(encoding="utf-8"), name, file=f"{name}.toml")


def parse_scenario(text: str, name: str, *, file: str = "") -> Scenario:
    """Read a scenario from TOML.

    Raises: ConfigError, with all mistakes.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError([Mistake("", f"is not TOML: {exc}", file=file)]) from exc
    reader = _Reader(file)
    steps = reader.steps(table.pop("step", []), "step")
    faults = reader.faults(table.pop("faults", {}))
    values = reader.values(Scenario, table, "", exclude=("name", "steps", "faults"))
    if reader.mistakes:
        raise ConfigError(reader.mistakes)
    return Scenario(name=name, steps=steps, faults=faults, **values)


class _Reader:
    """Collect values and mistakes while walking a document."""

    def __init__(self, file: str) -> None:
        self._file = file
        self.mistakes: list[Mistake] = []

    def steps(self, tables: Any, path: str) -> tuple[Step, ...]:
        if not isinstance(tables, list):
            self._mistake(path, "must be an array of tables", "write [[step]]")
            return ()
        return tuple(step for n, table in enumerate(tables) if (step := self._step(table, f"{path}[{n}]")) is not None)

    def faults(self, table: Any) -> Faults:
        try:
            return parse_faults(_settings(table if isinstance(table, dict) else {"faults": table}, ""))
        except ConfigError as exc:
            for mistake in exc.mistakes:
                self._mistake(mistake.path, mistake.problem)
            return Faults()

    def values(self, kind: type, table: dict[str, Any], path: str, *, exclude: tuple[str, ...] = ()) -> dict[str, Any]:
        hints = typing.get_type_hints(kind)
        known = {f.name: f for f in fields(kind) if f.name not in exclude}
        found: dict[str, Any] = {}
        for key, value in table.items():
            where = f"{path}.{key}".lstrip(".")
            if key not in known:
                self._mistake(where, "is not known", _nearest(key, list(known)))
                continue
            if isinstance(value, list):
                value = tuple(value)
            if isinstance(value, int) and not isinstance(value, bool) and hints[key] is float:
                value = float(value)
            if not _fits(value, hints[key]):
                self._mistake(where, f"cannot be {value!r}", f"expected {_name(hints[key])}")
                continue
            found[key] = value
        for key, field in known.items():
            if key not in table and field.default is MISSING and field.default_factory is MISSING:
                self._mistake(f"{path}.{key}".lstrip("."), "is missing")
        return found

    def _step(self, table: Any, path: str) -> Step | None:
        if not isinstance(table, dict):
            self._mistake(path, "must be a table")
            return None
        table = dict(table)
        name = table.pop("kind", None)
        if not isinstance(name, str) or name not in _KINDS:
            self._mistake(f"{path}.kind", f"cannot be {name!r}", _nearest(str(name), list(_KINDS)))
            return None
        kind = _KINDS[name]
        before = len(self.mistakes)
        if kind is Repeat:
            inner = self.steps(table.pop("step", []), f"{path}.step")
            values = self.values(kind, table, path, exclude=("steps",))
            return Repeat(steps=inner, **values) if len(self.mistakes) == before else None
        values = self.values(kind, table, path)
        return kind(**values) if len(self.mistakes) == before else None

    def _mistake(self, path: str, problem: str, help_: str = "") -> None:
        self.mistakes.append(Mistake(path, problem, help_, self._file))


def _settings(table: dict[str, Any], path: str) -> list[str]:
    """Write a table of switches as the settings that `parse_faults` takes."""
    found: list[str] = []
    for key, value in table.items():
        if isinstance(value, dict):
            found += _settings(value, f"{path}{key}.")
        else:
            text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
            found.append(f"{path}{key}={text}")
    return found


def _fits(value: Any, hint: Any) -> bool:
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        return value in typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, part) for part in typing.get_args(hint))
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(part, typing.get_args(hint)[0]) for part in value)
    if hint is int:
        return type(value) is int
    wanted = origin or hint
    return isinstance(value, dict if wanted not in (str, float, bool, type(None)) else wanted)


def _name(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return " or ".join(repr(value) for value in typing.get_args(hint))
    return {float: "a number", int: "a whole number", str: "a string", bool: "true or false"}.get(hint, "a table")


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(sorted(known))}"
