"""A recorded call as a timeline: NDJSON of events or of exported entries, or a YAML recording's received frames."""

from __future__ import annotations

import base64
import importlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rtobserver.errors import ConfigError, Mistake
from rtobserver.simulator.beats import EmitRaw, End, Timeline, Wait

_SPACING = 0.02
"""Seconds between frames of a recording that holds no times."""
_decoder = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class RecordedFrame:
    """Hold one frame and when it came, in seconds since the recording began (None: not known)."""

    payload: bytes
    offset_seconds: float | None
    is_text: bool = True


def load_recording(path: Path) -> list[RecordedFrame]:
    """Read a recording.

    Lines of events are kept byte for byte, and so are the payloads of exported entries; commands and
    gaps among these are skipped.
    Raises: ConfigError, naming the first line that is neither.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError([Mistake("recording", f"cannot be read: {exc}", file=path.name)]) from exc
    if path.suffix in (".yaml", ".yml"):
        return _from_yaml(text, path.name)
    frames: list[RecordedFrame] = []
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip(" \r\t")
        if line:
            try:
                frames += _from_line(line)
            except (ValueError, TypeError) as exc:
                problem = f"is neither an event nor an exported entry: {exc}"
                raise ConfigError([Mistake(f"line {number}", problem, file=path.name)]) from exc
    return _from_zero(frames)


def play_recording(frames: list[RecordedFrame]) -> Timeline:
    """Play a recording at its own speed, then have the browser leave."""
    before = 0.0
    for frame in frames:
        if frame.offset_seconds is None:
            yield Wait(_SPACING)
        else:
            yield Wait(max(0.0, frame.offset_seconds - before))
            before = max(before, frame.offset_seconds)
        yield EmitRaw(frame.payload, text=frame.is_text)
    yield End("left")


def _from_line(line: str) -> list[RecordedFrame]:
    members = dict(_members(line))
    if "kind" not in members:
        if "type" not in members:
            raise ValueError("the line has no type")
        return [RecordedFrame(line.encode(), None)]
    entry = json.loads(line)
    if entry["kind"] != "event":
        return []
    offset = _offset(entry)
    if "payload_base64" in entry:
        payload = base64.b64decode(entry["payload_base64"], validate=True)
        return [RecordedFrame(payload, offset, is_text=_is_text(payload))]
    if "payload" not in members:
        raise ValueError("the entry has no payload")
    return [RecordedFrame(members["payload"].encode(), offset)]


def _members(line: str) -> Iterator[tuple[str, str]]:
    """Give the members of a JSON object, each value as the text that stands there."""
    json.loads(line)
    place = _after_blanks(line, 0)
    if line[place] != "{":
        raise ValueError("the line is not a JSON object")
    place = _after_blanks(line, place + 1)
    while line[place] != "}":
        key, place = _decoder.raw_decode(line, place)
        start = _after_blanks(line, _after_blanks(line, place) + 1)
        _, place = _decoder.raw_decode(line, start)
        yield str(key), line[start:place]
        place = _after_blanks(line, place)
        if line[place] == ",":
            place = _after_blanks(line, place + 1)


def _after_blanks(line: str, place: int) -> int:
    while line[place] in " \t\r":
        place += 1
    return place


def _offset(entry: dict[str, Any]) -> float | None:
    if isinstance(entry.get("offset_ms"), int | float):
        return float(entry["offset_ms"]) / 1000
    if isinstance(entry.get("at"), str):
        return datetime.fromisoformat(entry["at"]).timestamp()
    return None


def _from_zero(frames: list[RecordedFrame]) -> list[RecordedFrame]:
    """Count the times from the first frame's."""
    first = next((frame.offset_seconds for frame in frames if frame.offset_seconds is not None), 0.0)
    return [
        RecordedFrame(
            frame.payload, None if frame.offset_seconds is None else frame.offset_seconds - first, frame.is_text
        )
        for frame in frames
    ]


def _is_text(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


def _from_yaml(text: str, name: str) -> list[RecordedFrame]:
    try:
        yaml = importlib.import_module("yaml")
    except ModuleNotFoundError as exc:
        problem = "is YAML, which needs the package pyyaml"
        raise ConfigError([Mistake("recording", problem, "install pyyaml, or use NDJSON", name)]) from exc
    try:
        interactions = yaml.safe_load(text)["interactions"]
        return [
            RecordedFrame(json.dumps(turn["data"], separators=(",", ":"), ensure_ascii=False).encode(), None)
            for turn in interactions
            if turn.get("kind") == "message" and turn["direction"] == "received"
        ]
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as exc:
        raise ConfigError([Mistake("recording", f"is not a recording: {exc}", file=name)]) from exc
