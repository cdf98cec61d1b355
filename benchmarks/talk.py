"""Make up what upstream says in calls: realistic in shape, order and size, spelled out before anything is timed.

A turn of a spoken call on a WebRTC sideband, where no audio comes: 71 events of about 300 bytes, most
of them deltas of the transcript, and a `response.done` of 1 to 3 KB at its end.
"""

from __future__ import annotations

import json
import random
import string
from collections.abc import Iterator
from typing import Any

TURN_EVENTS = 71
HEARD_WORDS, SAID_WORDS = 7, 45
SESSION_BYTES = 4096

_ALPHABET = string.ascii_letters + string.digits
_SYLLABLES = ("ka", "no", "ri", "mel", "to", "sa", "un", "dor", "vi", "el", "ha", "pin", "gor", "ly", "ost", "em")


class Talk:
    """Make the events of one call; the same seed makes the same call."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._session, self._conversation = self._id("sess"), self._id("conv")
        self._previous: str | None = None
        self._turn = 0

    def frames(self) -> Iterator[bytes]:
        """Give the texts of all events, without end."""
        yield self._session_created()
        while True:
            yield from self._one_turn()

    def _one_turn(self) -> Iterator[bytes]:
        self._turn += 1
        user, assistant, response = self._id("item"), self._id("item"), self._id("resp")
        heard, said = self._words(HEARD_WORDS), self._words(SAID_WORDS)
        spoken = {"type": "message", "object": "realtime.item", "status": "completed", "role": "user"}
        asked = {"id": user, **spoken, "content": [{"type": "input_audio", "transcript": None}]}
        begins = self._turn * 9_000
        yield self._event("input_audio_buffer.speech_started", audio_start_ms=begins, item_id=user)
        yield self._event("input_audio_buffer.speech_stopped", audio_end_ms=begins + 2_400, item_id=user)
        yield self._event("input_audio_buffer.committed", previous_item_id=self._previous, item_id=user)
        yield self._event("conversation.item.added", previous_item_id=self._previous, item=asked)
        yield self._event("conversation.item.done", previous_item_id=self._previous, item=asked)
        yield self._event("response.created", response=self._response(response, "in_progress", []))
        for word in heard:
            yield self._event(
                "conversation.item.input_audio_transcription.delta",
                item_id=user,
                content_index=0,
                delta=f"{word} ",
                obfuscation=self._letters(self._random.randint(2, 20)),
            )
        yield self._event(
            "conversation.item.input_audio_transcription.completed",
            item_id=user,
            content_index=0,
            transcript=" ".join(heard),
            usage={"type": "duration", "seconds": 2},
        )
        yield from self._answer(user, assistant, response, said)
        self._previous = assistant

    def _answer(self, user: str, assistant: str, response: str, said: list[str]) -> Iterator[bytes]:
        place: dict[str, Any] = {"response_id": response, "item_id": assistant, "output_index": 0, "content_index": 0}
        begun = self._message(assistant, "in_progress", [])
        yield self._event("response.output_item.added", response_id=response, output_index=0, item=begun)
        yield self._event("conversation.item.added", previous_item_id=user, item=begun)
        yield self._event("response.content_part.added", **place, part={"type": "audio", "transcript": ""})
        yield self._event("output_audio_buffer.started", response_id=response)
        for number, word in enumerate(said):
            yield self._event(
                "response.output_audio_transcript.delta",
                **place,
                delta=f" {word}" if number else word,
                obfuscation=self._letters(self._random.randint(2, 28)),
            )
        text = " ".join(said)
        ended = self._message(assistant, "completed", [{"type": "output_audio", "transcript": text}])
        yield self._event("response.output_audio.done", **place)
        yield self._event("response.output_audio_transcript.done", **place, transcript=text)
        yield self._event("response.content_part.done", **place, part={"type": "audio", "transcript": text})
        yield self._event("conversation.item.done", previous_item_id=user, item=ended)
        yield self._event("response.output_item.done", response_id=response, output_index=0, item=ended)
        yield self._event("response.done", response=self._response(response, "completed", [ended]))
        limit = {"name": "tokens", "limit": 40_000, "remaining": 39_012, "reset_seconds": 1.482}
        yield self._event("rate_limits.updated", rate_limits=[limit])
        yield self._event("output_audio_buffer.stopped", response_id=response)

    def _response(self, id_: str, status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
        value: dict[str, Any] = {
            "object": "realtime.response",
            "id": id_,
            "status": status,
            "status_details": None,
            "output": output,
            "conversation_id": self._conversation,
            "output_modalities": ["audio"],
            "max_output_tokens": "inf",
            "audio": {"output": {"format": {"type": "audio/pcm", "rate": 24000}, "voice": "marin"}},
            "usage": None,
            "metadata": None,
        }
        if status == "completed":
            value["usage"] = self._usage()
            value["metadata"] = {f"note_{n}": " ".join(self._words(12)) for n in range(self._random.randint(0, 24))}
        return value

    def _usage(self) -> dict[str, Any]:
        text, audio, cached, said, spoken = (self._random.randint(20, 900) for _ in range(5))
        return {
            "total_tokens": text + audio + said + spoken,
            "input_tokens": text + audio,
            "output_tokens": said + spoken,
            "input_token_details": {
                "text_tokens": text,
                "audio_tokens": audio,
                "image_tokens": 0,
                "cached_tokens": min(text, cached),
                "cached_tokens_details": {"text_tokens": min(text, cached), "audio_tokens": 0, "image_tokens": 0},
            },
            "output_token_details": {"text_tokens": said, "audio_tokens": spoken},
        }

    def _session_created(self) -> bytes:
        session = {
            "object": "realtime.session",
            "type": "realtime",
            "id": self._session,
            "model": "gpt-realtime",
            "output_modalities": ["audio"],
            "instructions": "",
            "tool_choice": "auto",
            "max_output_tokens": "inf",
            "expires_at": 1_790_000_000,
            "audio": {
                "input": {
                    "format": {"type": "audio/pcm", "rate": 24000},
                    "transcription": {"model": "whisper-1"},
                    "turn_detection": {"type": "server_vad", "prefix_padding_ms": 300, "silence_duration_ms": 200},
                },
                "output": {"format": {"type": "audio/pcm", "rate": 24000}, "voice": "marin", "speed": 1.0},
            },
        }
        missing = SESSION_BYTES - len(self._event("session.created", session=session))
        session["instructions"] = " ".join(self._words(missing // 4))[:missing]
        return self._event("session.created", session=session)

    def _message(self, id_: str, status: str, content: list[dict[str, Any]]) -> dict[str, Any]:
        fixed = {"id": id_, "object": "realtime.item", "type": "message", "role": "assistant"}
        return {**fixed, "status": status, "content": content}

    def _event(self, type_: str, **values: Any) -> bytes:
        event = {"type": type_, "event_id": self._id("event"), **values}
        return json.dumps(event, separators=(",", ":")).encode()

    def _id(self, prefix: str) -> str:
        return f"{prefix}_{self._letters(21)}"

    def _letters(self, count: int) -> str:
        return "".join(self._random.choices(_ALPHABET, k=count))

    def _words(self, count: int) -> list[str]:
        return ["".join(self._random.choices(_SYLLABLES, k=self._random.randint(1, 4))) for _ in range(count)]
