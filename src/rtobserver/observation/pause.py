"""Keep what is said during a pause out of the record, even where upstream repeats it later.

Pure. While paused, each frame is replaced by a placeholder before anything is stored: its number
and type stay, of its payload only a class of size and the ids that it names. Transcripts come late,
and `response.done` or a retrieved item repeat what was said; so whatever names an item or response
that was open in a pause, or was named in one, loses its payload too, for the rest of the call.

Sound that was spoken in the pause may be committed after it: an item that is committed first after
a pause, without speech having started since, belongs to the pause. Where frames were missed during
the pause, ids cannot be known; then only what begins after the pause, or was known before, is kept.

Placeholders and the commands `pause` and `resume` tell all of this again after a restart (`recall`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable
from typing import Self

from rtobserver.realtime.entries import COMMAND, EVENT, GAP
from rtobserver.realtime.events import Event, fields
from rtobserver.realtime.placeholders import ids_of, is_placeholder, placeholder
from rtobserver.realtime.values import identifier, mapping, objects

MAX_TOUCHED = 20_000
"""Ids that are remembered; beyond it, ids count as unknown."""

_PLAIN_TYPE = re.compile(r"[a-z0-9_.]{1,80}")
_NESTED = ("conversation.item.", "response.created", "response.done", "response.output_item.")
_BEGINNINGS = frozenset(
    {
        "input_audio_buffer.speech_started",
        "response.created",
        "response.output_item.added",
        "conversation.item.added",
        "conversation.item.created",
    }
)


class Pause:
    """Know whether a call's recording is paused, and what belongs to its pauses."""

    __slots__ = ("_is_dirty", "_is_unsure", "_since", "_touched", "is_active")

    def __init__(self) -> None:
        self.is_active = False
        self._touched: dict[str, None] = {}
        self._is_dirty = False
        """The input buffer may hold sound of a pause."""
        self._is_unsure = False
        """Frames of a pause were missed, so that its ids are not all known."""
        self._since: set[str] = set()
        """Ids that began after a pause, while unsure."""

    @property
    def is_engaged(self) -> bool:
        """Say whether frames must be looked at."""
        return self.is_active or self._is_dirty or self._is_unsure or bool(self._touched)

    def begin(self, open_ids: Iterable[str]) -> list[str]:
        """Pause; `open_ids` are the items and responses that go on now. Gives them."""
        self.is_active = self._is_dirty = True
        ids = list(open_ids)
        self._touch(ids)
        return ids

    def end(self) -> None:
        """Resume."""
        self.is_active = False

    def miss(self) -> None:
        """Take note that frames were missed."""
        self._is_unsure = self._is_unsure or self.is_active

    @classmethod
    def unknown(cls) -> Self:
        """Be paused, since whether the recording is cannot be read."""
        pause = cls()
        pause.begin(())
        pause.miss()
        return pause

    def conceal(
        self, event: Event, frame: bytes, knows: Callable[[str], bool], waiting: Container[str] = ()
    ) -> bytes | None:
        """Give the placeholder of a frame that must not be stored; None for one that may.

        `knows` tells which ids the record has already, `waiting` are the function calls on record without output.
        """
        ids = _ids(event, frame)
        if not (self.is_active or self._belongs(event.type or "", ids, knows)):
            return None
        self._touch(ids)
        return placeholder(frame, ids, _answers(event, frame, waiting) if waiting else ())

    def holds(self, item_id: str) -> bool:
        """Say whether an item belongs to a pause."""
        return item_id in self._touched

    def touch(self, ids: Iterable[str]) -> None:
        """Take note of items that say again what was said in a pause."""
        self._touch(ids)

    def recall(self, kind: int, type_: str | None, payload: bytes) -> None:
        """Take in a stored entry, in order, to be as before a restart."""
        if kind == COMMAND and type_ == "pause":
            self.begin(ids_of(payload))
        elif kind == COMMAND and type_ == "resume":
            self.end()
        elif kind == GAP:
            if fields(payload).get("reason") != "paused":
                self.miss()
        elif kind in (EVENT, COMMAND) and is_placeholder(payload):
            self._touch(ids_of(payload))
        elif kind == EVENT and self._is_dirty and not self.is_active:
            self._clean(type_ or "")

    def _belongs(self, type_: str, ids: list[str], knows: Callable[[str], bool]) -> bool:
        if any(each in self._touched for each in ids):
            if type_ == "input_audio_buffer.committed":
                self._is_dirty = False
            return True
        if self._is_dirty and type_ == "input_audio_buffer.committed":
            self._is_dirty = False
            return True
        if self._is_dirty:
            self._clean(type_)
        if not self._is_unsure:
            return False
        if type_ in _BEGINNINGS:
            self._since.update(ids)
            return False
        return any(each not in self._since and not knows(each) for each in ids)

    def _clean(self, type_: str) -> None:
        if type_ in ("input_audio_buffer.speech_started", "input_audio_buffer.committed", "input_audio_buffer.cleared"):
            self._is_dirty = False

    def _touch(self, ids: Iterable[str]) -> None:
        for each in ids:
            if len(self._touched) >= MAX_TOUCHED:
                self._is_unsure = True
                return
            self._touched[each] = None


def plain_type(type_: str | None) -> str | None:
    """Give a type that can say nothing but what kind of event it is; None for any other text."""
    return type_ if type_ is not None and _PLAIN_TYPE.fullmatch(type_) else None


def _ids(event: Event, frame: bytes) -> list[str]:
    """List the items and responses that a frame is about; the item before one is not."""
    found = [event.item_id, event.response_id]
    if event.type is not None and event.type.startswith(_NESTED):
        told = fields(frame)
        response = mapping(told.get("response"))
        found += [mapping(told.get("item")).get("id"), response.get("id")]
        found += [output.get("id") for output in objects(response.get("output"))]
    return list(dict.fromkeys(name for each in found if (name := identifier(each)) is not None))


def _answers(event: Event, frame: bytes, waiting: Container[str]) -> list[str]:
    """Name the function call that a frame gives the output of, if that is on record."""
    if not (event.type or "").startswith("conversation.item."):
        return []
    item = mapping(fields(frame).get("item"))
    call = identifier(item.get("call_id")) if item.get("type") == "function_call_output" else None
    return [call] if call is not None and call in waiting else []
