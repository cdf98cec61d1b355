"""Remember which responses and items policies brought about, and tell it of what comes of these. Pure.

Live calls and replays of recorded ones go by the same book, so that both see the same causes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from rtobserver.policy.rules import Json
from rtobserver.realtime.events import Event, fields
from rtobserver.realtime.names import canonical
from rtobserver.realtime.values import identifier, mapping

MAX_IDS = 2_000
"""Responses and items that are remembered."""

NOBODY: frozenset[str] = frozenset()

_OF_RESPONSES = frozenset({"response.created", "response.done"})
_OF_ITEMS = frozenset({"conversation.item.added", "conversation.item.done", "response.output_item.added"})


class Descent:
    """Follow what came of commands in one call."""

    __slots__ = ("_expected", "_ids")

    def __init__(self) -> None:
        self._ids: dict[str, frozenset[str]] = {}
        self._expected: list[tuple[Mapping[str, Json], frozenset[str]]] = []

    def copy(self) -> Self:
        """Give another one that knows the same."""
        made = type(self)()
        made._ids, made._expected = dict(self._ids), list(self._expected)
        return made

    def remember(self, id_: object, causes: frozenset[str]) -> None:
        """Take note of a response or an item; what is no id is nothing."""
        name = identifier(id_)
        if name is not None:
            self._ids[name] = self._ids.get(name, NOBODY) | causes
            if len(self._ids) > MAX_IDS:
                del self._ids[next(iter(self._ids))]

    def commanded(self, command: Mapping[str, Json], causes: frozenset[str]) -> None:
        """Take note of a command: an item that it creates has the id that it says."""
        if causes and command.get("type") == "conversation.item.create":
            self.remember(mapping(command.get("item")).get("id"), causes)

    def recalled(self, command: Mapping[str, Json], policy: str) -> None:
        """Take in a policy's command of an earlier epoch; a response of it is known by its metadata alone."""
        own = frozenset({policy})
        self.commanded(command, own)
        metadata = mapping(mapping(command.get("response")).get("metadata"))
        if command.get("type") == "response.create" and metadata:
            self._expected.append((metadata, own))

    def of(self, event: Event, frame: bytes) -> frozenset[str]:
        """Name the policies that led to the response or item that an event is about."""
        if not self._ids and not self._expected:
            return NOBODY
        found = NOBODY
        type_ = canonical(event.type or "")
        ids = [event.response_id, event.item_id]
        if type_ in _OF_RESPONSES:
            response = mapping(fields(frame).get("response"))
            ids.append(identifier(response.get("id")))
            found = self._awaited(response)
        elif type_ in _OF_ITEMS:
            ids.append(identifier(mapping(fields(frame).get("item")).get("id")))
        for id_ in ids:
            if id_ is not None:
                found |= self._ids.get(id_, NOBODY)
        return found

    def inherit(self, event: Event, frame: bytes, causes: frozenset[str]) -> None:
        """Take note that an item is of a response that comes of these policies."""
        if causes and (self._ids or self._expected) and canonical(event.type or "") == "response.output_item.added":
            self.remember(mapping(fields(frame).get("item")).get("id"), causes)

    def _awaited(self, response: Mapping[str, Json]) -> frozenset[str]:
        for number, (metadata, causes) in enumerate(self._expected):
            if response.get("metadata") == metadata:
                del self._expected[number]
                self.remember(response.get("id"), causes)
                return causes
        return NOBODY
