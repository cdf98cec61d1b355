"""Recordings of the real service, as data; found by the environment variable RTOBSERVER_RECORDINGS_DIR."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

Json = dict[str, Any]

_VARIABLE = "RTOBSERVER_RECORDINGS_DIR"


@cache
def interactions(name: str) -> list[Json]:
    """Give what a recording holds; a test that cannot find it fails and says why."""
    folder = os.environ.get(_VARIABLE)
    if not folder:
        pytest.fail(f"{_VARIABLE} is not set: it names the folder with the recordings of the real service")
    path = Path(folder) / f"{name}.yaml"
    if not path.is_file():
        pytest.fail(f"{_VARIABLE} names {folder}, which holds no {path.name}")
    found: list[Json] = yaml.safe_load(path.read_text(encoding="utf-8"))["interactions"]
    return found


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
