"""Hand over the tables of policies as they are written, with where each part of them stands. Pure.

`config` knows that `[lists]` and `[[policy]]` exist and where files, secrets and places come from;
what the tables mean is `policy/compile.py`'s to know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rtobserver.config.sections import Secret
from rtobserver.errors import Mistake

WORDS = ("policy", "lists")
"""The words of policies at the top of a file."""


@dataclass(frozen=True, slots=True)
class Place:
    """Say where something was written."""

    file: str
    """As it is named in messages; empty for the only file."""
    path: str
    """Key path in that file."""
    folder: str
    """What relative paths in it are relative to; absolute."""


def _here(path: str) -> Place:
    return Place("", path, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyTables:
    """Be what all files together say of policies, unchecked."""

    lists: Any = field(default_factory=dict)
    policies: Any = field(default_factory=list)
    place: Callable[[str], Place] = _here
    """Finds where a key path of the merged tables, such as `policy[3].do[0]`, was written."""
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    """By key path of the table that names each one."""
    mistakes: tuple[Mistake, ...] = ()
    """What is wrong with those secrets."""
    profiles_known: bool = True
    """False where profiles could not be read, so that nothing can be said about their names."""
    webhooks_known: bool = True
