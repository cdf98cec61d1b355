"""Speak a call's events by hand, as upstream would, and fold them."""

from __future__ import annotations

import json
from typing import Any, Self

from rtobserver.realtime.call import CallState, Changes
from rtobserver.realtime.cost import Prices
from rtobserver.realtime.events import read
from rtobserver.realtime.rows import ItemRow, ResponseRow
from rtobserver.realtime.transcript import Line, transcript
from rtobserver.realtime.turns import Turn, turns

START_US = 1_795_000_000_000_000
"""19 November 2026."""

USAGE = {
    "total_tokens": 253,
    "input_tokens": 132,
    "output_tokens": 121,
    "input_token_details": {
        "text_tokens": 112,
        "audio_tokens": 20,
        "image_tokens": 0,
        "cached_tokens": 64,
        "cached_tokens_details": {"text_tokens": 64, "audio_tokens": 0, "image_tokens": 0},
    },
    "output_token_details": {"text_tokens": 30, "audio_tokens": 91},
}


def usage(text_in: int = 0, audio_in: int = 0, text_out: int = 0, audio_out: int = 0) -> dict[str, Any]:
    """What `response.done` says was used, nothing of it cached."""
    return {
        "total_tokens": text_in + audio_in + text_out + audio_out,
        "input_tokens": text_in + audio_in,
        "output_tokens": text_out + audio_out,
        "input_token_details": {"text_tokens": text_in, "audio_tokens": audio_in, "cached_tokens": 0},
        "output_token_details": {"text_tokens": text_out, "audio_tokens": audio_out},
    }


class Script:
    """A call being folded; times are milliseconds since its beginning."""

    def __init__(
        self, *, model: str | None = None, transcription_model: str | None = None, prices: Prices | None = None
    ) -> None:
        self.state = CallState(model=model, transcription_model=transcription_model, prices=prices)
        self.ms = 0
        self.seq = 0
        self.changes: list[Changes] = []

    def at(self, ms: int) -> Self:
        """Move the clock."""
        self.ms = ms
        return self

    def send(self, event_type: str, **fields: Any) -> Changes | None:
        """Let upstream send an event."""
        frame = json.dumps({"type": event_type, "event_id": f"event_{self.seq}", **fields}).encode()
        self.seq += 1
        changes = self.state.apply(read(frame)[0], frame, START_US + self.ms * 1000, 1, self.seq)
        if changes is not None:
            self.changes.append(changes)
        return changes

    # the user's side

    def starts_speaking(self, item: str) -> None:
        self.send("input_audio_buffer.speech_started", item_id=item, audio_start_ms=self.ms)

    def stops_speaking(self, item: str) -> None:
        self.send("input_audio_buffer.speech_stopped", item_id=item, audio_end_ms=self.ms)

    def commits(self, item: str, previous: str | None) -> None:
        self.send("input_audio_buffer.committed", item_id=item, previous_item_id=previous)
        message = {
            "id": item,
            "type": "message",
            "status": "completed",
            "role": "user",
            "content": [{"type": "input_audio", "transcript": None}],
        }
        self.adds(message, previous)
        self.send("conversation.item.done", item=message, previous_item_id=previous)

    def speaks(self, item: str, start: int, stop: int, previous: str | None = None) -> None:
        """A whole utterance, committed; the clock then stands at its end."""
        self.at(start).starts_speaking(item)
        self.at(stop).stops_speaking(item)
        self.commits(item, previous)

    def is_transcribed(self, item: str, transcript: str, seconds: float = 2) -> None:
        self.send(
            "conversation.item.input_audio_transcription.completed",
            item_id=item,
            content_index=0,
            transcript=transcript,
            usage={"type": "duration", "seconds": seconds},
        )

    def types(self, item: str, text: str, previous: str | None = None, role: str = "user") -> None:
        part = {"type": "output_text" if role == "assistant" else "input_text", "text": text}
        message = {"id": item, "type": "message", "status": "completed", "role": role, "content": [part]}
        self.adds(message, previous)
        self.send("conversation.item.done", item=message, previous_item_id=previous)

    def adds(self, item: dict[str, Any], previous: str | None) -> None:
        self.send("conversation.item.added", item=item, previous_item_id=previous)

    # the model's side

    def creates(self, response: str, *, conversation: str | None = "conv_1", text_only: bool = False) -> None:
        self.send(
            "response.created",
            response={
                "id": response,
                "status": "in_progress",
                "conversation_id": conversation,
                "output_modalities": ["text"] if text_only else ["audio"],
                "usage": None,
            },
        )

    def puts_out(self, response: str, item: dict[str, Any], previous: str | None, *, added: bool = True) -> None:
        self.send("response.output_item.added", response_id=response, output_index=0, item=item)
        if added:
            self.adds(item, previous)

    def begins_message(self, response: str, item: str, previous: str | None, *, added: bool = True) -> None:
        message = {"id": item, "type": "message", "status": "in_progress", "role": "assistant", "content": []}
        self.puts_out(response, message, previous, added=added)

    def says_part(self, response: str, item: str, words: str) -> None:
        """Deltas, a word each."""
        for number, word in enumerate(words.split(" ")):
            self.delta("response.output_audio_transcript.delta", response, item, f" {word}" if number else word)

    def delta(self, event_type: str, response: str, item: str, delta: object) -> Changes | None:
        return self.send(event_type, response_id=response, item_id=item, output_index=0, content_index=0, delta=delta)

    def ends_message(
        self, response: str, item: str, words: str, *, status: str = "completed", kind: str = "output_audio"
    ) -> None:
        names = {"response_id": response, "item_id": item, "output_index": 0, "content_index": 0}
        part = {"type": kind, "transcript" if kind == "output_audio" else "text": words}
        if kind == "output_audio":
            self.send("response.output_audio.done", **names)
            self.send("response.output_audio_transcript.done", transcript=words, **names)
        else:
            self.send("response.output_text.done", text=words, **names)
        message = {"id": item, "type": "message", "status": status, "role": "assistant", "content": [part]}
        self.send("conversation.item.done", item=message, previous_item_id=None)
        self.send("response.output_item.done", response_id=response, output_index=0, item=message)

    def says(self, response: str, item: str, previous: str | None, words: str) -> None:
        """A whole spoken message."""
        self.begins_message(response, item, previous)
        self.says_part(response, item, words)
        self.ends_message(response, item, words)

    def calls_tool(self, response: str, item: str, previous: str | None, name: str, call: str, arguments: str) -> None:
        value = {"id": item, "type": "function_call", "status": "in_progress", "name": name, "call_id": call}
        self.puts_out(response, {**value, "arguments": ""}, previous)
        self.delta("response.function_call_arguments.delta", response, item, arguments)
        self.send(
            "response.function_call_arguments.done",
            response_id=response,
            item_id=item,
            call_id=call,
            name=name,
            arguments=arguments,
        )
        done = {**value, "status": "completed", "arguments": arguments}
        self.send("conversation.item.done", item=done, previous_item_id=None)
        self.send("response.output_item.done", response_id=response, item=done)

    def gives_output(self, item: str, previous: str | None, call: str, output: str) -> None:
        self.adds({"id": item, "type": "function_call_output", "call_id": call, "output": output}, previous)

    def ends(
        self,
        response: str,
        status: str = "completed",
        *,
        details: dict[str, Any] | None = None,
        used: dict[str, Any] | None = USAGE,
        conversation: str | None = "conv_1",
        output: list[dict[str, Any]] | None = None,
    ) -> Changes | None:
        return self.send(
            "response.done",
            response={
                "id": response,
                "status": status,
                "status_details": details,
                "conversation_id": conversation,
                "output": output or [],
                "usage": used,
            },
        )

    def plays(self, response: str, start: int, stop: int | None = None) -> None:
        self.at(start).send("output_audio_buffer.started", response_id=response)
        if stop is not None:
            self.at(stop).send("output_audio_buffer.stopped", response_id=response)

    # what came of it

    def lines(self) -> list[Line]:
        return transcript(self.state.items())

    def texts(self) -> list[tuple[str, str]]:
        return [(line.role, line.text) for line in self.lines()]

    def turns(self) -> list[Turn]:
        return turns(self.state.items(), self.state.responses())

    def item(self, item: str) -> ItemRow:
        return next(row for row in self.state.items() if row.item_id == item)

    def response(self, response: str) -> ResponseRow:
        return next(row for row in self.state.responses() if row.response_id == response)
