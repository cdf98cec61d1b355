"""Know where upstream takes text for the operator's own word, and whose text may not go there. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rtobserver.policy import rules
from rtobserver.policy.rules import Action, Json

_TRUSTED = frozenset({"instructions", "tools", "prompt", "keywords", "role"})
"""Keys under which a model, also one that transcribes, takes what it reads for the operator's word."""
_WHOLE = frozenset({"item", "session", "response", "input", "audio", "transcription", "input_audio_transcription"})
"""Keys whose whole value would bring such keys along, or a role, or what nobody has looked at."""
_UNREAD = frozenset({"metadata"})
"""Keys under which nothing is read by a model."""
_SPOKEN = (rules.Say, rules.HangUp)
"""Actions whose text goes into instructions."""
_OTHERS = frozenset({"tags", "labels", "user"})
"""Fields of a call that browsers, users or templates can write."""


def stranger(steps: Sequence[str]) -> str:
    """Name whose text a template's path may bring: what somebody outside can write; empty for what is ours."""
    if steps[0] != "call" or len(steps) == 1:
        return steps[0]
    return f"call.{steps[1]}" if steps[1] in _OTHERS else ""


def is_trusted(action: Action, place: Sequence[str | int], *, is_whole: bool) -> bool:
    """Say whether the model takes what stands at a place of an action for the operator's own instructions.

    `is_whole` is for a string that is nothing but one template: it may become a table.
    """
    if isinstance(action, _SPOKEN):
        return True
    value: Json = getattr(action, "event", None) or getattr(action, "item", None) or getattr(action, "session", None)
    for step in place:
        # in an item of no role there is nobody's word but a function's
        if isinstance(value, Mapping) and value.get("role", "user") != "user":
            return True
        if step in _TRUSTED:
            return True
        if step in _UNREAD:
            return False
        value = value[step]
    last = next((step for step in reversed(place) if isinstance(step, str)), "")
    return is_whole and last in _WHOLE
