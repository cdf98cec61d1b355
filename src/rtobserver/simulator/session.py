"""The session object: its defaults, how it is minted, and how an update merges into it (protocol.md 3.7)."""

from __future__ import annotations

import copy
from typing import Any, NoReturn

from rtobserver.simulator.beats import Json

DEFAULT_INSTRUCTIONS = "Be a friendly voice assistant. Keep to the language of the person who speaks to you."

_VOICES = frozenset({"alloy", "ash", "ballad", "coral", "echo", "sage", "shimmer", "verse", "marin", "cedar"})
_SETTABLE = frozenset(
    {
        "type", "model", "output_modalities", "instructions", "audio", "tools", "tool_choice", "max_output_tokens",
        "truncation", "tracing", "include", "prompt", "reasoning", "parallel_tool_calls",
    }
)  # fmt: skip
_INPUT = frozenset({"format", "transcription", "noise_reduction", "turn_detection"})
_OUTPUT = frozenset({"format", "voice", "speed"})
_FORMATS = frozenset({"audio/pcm", "audio/pcmu", "audio/pcma"})


class Refusal(Exception):
    """Refuse what a client sent, in upstream's words."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(code, message, param)
        self.code = code
        self.message = message
        self.param = param


def default_session(session_id: str, model: str) -> Json:
    """Give the session that a client gets who configures nothing; keys in upstream's order."""
    newer = "2.1" in model
    return {
        "type": "realtime",
        "object": "realtime.session",
        "id": session_id,
        "model": model,
        "output_modalities": ["audio"],
        "instructions": DEFAULT_INSTRUCTIONS,
        "tools": [],
        "tool_choice": "auto",
        "max_output_tokens": "inf",
        "tracing": None,
        "truncation": "auto",
        "prompt": None,
        "expires_at": 0,
        "audio": {
            "input": {
                "format": {"type": "audio/pcm", "rate": 24000},
                "transcription": None,
                "noise_reduction": None,
                "turn_detection": _turn_detection({"type": "server_vad"}, 500 if newer else 200),
            },
            "output": {
                "format": {"type": "audio/pcm", "rate": 24000},
                "voice": "marin" if newer else "alloy",
                "speed": 1.0,
            },
        },
        "include": None,
    }


def mint(session_id: str, requested: Json) -> Json:
    """Make the session of a client secret.

    Raises: Refusal, if the request is not one that upstream takes.
    """
    model = requested.get("model", "gpt-realtime")
    if not isinstance(model, str) or not model:
        raise Refusal("invalid_value", "Invalid value for 'session.model': expected a string.", "session.model")
    if "type" not in requested:
        raise Refusal("missing_required_parameter", "Missing required parameter: 'session.type'.", "session.type")
    if requested["type"] == "transcription":
        return _transcription_session(session_id, requested)
    return merge(default_session(session_id, model), requested)


def merge(session: Json, patch: Json, *, spoke: bool = False) -> Json:
    """Merge an update into a session and give the new one; `spoke` locks the voice.

    Raises: Refusal, if a value is not one that upstream takes; the session is then unchanged.
    """
    _check(session, patch, spoke=spoke)
    merged = copy.deepcopy(session)
    for key, value in patch.items():
        if key == "audio":
            _merge_audio(merged, value)
        elif key == "instructions":
            merged[key] = value or DEFAULT_INSTRUCTIONS
        elif key == "tools":
            merged[key] = [_tool(tool) for tool in value]
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def _merge_audio(session: Json, patch: Json) -> None:
    silence = 500 if "2.1" in str(session["model"]) else 200
    for side in ("input", "output"):
        for key, value in (patch.get(side) or {}).items():
            if key == "turn_detection" and value is not None:
                value = _turn_detection(value, silence)
            elif key == "transcription" and value is not None:
                value = {"model": value.get("model"), "language": None, "prompt": None} | value
            session["audio"][side][key] = copy.deepcopy(value)


def _turn_detection(given: Json, silence_ms: int) -> Json:
    kind: Json
    if given.get("type") == "semantic_vad":
        kind = {"type": "semantic_vad", "eagerness": "auto"}
    else:
        kind = {
            "type": "server_vad",
            "threshold": 0.5,
            "prefix_padding_ms": 300,
            "silence_duration_ms": silence_ms,
            "idle_timeout_ms": None,
        }
    return kind | {"create_response": True, "interrupt_response": True} | given


def _tool(tool: Json) -> Json:
    order = ("type", "name", "description", "parameters")
    return {key: tool[key] for key in order if key in tool} | {k: v for k, v in tool.items() if k not in order}


def _transcription_session(session_id: str, requested: Json) -> Json:
    session = merge(default_session(session_id, "gpt-realtime"), {"audio": requested.get("audio") or {}})
    return {
        "type": "transcription",
        "object": "realtime.transcription_session",
        "id": session_id,
        "expires_at": 0,
        "audio": {"input": session["audio"]["input"]},
        "include": requested.get("include"),
    }


def _check(session: Json, patch: Json, *, spoke: bool) -> None:
    _known(patch, _SETTABLE, "session")
    if patch.get("type", session["type"]) != session["type"]:
        _refuse("session.type", f"Passing a {session['type']} session update event is required here.")
    if patch.get("model", session["model"]) != session["model"]:
        _refuse("session.model", "The model of a session cannot be changed.")
    if "instructions" in patch and not isinstance(patch["instructions"], str):
        _refuse("session.instructions", "Expected a string.")
    if patch.get("output_modalities", ["audio"]) not in (["audio"], ["text"]):
        _refuse("session.output_modalities", "Supported combinations are ['text'] and ['audio'].")
    tokens = patch.get("max_output_tokens", "inf")
    if tokens != "inf" and not (type(tokens) is int and 1 <= tokens <= 4096):
        _refuse("session.max_output_tokens", "Expected an integer from 1 to 4096, or 'inf'.")
    _check_tools(patch.get("tools", []))
    audio = patch.get("audio", {})
    _known(audio, frozenset({"input", "output"}), "session.audio")
    _check_input(audio.get("input", {}))
    _check_output(audio.get("output", {}), session["audio"]["output"]["voice"], spoke=spoke)


def _check_tools(tools: Any) -> None:
    if not isinstance(tools, list):
        _refuse("session.tools", "Expected an array of tools.")
    for position, tool in enumerate(tools):
        kind = tool.get("type") if isinstance(tool, dict) else None
        if kind not in ("function", "mcp"):
            _refuse(f"session.tools[{position}].type", "Supported values are: 'function' and 'mcp'.")
        if kind == "function" and not tool.get("name"):
            name = f"session.tools[{position}].name"
            raise Refusal("missing_required_parameter", f"Missing required parameter: '{name}'.", name)


def _check_input(side: Any) -> None:
    _known(side, _INPUT, "session.audio.input")
    _check_format(side, "session.audio.input")
    detection = side.get("turn_detection")
    if detection is not None and (
        not isinstance(detection, dict) or detection.get("type", "server_vad") not in ("server_vad", "semantic_vad")
    ):
        _refuse("session.audio.input.turn_detection.type", "Supported values are: 'server_vad' and 'semantic_vad'.")
    threshold = (detection or {}).get("threshold", 0.5)
    if not isinstance(threshold, int | float) or not 0 <= threshold <= 1:
        _refuse("session.audio.input.turn_detection.threshold", "Expected a number from 0 to 1.")
    transcription = side.get("transcription")
    if transcription is not None and not isinstance(transcription, dict):
        _refuse("session.audio.input.transcription", "Expected an object or null.")


def _check_output(side: Any, voice: Any, *, spoke: bool) -> None:
    _known(side, _OUTPUT, "session.audio.output")
    _check_format(side, "session.audio.output")
    wanted = side.get("voice", voice)
    if isinstance(wanted, str) and wanted not in _VOICES:
        _refuse("session.audio.output.voice", "Unknown voice.")
    if spoke and wanted != voice:
        raise Refusal(
            "cannot_update_voice", "Cannot update a conversation's voice if assistant audio is present.",
            "session.audio.output.voice",
        )  # fmt: skip
    speed = side.get("speed", 1.0)
    if not isinstance(speed, int | float) or not 0.25 <= speed <= 1.5:
        _refuse("session.audio.output.speed", "Expected a number from 0.25 to 1.5.")


def _check_format(side: Json, path: str) -> None:
    given = side.get("format", {"type": "audio/pcm"})
    if not isinstance(given, dict) or given.get("type") not in _FORMATS:
        _refuse(f"{path}.format.type", "Supported values are: 'audio/pcm', 'audio/pcmu' and 'audio/pcma'.")


def _known(given: Any, known: frozenset[str], path: str) -> None:
    if not isinstance(given, dict):
        _refuse(path, "Expected an object.")
    for key in given:
        if key not in known:
            raise Refusal("unknown_parameter", f"Unknown parameter: '{path}.{key}'.", f"{path}.{key}")


def _refuse(param: str, why: str) -> NoReturn:
    raise Refusal("invalid_value", f"Invalid value for '{param}': {why}", param)
