"""Play an engine: events with the call's age in seconds, and what was decided about them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from rtobserver.policy.active import Active
from rtobserver.policy.engine import Engine
from rtobserver.policy.rules import (
    Action,
    CancelResponse,
    Limit,
    Mode,
    Phrase,
    Policy,
    PolicySet,
    Speaker,
    Tag,
    Trigger,
)
from rtobserver.policy.verdicts import Past, Verdict
from rtobserver.realtime.call import CallState
from rtobserver.realtime.cost import Prices
from rtobserver.realtime.events import read

START = 1_800_000_000_000_000


def policy(
    trigger: Trigger,
    *actions: Action,
    id: str = "rule",  # noqa: A002
    mode: Mode = "enforce",
    when: str | None = None,
    profiles: tuple[str, ...] | None = None,
    canary_percent: int = 10,
    **limit: Any,
) -> Policy:
    return Policy(
        id=id,
        trigger=trigger,
        actions=actions or (Tag(tag="t"),),
        mode=mode,
        when=when,
        profiles=profiles,
        canary_percent=canary_percent,
        limit=Limit(**limit),
    )


def phrase(*phrases: str, speaker: Speaker = "assistant", whole: bool = False) -> Phrase:
    return Phrase(speaker=speaker, phrases=phrases, whole=whole)


class Play:
    """Show events to an engine and keep its verdicts."""

    def __init__(
        self,
        *policies: Policy,
        call_id: str = "rtc_1",
        profile: str = "support",
        active: Active | None = None,
        state: CallState | None = None,
        prices: Prices | None = None,
        start: int = START,
    ) -> None:
        self.start = start
        self.active = active or Active(PolicySet(policies=policies, hash="0123456789abcdef"))
        self.state = state or CallState(model="gpt-realtime", prices=prices)
        self.age = 0.0
        self.seq = 0
        self.views: list[float] = []
        self.engine = Engine(
            self.active, call_id=call_id, profile=profile, started_at=start, state=self.state, view=self.view
        )
        self.all: list[Verdict] = []
        self.ages: dict[int, float] = {}
        """When each of these verdicts was made, by its identity."""
        self.frames: list[tuple[float, bytes]] = []

    def view(self, age: float) -> Mapping[str, Any]:
        self.views.append(age)
        return {"call_id": "rtc_1", "turn_count": self.state.turn_count, "age_seconds": age, "labels": {"plan": "gold"}}

    @property
    def at(self) -> int:
        return self.start + round(self.age * 1e6)

    def hear(
        self, event: Mapping[str, Any] | bytes, *, after: float = 0.02, causes: Iterable[str] = ()
    ) -> list[Verdict]:
        """Let time pass and show an event; timers that are due before it come first."""
        told = self.wait(after)
        frame = event if isinstance(event, bytes) else json.dumps(event).encode()
        known, _ = read(frame)
        self.frames.append((self.age, frame))
        self.seq += 1
        self.state.apply(known, frame, self.at, 1, self.seq)
        verdicts = self.engine.heard(known, frame, at=self.at, age=self.age, causes=frozenset(causes))
        self._keep(verdicts)
        return told + verdicts

    def conceal(self, event: Mapping[str, Any], *, causes: Iterable[str] = ()) -> list[Verdict]:
        """Show an event of a paused recording: the engine sees it, and the state a placeholder."""
        frame = json.dumps(event).encode()
        known, _ = read(frame)
        self.age += 0.02
        self.seq += 1
        hidden = json.dumps({"type": event["type"]}).encode()
        self.state.apply(read(hidden)[0], hidden, self.at, 1, self.seq)
        verdicts = self.engine.heard(known, frame, at=self.at, age=self.age, causes=frozenset(causes))
        self._keep(verdicts)
        return verdicts

    def _keep(self, verdicts: list[Verdict]) -> None:
        self.all += verdicts
        self.ages.update((id(verdict), self.age) for verdict in verdicts)

    def recall(self, frame: bytes, *, age: float) -> None:
        """Show a stored event to the engine of a later epoch."""
        self.age = age
        known, _ = read(frame)
        self.seq += 1
        self.state.apply(known, frame, self.at, 1, self.seq)
        self.engine.recall(known, frame, age=self.age)

    def tamper(self, *keys: str, causes: Iterable[str] = ()) -> list[Verdict]:
        frame = b'{"type":"session.updated"}'
        event, _ = read(frame)
        verdicts = self.engine.tampered(keys, event, frame, at=self.at, age=self.age, causes=frozenset(causes))
        self._keep(verdicts)
        return verdicts

    def wait(self, seconds: float) -> list[Verdict]:
        """Let time pass, and wake the engine whenever it wants."""
        until = round(self.age + seconds, 6)
        told: list[Verdict] = []
        for _ in range(1000):
            due = self.engine.wake_at()
            if due is None or due > until:
                break
            self.age = max(due, self.age)
            woken = self.engine.woken(at=self.at, age=self.age)
            self._keep(woken)
            told += woken
        else:
            raise AssertionError("the engine wants to be woken for ever")
        self.age = until
        return told

    # --- what happens in a call -------------------------------------------------------------------

    def turn(self, item_id: str, *, causes: Iterable[str] = ()) -> list[Verdict]:
        """Let the user speak."""
        told = self.hear({"type": "input_audio_buffer.speech_started", "item_id": item_id})
        told += self.hear({"type": "input_audio_buffer.speech_stopped", "item_id": item_id})
        told += self.hear({"type": "input_audio_buffer.committed", "item_id": item_id, "previous_item_id": None})
        item = {"id": item_id, "type": "message", "role": "user", "content": [{"type": "input_audio"}]}
        return told + self.hear({"type": "conversation.item.added", "item": item}, causes=causes)

    def type(self, item_id: str, text: str) -> list[Verdict]:
        """Let the user type."""
        content = [{"type": "input_text", "text": text}]
        item = {"id": item_id, "type": "message", "role": "user", "content": content}
        return self.hear({"type": "conversation.item.added", "item": item})

    def transcribe(self, item_id: str, *deltas: str, final: str | None = None) -> list[Verdict]:
        """Transcribe what the user said."""
        kind = "conversation.item.input_audio_transcription"
        told = []
        for delta in deltas:
            told += self.hear({"type": f"{kind}.delta", "item_id": item_id, "content_index": 0, "delta": delta})
        if final is not None:
            told += self.hear(
                {"type": f"{kind}.completed", "item_id": item_id, "content_index": 0, "transcript": final}
            )
        return told

    def begin(self, response_id: str = "resp_1") -> list[Verdict]:
        """Let the model begin a response."""
        response = {"id": response_id, "status": "in_progress", "conversation_id": "conv_1", "output": []}
        return self.hear({"type": "response.created", "response": response})

    def say(
        self,
        *deltas: str,
        item_id: str = "item_1",
        response_id: str = "resp_1",
        final: str | None = None,
        causes: Iterable[str] = (),
    ) -> list[Verdict]:
        """Let the model say something."""
        named = {"item_id": item_id, "response_id": response_id, "output_index": 0, "content_index": 0}
        kind = "response.output_audio_transcript"
        told = []
        for delta in deltas:
            told += self.hear({"type": f"{kind}.delta", **named, "delta": delta}, causes=causes)
        if final is not None:
            told += self.hear({"type": f"{kind}.done", **named, "transcript": final}, causes=causes)
        return told

    def end(self, response_id: str = "resp_1", *, tokens: int = 0, audio: int = 0) -> list[Verdict]:
        """Let the model end a response."""
        usage = {
            "total_tokens": tokens,
            "input_tokens": 0,
            "output_tokens": tokens,
            "output_token_details": {"text_tokens": tokens - audio, "audio_tokens": audio},
        }
        response = {"id": response_id, "status": "completed", "output": [], "usage": usage}
        return self.hear({"type": "response.done", "response": response})

    def call_tool(self, call_id: str, name: str, arguments: str = "{}", *, item_id: str = "item_f") -> list[Verdict]:
        """Let the model call a function."""
        named = {"item_id": item_id, "response_id": "resp_1", "output_index": 0, "call_id": call_id}
        kind = "response.function_call_arguments.done"
        return self.hear({"type": kind, **named, "name": name, "arguments": arguments})

    def answer_tool(self, call_id: str) -> list[Verdict]:
        """Let somebody answer a function call."""
        item = {"id": f"item_{call_id}", "type": "function_call_output", "call_id": call_id, "output": "1"}
        return self.hear({"type": "conversation.item.added", "item": item})


def ids(verdicts: Iterable[Verdict]) -> list[str]:
    """Give the policies that decided."""
    return [verdict.policy.id for verdict in verdicts]


def past(verdicts: Iterable[tuple[float, Verdict]]) -> list[Past]:
    """Give verdicts as a later epoch finds them in the store."""
    return [
        Past(
            policy=each.policy.id,
            age=age,
            is_fault=each.fault is not None,
            acted=each.acts,
            actions=len(each.actions),
        )
        for age, each in verdicts
    ]


CANCEL = CancelResponse()
