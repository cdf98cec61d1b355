"""Read raw tables key by key, collecting every mistake on the way. Pure.

Whoever reads takes keys out one after another; what nobody took is no setting. A value that is wrong
is reported once, and None stands in for it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from rtobserver.config.policies import PolicyTables
from rtobserver.config.shape import join, not_json
from rtobserver.config.values import Wrong, described, parse_duration, quoted
from rtobserver.errors import Mistake
from rtobserver.policy.rules import Json

MAX_TEXT = 4_000
"""Longest text that is sent or compared, in characters."""


class Findings:
    """Collect mistakes, each named by the file and the key path where it was written."""

    def __init__(self, tables: PolicyTables) -> None:
        self._tables = tables
        self.mistakes: list[Mistake] = list(tables.mistakes)

    def wrong(self, path: str, problem: str, remedy: str = "") -> None:
        """Take note of a mistake at a key path of the merged tables; the same one is noted once."""
        place = self._tables.place(path)
        mistake = Mistake(place.path, problem, remedy, place.file)
        if mistake not in self.mistakes:
            self.mistakes.append(mistake)

    def shown(self, path: str) -> str:
        """Name a place inside a message."""
        place = self._tables.place(path)
        return f"{place.path} in {place.file}" if place.file else place.path

    def caught(self, path: str, wrong: Wrong) -> None:
        """Take note of what a check raised."""
        self.wrong(path, wrong.problem, wrong.remedy)

    def json(self, value: Any, path: str) -> Json | None:
        """Give a value as JSON, or None if it cannot be said in JSON."""
        found = list(not_json(value, path))
        for at, wrong in found:
            self.caught(at, wrong)
        return None if found else value

    def text(self, value: Any, path: str, example: str = "text") -> str | None:
        """Give a text that says something."""
        if not isinstance(value, str):
            self.wrong(path, f"must be a text in quotes, not {described(value)}", f'as in "{example}"')
        elif not value.strip():
            self.wrong(path, "is empty", f'write it as in "{example}"')
        elif len(value) > MAX_TEXT:
            self.wrong(path, f"is longer than {MAX_TEXT} characters", "say it in fewer words")
        else:
            return value
        return None

    def duration(self, value: Any, path: str, *, zero: bool = False, most: float | None = None) -> float | None:
        """Give a duration in seconds; none of no length, unless that means something."""
        if not isinstance(value, str):
            self.wrong(path, f"must be a duration in quotes, not {described(value)}", 'as in "20s"')
            return None
        try:
            seconds = float(parse_duration(value))
        except Wrong as wrong:
            self.caught(path, wrong)
            return None
        if not seconds and not zero:
            self.wrong(path, "must be longer than nothing", 'write it as in "20s"')
        elif most is not None and seconds > most:
            self.wrong(path, f"is longer than {most:g} s: {quoted(value)}", f'write "{most:g}s" or less')
        else:
            return seconds
        return None

    def whole(self, value: Any, path: str, least: int, most: int = 1_000_000_000) -> int | None:
        """Give a whole number within limits."""
        if isinstance(value, bool) or not isinstance(value, int):
            self.wrong(path, f"must be a whole number, not {described(value)}", f"as in {max(least, 1)}")
        elif not least <= value <= most:
            limits = f"between {least} and {most}" if most < 1_000_000_000 else f"at least {least}"
            self.wrong(path, f"must be {limits}, not {str(value)[:20]}", f"write {least if value < least else most}")
        else:
            return value
        return None

    def choice(self, value: Any, path: str, choices: Iterable[str]) -> str | None:
        """Give one of some words."""
        listed = list(choices)
        shown = ", ".join(quoted(each) for each in listed)
        if not isinstance(value, str):
            self.wrong(path, f"must be a text in quotes, not {described(value)}", f"write one of {shown}")
        elif value not in listed:
            self.wrong(
                path, f"must be one of {shown}, not {quoted(value)}", meant(value, listed) or f"write one of {shown}"
            )
        else:
            return value
        return None

    def yes(self, value: Any, path: str, instead: str) -> bool:
        """Check a value that can only be `true`."""
        if value is True:
            return True
        problem = "cannot be false" if value is False else f"must be true, not {described(value)}"
        self.wrong(path, problem, instead)
        return False

    def elements(self, value: Any, path: str, what: str, example: str) -> list[tuple[str, Any]]:
        """Give the elements of a list with their key paths; none where it is no list, or an empty one."""
        if not isinstance(value, list):
            self.wrong(path, f"must be a list of {what}, not {described(value)}", f"as in {example}")
        elif not value:
            self.wrong(path, "is empty", f"write it as in {example}")
        else:
            return [(f"{path}[{at}]", each) for at, each in enumerate(value)]
        return []

    def texts(self, value: Any, path: str, example: str) -> tuple[str, ...] | None:
        """Give the texts of a list that is not empty."""
        elements = self.elements(value, path, "texts", example)
        found = [self.text(each, at, "text") for at, each in elements]
        kept = tuple(each for each in found if each is not None)
        return kept if elements and len(kept) == len(found) else None

    def table(self, value: Any, path: str, example: str) -> Table | None:
        """Give a table whose keys are then taken out."""
        if isinstance(value, dict):
            return Table(self, value, path)
        self.wrong(path, f"must be a table, not {described(value)}", f"as in {example}")
        return None


class Table:
    """Be one raw table of which keys are taken."""

    def __init__(self, found: Findings, value: Mapping[str, Any], path: str) -> None:
        self._found = found
        self._value = value
        self._known: list[str] = []
        self.path = path

    def __contains__(self, key: str) -> bool:
        return key in self._value

    def at(self, key: str) -> str:
        """Give the path of a key."""
        return join(self.path, key)

    def take(self, key: str, *twins: str) -> Any:
        """Give what a key says, raw; None where it is not there, which TOML cannot say otherwise."""
        self._known += (key, *twins)
        return self._value.get(key)

    def need(self, key: str, remedy: str) -> Any:
        """Give what a key says; where it is not there, that is a mistake."""
        if key not in self._value:
            self._found.wrong(self.at(key), "is missing", remedy)
        return self.take(key)

    def close(self) -> None:
        """Refuse the keys that nobody took."""
        for key in self._value:
            if key not in self._known:
                remedy = meant(key, self._known) or f"the keys here are {', '.join(self._known)}"
                self._found.wrong(self.at(key), "is not a setting", remedy)


def meant(word: str, known: Iterable[str]) -> str:
    """Ask whether a known word was meant, if one is near."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {near[0]}?" if near else ""
