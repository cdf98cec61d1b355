"""Fill `{{ dotted.path }}` into the strings of an action. Pure.

A path begins with `event`, `call` or `match`; its further steps are keys of objects, or numbers of
elements of arrays, from 0. There are no expressions, no filters, and no text that is read twice:
what is filled in is never looked at for templates.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from rtobserver.policy import rules
from rtobserver.policy.rules import Action, Json

ROOTS = ("event", "call", "match")
"""What a path can begin with."""
OPENING, CLOSING = "{{", "}}"
LONGEST_PATH = 200
MAX_TAG = 64
"""Longest tag, in characters, as the API has it; what is filled in is cut off there."""

_FIELDS: Mapping[type[Any], tuple[str, bool]] = {
    rules.Send: ("event", False),
    rules.UpdateSession: ("session", False),
    rules.Say: ("text", True),
    rules.CreateItem: ("item", False),
    rules.DeleteItem: ("item_id", True),
    rules.HangUp: ("goodbye", True),
    rules.Tag: ("tag", True),
}
"""The field that takes templates, and whether it is a text whatever is filled in."""
_STEP_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")


class TemplateFault(ValueError):
    """Say why a template cannot be read, or what it names is not there; the text is a sentence's end."""


@dataclass(frozen=True, slots=True)
class Reference:
    """Be one `{{ dotted.path }}`."""

    path: str

    @property
    def steps(self) -> tuple[str, ...]:
        """Give the path's steps; the first is one of `ROOTS`."""
        return tuple(self.path.split("."))


@lru_cache(maxsize=4096)
def parse(text: str) -> tuple[str | Reference, ...]:
    """Divide a string into texts and references; no text is empty.

    Raises:
        TemplateFault: a template has no end, or holds no path.
    """
    parts: list[str | Reference] = []
    rest = text
    while True:
        before, opened, rest = rest.partition(OPENING)
        if before:
            parts.append(before)
        if not opened:
            return tuple(parts)
        inside, closed, rest = rest.partition(CLOSING)
        if not closed:
            raise TemplateFault("has {{ without }}")
        parts.append(Reference(_path(inside.strip())))


def is_plain(text: str) -> bool:
    """Say whether a string holds no template."""
    return OPENING not in text


def paths(action: Action) -> tuple[str, ...]:
    """Give the dotted paths that the strings of an action name, each once, in their order.

    Raises:
        TemplateFault: a template cannot be read; no compiled action has such a one.
    """
    found: dict[str, None] = {}
    for _, text in strings(action):
        found.update((part.path, None) for part in parse(text) if isinstance(part, Reference))
    return tuple(found)


def strings(action: Action) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Give the strings of an action that may hold templates, with where in its value each stands."""
    if field := _FIELDS.get(type(action)):
        yield from _strings(getattr(action, field[0]), ())


def fill(action: Action, scope: Mapping[str, Json]) -> Action:
    """Give the action with its templates filled in; one without any is given back as it is.

    A string that is nothing but one template takes the value's JSON type where the action's field may
    hold any; elsewhere, and beside other text, the value is written as text: strings as they are, the
    rest as JSON.

    Raises:
        TemplateFault: what a path names is not there, or is null where it has to be text.
    """
    field = _FIELDS.get(type(action))
    if field is None or all(is_plain(text) for _, text in strings(action)):
        return action
    name, is_text = field
    value = getattr(action, name)
    filled: Any = _text(value, scope) if is_text else _filled(value, scope)
    if isinstance(action, rules.Tag):
        filled = _tag(filled)
    return replace(action, **{name: filled})


def look_up(path: str, scope: Mapping[str, Json]) -> Json:
    """Give the value that a dotted path names.

    Raises:
        TemplateFault: there is none.
    """
    value: Json = scope
    for step in path.split("."):
        if isinstance(value, Mapping) and step in value:
            value = value[step]
        elif isinstance(value, list | tuple) and step.isdecimal() and step.isascii() and int(step) < len(value):
            value = value[int(step)]
        else:
            raise TemplateFault(f"there is no {path}")
    return value


def _tag(text: str) -> str:
    """Make a tag of what was filled in: a tag is a word or two, and what callers say is not."""
    tag = "".join(character if character.isprintable() else " " for character in text[:MAX_TAG]).strip()
    if not tag:
        raise TemplateFault("the tag is empty")
    return tag


def _path(path: str) -> str:
    steps = path.split(".")
    if not all(step and _STEP_CHARACTERS.issuperset(step) for step in steps) or len(path) > LONGEST_PATH:
        raise TemplateFault("holds a template that is no dotted path")
    if steps[0] not in ROOTS:
        raise TemplateFault(f"holds a template of {steps[0]}, which is none of {', '.join(ROOTS)}")
    return path


def _strings(value: Json, place: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _strings(inner, (*place, key))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _strings(inner, (*place, index))


def _filled(value: Json, scope: Mapping[str, Json]) -> Json:
    if isinstance(value, str):
        parts = parse(value)
        if len(parts) == 1 and isinstance(parts[0], Reference):
            return look_up(parts[0].path, scope)
        return _text(value, scope)
    if isinstance(value, Mapping):
        return {key: _filled(inner, scope) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_filled(inner, scope) for inner in value]
    return value


def _text(text: str, scope: Mapping[str, Json]) -> str:
    return "".join(part if isinstance(part, str) else _written(part.path, scope) for part in parse(text))


def _written(path: str, scope: Mapping[str, Json]) -> str:
    value = look_up(path, scope)
    if value is None:
        raise TemplateFault(f"{path} is null")
    if not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    # JSON can hold half a character, UTF-8 cannot
    return value if value.isascii() else value.encode("utf-8", "replace").decode()
