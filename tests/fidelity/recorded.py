"""Recordings of the real service, as data."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from tests.support import outside

Json = dict[str, Any]


@cache
def interactions(name: str) -> list[Json]:
    """Give what a recording holds."""
    return outside.interactions(name)


def received(name: str) -> list[Json]:
    """Give the events that came, in order."""
    return [turn["data"] for turn in interactions(name) if turn.get("direction") == "received"]


def all_received(provider: str) -> list[Json]:
    """Give every recorded event of one vendor."""
    names = {
        "azure": ("azure_sideband_text_turn", "azure_spoken_turn_with_tool", "azure_history_seeding"),
        "openai": ("openai_sideband_audio_turn", "openai_three_spoken_turns"),
    }
    return [event for name in names[provider] for event in received(name)]


def kind_of(value: Any) -> str:
    """Name a JSON value's type."""
    names = {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")


def objects(value: Any, path: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Give each object inside a value as its place and its keys in order; the place names its kind."""
    if isinstance(value, dict):
        marks = [str(value[key]) for key in ("type", "role") if isinstance(value.get(key), str)]
        place = f"{path}<{' '.join(marks)}>" if marks else path
        yield place, tuple(value)
        for key, inner in value.items():
            if key not in ("parameters", "metadata"):
                yield from objects(inner, f"{place}.{key}")
    elif isinstance(value, list):
        for inner in value:
            yield from objects(inner, f"{path}[]")


def leaves(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Give each value inside a value as its place and its JSON type."""
    yield path, kind_of(value)
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in ("parameters", "metadata"):
                yield from leaves(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner, f"{path}[]")
