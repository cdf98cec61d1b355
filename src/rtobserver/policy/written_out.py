"""Write a policy out as JSON values, without what is secret in it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from rtobserver.config.display import HIDDEN, address_shown, without_secrets
from rtobserver.config.sections import Secret
from rtobserver.policy.rules import ACTION_NAMES, TRIGGER_NAMES, AnswerTool, Policy


def trigger(policy: Policy) -> dict[str, Any]:
    """Give what it waits for, by the trigger's word; lists are filled in, durations are seconds."""
    return {TRIGGER_NAMES[type(policy.trigger)]: _plain(policy.trigger)}


def actions(policy: Policy) -> list[dict[str, Any]]:
    """Give what it does, each by the action's word; `true` where there is nothing to add.

    Secrets read `***`, and so do users, passwords and queries of addresses, and headers.
    """
    return [{ACTION_NAMES[type(each)]: _plain(each) or True} for each in policy.actions]


def _plain(value: Any) -> Any:
    if isinstance(value, Secret):
        return HIDDEN
    if is_dataclass(value):
        found = {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
        if isinstance(value, AnswerTool):
            found["url"] = address_shown(value.url, keep_path=True)
        # what another rule holds is written by its own word, as in the file
        return {name: _inner(getattr(value, name), inner) for name, inner in found.items()}
    if isinstance(value, Mapping):
        return without_secrets(value)
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    # a price is an exact decimal, which JSON has as text
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _inner(value: Any, plain: Any) -> Any:
    name = TRIGGER_NAMES.get(type(value))
    return plain if name is None else {name: plain}
