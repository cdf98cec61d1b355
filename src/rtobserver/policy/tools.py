"""Tell when the model calls a function: once, when the arguments are complete. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from rtobserver.policy import globs, rules
from rtobserver.policy.rules import Json, Trigger
from rtobserver.realtime.events import fields

MAX_CALLS = 1_000
"""Function calls that are remembered, so that each is told once."""
MAX_ARGUMENTS = 65_536
"""Longest arguments that are compared with what a rule asks for, in characters."""


class _Item(msgspec.Struct, gc=False):
    type: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None


class _Calling(msgspec.Struct, gc=False):
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    item: _Item | None = None


_decode = msgspec.json.Decoder(_Calling).decode


class Called:
    """Be a function call with complete arguments."""

    __slots__ = ("_given", "arguments", "id", "name")

    def __init__(self, function_call_id: str, name: str, arguments: str) -> None:
        self.id = function_call_id
        self.name = name
        self.arguments = arguments
        """As the model wrote them."""
        self._given: Mapping[str, Json] | None = None

    def suits(self, what: Trigger) -> bool:
        """Say whether a trigger waits for this call."""
        if not isinstance(what, rules.Tool) or not globs.matches(what.name, self.name):
            return False
        if not what.arguments:
            return True
        if self._given is None:
            text = self.arguments
            self._given = fields(text.encode("utf-8", "replace")) if len(text) <= MAX_ARGUMENTS else {}
        given = self._given
        return all(name in given and same(given[name], value) for name, value in what.arguments.items())


class Tools:
    """Know which function calls were told of."""

    __slots__ = ("_told",)

    def __init__(self) -> None:
        self._told: dict[str, None] = {}

    def take(self, frame: bytes) -> Called | None:
        """Give the function call that an event completes; None where it does not, or did before."""
        called = read_call(frame)
        if called is None or called.id in self._told:
            return None
        self._told[called.id] = None
        if len(self._told) > MAX_CALLS:
            del self._told[next(iter(self._told))]
        return called


def read_call(frame: bytes) -> Called | None:
    """Read a function call with its arguments out of an event that ends it; None where there is none."""
    try:
        told = _decode(frame)
    except (ValueError, RecursionError):
        return None
    call: _Calling | _Item = told
    if told.item is not None:
        call = told.item
        if told.item.type != "function_call":
            return None
    if call.call_id is None or call.name is None or call.arguments is None:
        return None
    return Called(call.call_id, call.name, call.arguments)


def same(one: Json, other: Json) -> bool:
    """Compare JSON values: numbers by value, and no number is a boolean."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)
