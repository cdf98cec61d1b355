"""Read the configuration file and those that it includes, and merge them into one table.

Remembers where each part came from, so that a mistake can be named by the file in which it stands.
"""

from __future__ import annotations

import glob
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rtobserver.config.shape import join
from rtobserver.errors import Mistake

_LAST_STEP = re.compile(r"(?:\[[0-9]+\]|\.?(?:[A-Za-z0-9_-]+|\"[^\"]*\"))\Z")
_MERGED_DEPTH = 3
"""Tables are merged this deep; below it, one file must say the whole."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Say where a part of the merged table was written."""

    file: str
    """As it is named in messages."""
    path: str
    """Key path in that file."""
    folder: Path
    """What relative paths in it are relative to."""


@dataclass(slots=True)
class Document:
    """Hold the merged table and where its parts came from."""

    main: Origin
    table: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, Origin] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)
    """The main file first; none if it cannot be read."""
    mistakes: list[Mistake] = field(default_factory=list)

    def origin(self, path: str) -> Origin:
        """Find where a key path was written; what nobody wrote belongs to the main file."""
        rest = path
        while rest:
            if found := self.origins.get(rest):
                return Origin(found.file, found.path + path[len(rest) :], found.folder)
            shorter = _LAST_STEP.sub("", rest)
            rest = shorter if len(shorter) < len(rest) else ""
        return Origin(self.main.file, path, self.main.folder)


def read(path: Path) -> Document:
    """Read a configuration file and its includes; mistakes are kept in the document."""
    path = path.absolute()
    document = Document(Origin("", "", path.parent))
    table = _parse(path, str(path), document.mistakes)
    if table is None:
        return document
    document.files.append(path)
    patterns = _patterns(table.pop("include", []), document)
    document.table = table
    for included in _matches(patterns, path, document):
        shown = _relative(included, path.parent)
        # The main file needs no name as long as it is the only one.
        document.main = Origin(path.name, "", path.parent)
        document.files.append(included)
        part = _parse(included, shown, document.mistakes)
        if part is None:
            continue
        if part.pop("include", None) is not None:
            document.mistakes.append(
                Mistake("include", "stands in an included file", "only the main file may include others", shown)
            )
        _merge(document, document.table, part, "", Origin(shown, "", included.parent))
    return document


def _parse(path: Path, shown: str, mistakes: list[Mistake]) -> dict[str, Any] | None:
    try:
        return _tests_alone(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        problem, remedy = "there is no such file", "config.example.toml is a file to start from"
    except OSError as error:
        problem, remedy = f"the file cannot be read: {error.strerror or error}", "see that rtobserver may read it"
    except UnicodeDecodeError as error:
        problem, remedy = f"the file is not UTF-8 (byte {error.start})", "save it as UTF-8"
    except tomllib.TOMLDecodeError as error:
        problem, remedy = f"the file is not TOML: {error}", "texts stand in quotes, a table's name in brackets"
    except RecursionError:
        problem, remedy = "the file is nested too deeply", "no setting needs that"
    except ValueError as error:
        problem, remedy = f"the file is not TOML: {str(error)[:100]}", "look for a number that is too long"
    mistakes.append(Mistake("", problem, remedy, shown))
    return None


def _tests_alone(table: dict[str, Any]) -> dict[str, Any]:
    """Give a file that has `[[policy.test]]` and no `[[policy]]` the array that others have."""
    policy = table.get("policy")
    return {**table, "policy": [policy]} if isinstance(policy, dict) and set(policy) == {"test"} else table


def _patterns(value: Any, document: Document) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(pattern, str) and pattern.isprintable() for pattern in value):
        document.mistakes.append(
            Mistake("include", "must be a list of file names", 'write it as in ["policies/*.toml"]')
        )
        return []
    return value


def _matches(patterns: list[str], main: Path, document: Document) -> list[Path]:
    found: dict[Path, None] = {}
    for index, pattern in enumerate(patterns):
        # Path.glob refuses absolute patterns.
        names = sorted(glob.glob(pattern, root_dir=main.parent)) if pattern else []  # noqa: PTH207
        if not names and not glob.has_magic(pattern):
            document.mistakes.append(
                Mistake(f"include[{index}]", f"there is no such file: {pattern[:200]}", "a pattern may match none")
            )
        for name in names:
            path = main.parent / name
            if path != main and path.is_file():
                found[path] = None
    return list(found)


def _merge(document: Document, into: dict[str, Any], part: dict[str, Any], path: str, source: Origin) -> None:
    """Add a file's table to the merged one: tables are joined, arrays of tables appended, all else is a conflict."""
    for key, value in part.items():
        here = join(path, key)
        if key not in into:
            into[key] = value
            document.origins[here] = Origin(source.file, here, source.folder)
        elif isinstance(value, dict) and isinstance(into[key], dict) and here.count(".") < _MERGED_DEPTH:
            _merge(document, into[key], value, here, source)
        elif _is_tables(value) and _is_tables(into[key]):
            for index, element in enumerate(value):
                at = f"{here}[{len(into[key])}]"
                document.origins[at] = Origin(source.file, f"{here}[{index}]", source.folder)
                into[key].append(element)
        else:
            other = document.origin(here).file
            document.mistakes.append(
                Mistake(here, f"is set in {other} too", "leave it in one of the two files", source.file)
            )


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(element, dict) for element in value)


def _relative(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)
