"""Notice when somebody else changes a call's session, or speaks for the system, the model or a tool. Pure.

The expected session is what was minted, with our own acknowledged updates laid over it. Only the leaves
that are set in it are compared, so that what upstream adds by itself never counts. An acknowledgement
names no cause: a `session.updated` is the answer to the oldest of our updates that it shows whole, and
what it shows otherwise than expected besides is somebody else's doing. An update whose answer was lost is
expected or not by what the next session shows. What live calls see and what a replay reads is judged alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import reduce

import msgspec

from rtobserver.policy.rules import Json
from rtobserver.realtime.events import Event, fields
from rtobserver.realtime.names import canonical
from rtobserver.realtime.values import identifier, mapping, objects

ITEMS, OUTPUTS = "items", "outputs"
"""Keys of a tampering that is not about the session."""
MAX_PENDING = 32
"""Updates of ours that are open; beyond it the oldest is forgotten."""
PATIENCE = 10.0
"""Seconds after which an update's answer is no longer waited for."""
MAX_ITEMS = 5_000
"""Items that are remembered as ours or the model's."""

WATCHED = frozenset(
    {
        "session.updated",
        "transcription_session.updated",
        "conversation.item.added",
        "conversation.item.created",
        "response.output_item.added",
        "error",
    }
)
"""Types of the events that `Tampering.heard` is to be shown; all others say nothing about it."""

_FIXED = ("model", "type", "object", "id", "expires_at", "client_secret")
"""What no update can change; `model` is answered with a dated name."""
_WHOLE = {"turn_detection": "type", "transcription": "model", "noise_reduction": "type"}
"""Objects that upstream replaces as wholes, and what tells their kinds apart."""
_DETECTION = ("audio", "input", "turn_detection")


class _Update(msgspec.Struct):
    session: dict[str, Json]
    due: float
    is_lost: bool = False
    """Whether its answer is no longer waited for."""


class Tampering:
    """Follow one call's session and the items that are ours."""

    __slots__ = ("_last", "_made", "_own", "_pending", "_seen", "expected")

    def __init__(self, minted: Mapping[str, Json]) -> None:
        self.expected: dict[str, Json] = dict(minted)
        """The session as it should be."""
        self._seen: dict[str, Json] = {}
        """The session as upstream told it last."""
        self._pending: dict[str, _Update] = {}
        self._own: dict[str, None] = {}
        self._made: dict[str, None] = {}
        self._last: list[tuple[str, Json]] = []

    @property
    def intended(self) -> dict[str, Json]:
        """Give the session as it should be once everything that was sent is acknowledged."""
        session = self.expected
        for update in self._pending.values():
            session = merged(session, update.session)
        return session

    def sent(self, event: Mapping[str, Json], age: float = 0.0) -> None:
        """Take note of a client event of ours, with its `event_id`; `age` is the call's."""
        event_id = event.get("event_id")
        if event.get("type") == "session.update" and isinstance(event_id, str):
            self._pending[event_id] = _Update(mapping(event.get("session")), age + PATIENCE)
            if len(self._pending) > MAX_PENDING:
                del self._pending[next(iter(self._pending))]
        elif event.get("type") == "conversation.item.create":
            _keep(self._own, identifier(mapping(event.get("item")).get("id")))

    def lost(self) -> None:
        """Take note that what was not answered yet will not be: the sideband is gone."""
        for update in self._pending.values():
            update.is_lost = True

    def awaits(self, event_id: str) -> bool:
        """Say whether the answer to an update of ours is waited for."""
        return event_id in self._pending and not self._pending[event_id].is_lost

    def forget(self) -> None:
        """Compare nothing any more, since what should be is not known."""
        self.expected, self._pending = {}, {}

    def is_ours(self, item_id: str) -> bool:
        """Say whether we made an item."""
        return item_id in self._own

    def heard(
        self, event: Event, frame: bytes, owns: Callable[[str], bool] = lambda _: False, *, age: float = 0.0
    ) -> tuple[str, ...]:
        """Take in an event of one of the types `WATCHED`; name what it tampers with.

        `owns` tells for which function calls the output is ours to give; `age` is the call's.
        """
        for update in self._pending.values():
            update.is_lost = update.is_lost or update.due <= age
        match canonical(event.type or ""):
            case "session.updated":
                return self._updated(mapping(fields(frame).get("session")))
            case "conversation.item.added":
                return self._added(mapping(fields(frame).get("item")), owns)
            case "response.output_item.added":
                _keep(self._made, identifier(mapping(fields(frame).get("item")).get("id")))
            case "error" if self._pending:
                refused = mapping(fields(frame).get("error")).get("event_id")
                if isinstance(refused, str):
                    self._pending.pop(refused, None)
        return ()

    def restoration(self) -> dict[str, Json]:
        """Give the expected session as an update that brings it back."""
        intended = self.intended
        update = {key: value for key, value in intended.items() if key not in _FIXED}
        return self.completed({"type": intended.get("type", "realtime"), **update})

    def completed(self, update: Mapping[str, Json]) -> dict[str, Json]:
        """Give an update with its type, and with objects whole that upstream replaces as wholes."""
        intended = self.intended
        whole = {"type": intended.get("type", "realtime"), **update}
        listening = mapping(mapping(update.get("audio")).get("input"))
        given = {name: listening[name] for name in _WHOLE if isinstance(listening.get(name), dict)}
        if not given:
            return whole
        for name, value in given.items():
            given[name] = _complete(name, value, self._listening(intended, name))
        audio = mapping(whole["audio"])
        return {**whole, "audio": {**audio, "input": {**listening, **given}}}

    def detection(self) -> dict[str, Json] | None:
        """Give the turn detection that should be in force, as a whole object; None where there is none."""
        found = _lookup(self.intended, _DETECTION)
        if found is None and not _has(self.intended, _DETECTION):
            found = _lookup(self._seen, _DETECTION)
            if found is None and _has(self._seen, _DETECTION):
                return None
            found = found if isinstance(found, dict) else {"type": "server_vad"}
        if not isinstance(found, dict):
            return None
        return _complete("turn_detection", found, mapping(_lookup(self._seen, _DETECTION)))

    def _listening(self, intended: Mapping[str, Json], name: str) -> dict[str, Json]:
        path = ("audio", "input", name)
        return mapping(_lookup(intended, path)) or mapping(_lookup(self._seen, path))

    def _updated(self, told: dict[str, Json]) -> tuple[str, ...]:
        if not told:
            return ()
        self._seen = told
        is_awaited = any(not update.is_lost for update in self._pending.values())
        self._settle(told)
        intended = self.intended
        wrong = [
            path
            for path in differences(self.expected, told)
            # while an update of ours is under way, either value may be told
            if intended is self.expected or not _agrees(_lookup(intended, path), _lookup(told, path), path[-1])
        ]
        found = [(".".join(path), _lookup(told, path)) for path in wrong]
        is_known = is_awaited and found == self._last
        self._last = found
        # a second update of the same page, told before our restoring of the first is answered, is nothing new
        return () if is_known else _keys(wrong)

    def _settle(self, told: dict[str, Json]) -> None:
        """Close the updates of ours of which a session tells what became."""
        sent = list(self._pending.items())
        shown = [event_id for event_id, update in sent if reflects(update.session, told)]
        answered = next((event_id for event_id in shown if self.awaits(event_id)), None)
        for number, (event_id, update) in enumerate(sent):
            # upstream takes them in order: what a later one wrote over is shown by that one
            has_later = any(id_ in shown for id_, _ in sent[number + 1 :])
            if event_id == answered:
                self.expected = merged(self.expected, update.session)
            elif update.is_lost:
                # it took effect as far as the session shows it; the rest was written over, or it never came
                self.expected = merged(self.expected, _shown(update.session, told))
                if not (has_later or reflects(update.session, told) or self._is_without(update, told)):
                    continue
            else:
                continue
            del self._pending[event_id]

    def _is_without(self, update: _Update, told: dict[str, Json]) -> bool:
        """Say whether a session shows what was expected before an update, wherever it does not show the update."""
        return all(
            _agrees(_lookup(self.expected, path), _lookup(told, path), path[-1])
            for path in differences(update.session, told)
            if _has(self.expected, path)
        )

    def _added(self, item: dict[str, Json], owns: Callable[[str], bool]) -> tuple[str, ...]:
        item_id = identifier(item.get("id"))
        if item_id is None or item_id in self._own or item_id in self._made:
            return ()
        match item.get("type"):
            case "function_call":
                # likewise
                return (ITEMS,) if item.get("status") != "in_progress" or item.get("arguments") else ()
            case "function_call_output":
                call_id = item.get("call_id")
                return (OUTPUTS,) if isinstance(call_id, str) and owns(call_id) else ()
            case "message" if item.get("role") == "system":
                return (ITEMS,)
            case "message" if item.get("role") == "assistant":
                # the model's own begin empty; where the event before was missed, this is how they show
                return (ITEMS,) if item.get("status") != "in_progress" or item.get("content") else ()
        return ()


def merged(session: Mapping[str, Json], update: Mapping[str, Json]) -> dict[str, Json]:
    """Lay an update over a session as upstream does: `audio` part by part, anything else whole."""
    new = {**session, **{key: value for key, value in update.items() if key not in _FIXED}}
    if isinstance(update.get("audio"), dict):
        audio = dict(mapping(session.get("audio")))
        for side, part in update["audio"].items():
            audio[side] = {**mapping(audio.get(side)), **part} if isinstance(part, dict) else part
        new["audio"] = audio
    return new


def reflects(update: Mapping[str, Json], told: Mapping[str, Json]) -> bool:
    """Say whether a session shows everything that an update asked for."""
    return not any(differences(update, told))


def differences(wanted: Mapping[str, Json], told: Mapping[str, Json]) -> Iterator[tuple[str, ...]]:
    """Give the paths of the leaves of one session that are otherwise in another; what is not told is not different."""
    for key, value in wanted.items():
        if key not in _FIXED and key in told:
            yield from _differences((key,), value, told[key])


def _differences(path: tuple[str, ...], wanted: Json, told: Json) -> Iterator[tuple[str, ...]]:
    if isinstance(wanted, dict) and isinstance(told, dict):
        for key, value in wanted.items():
            # an object such as the turn detection is off where it is left out
            if key in told or (key in _WHOLE and value is not None):
                yield from _differences((*path, key), value, told.get(key))
    elif not _agrees(wanted, told, path[-1]):
        yield path


def _agrees(wanted: Json, told: Json, name: str) -> bool:
    if wanted == "":
        return True  # upstream puts its own instructions there
    if wanted in (None, [], {}) and not isinstance(wanted, bool | int | float):
        return told in (None, [], {}) and not isinstance(told, bool | int | float)
    if name == "tools" and isinstance(wanted, list) and isinstance(told, list):
        return _same_tools(wanted, told)
    return _same(wanted, told)


def _shown(update: Mapping[str, Json], told: Mapping[str, Json]) -> dict[str, Json]:
    """Give the parts of an update that a session shows, each of them whole."""
    parts: list[dict[str, Json]] = []
    for key, value in update.items():
        if key != "audio" or not isinstance(value, dict):
            parts.append({key: value})
        else:
            for side, part in value.items():
                names = part.items() if isinstance(part, dict) else ()
                parts += [{"audio": {side: {name: inner}}} for name, inner in names]
    return reduce(merged, (part for part in parts if reflects(part, told)), {})


def _same_tools(wanted: list[Json], told: list[Json]) -> bool:
    left = {_tool_name(tool): tool for tool in objects(wanted)}
    right = {_tool_name(tool): tool for tool in objects(told)}
    if left.keys() != right.keys():
        return False
    return all(_same(tool.get("parameters"), right[name].get("parameters")) for name, tool in left.items())


def _tool_name(tool: Mapping[str, Json]) -> str:
    return str(tool.get("name") or tool.get("server_label") or tool.get("type"))


def _same(wanted: Json, told: Json) -> bool:
    if isinstance(wanted, bool) or isinstance(told, bool):
        return wanted is told
    if isinstance(wanted, int | float) and isinstance(told, int | float):
        # upstream answers some numbers with the digits of a single-precision float
        return math.isclose(wanted, told, rel_tol=1e-6)
    if isinstance(wanted, dict) and isinstance(told, dict):
        keys = wanted.keys() | told.keys()
        return all(_same(wanted.get(key), told.get(key)) for key in keys)
    if isinstance(wanted, list) and isinstance(told, list):
        return len(wanted) == len(told) and all(map(_same, wanted, told))
    return bool(wanted == told)


def _complete(name: str, given: Mapping[str, Json], current: Mapping[str, Json]) -> dict[str, Json]:
    kind = _WHOLE[name]
    if kind in given and given[kind] != current.get(kind):
        return dict(given)
    whole = {key: value for key, value in {**current, **given}.items() if value is not None or key in given}
    return {"type": "server_vad", **whole} if name == "turn_detection" else whole


def _lookup(session: Mapping[str, Json], path: tuple[str, ...]) -> Json:
    value: Json = session
    for step in path:
        if not isinstance(value, dict):
            return None
        value = value.get(step)
    return value


def _has(session: Mapping[str, Json], path: tuple[str, ...]) -> bool:
    part = _lookup(session, path[:-1])
    return isinstance(part, dict) and path[-1] in part


def _keys(paths: list[tuple[str, ...]]) -> tuple[str, ...]:
    """Name what differs as policies do: within `audio` by what is set, else by the first step."""
    return tuple(dict.fromkeys(path[2] if path[0] == "audio" and len(path) > 2 else path[0] for path in paths))


def _keep(ids: dict[str, None], id_: str | None) -> None:
    if id_ is not None:
        ids[id_] = None
        if len(ids) > MAX_ITEMS:
            del ids[next(iter(ids))]
