"""How a call goes: the steps of a scenario as one timeline."""

from __future__ import annotations

import math
from collections.abc import Callable

from rtobserver.simulator import scenario as steps
from rtobserver.simulator.beats import Emit, EmitRaw, End, Json, Timeline, Until, Wait
from rtobserver.simulator.conversation import Answer, Conversation, speaking_seconds
from rtobserver.simulator.frames import pieces
from rtobserver.simulator.responses import answer_whole, close, generate, hear, interrupt
from rtobserver.simulator.session import Refusal, merge

_STREAMING = "gpt-realtime-whisper"
"""This model transcribes while the user still speaks, the others afterwards."""

_PATIENCE = 5.0
"""Real seconds that a turn waits for a `response.create`, where the session leaves that to a client."""


class Script:
    """Play a scenario in a conversation."""

    def __init__(self, call: Conversation, scenario: steps.Scenario, released: Callable[[str], bool]) -> None:
        self._call = call
        self._scenario = scenario
        self._released = released

    def timeline(self) -> Timeline:
        """Give the whole call, from the moment that the page's channel opens."""
        if self._scenario.transcription and self._call.transcription is None:
            audio = {"input": {"transcription": {"model": self._scenario.transcription}}}
            yield from self._session_update(steps.SessionUpdate(session={"audio": audio}))
        yield from self.perform(self._scenario.steps)
        if self._scenario.ending == "leave":
            yield End("left")

    def perform(self, sequence: tuple[steps.Step, ...]) -> Timeline:
        """Give the timeline of some steps."""
        for step in sequence:
            yield from self._step(step)

    def _step(self, step: steps.Step) -> Timeline:
        match step:
            case steps.Spoken():
                yield from self._spoken(step)
            case steps.Typed():
                yield from self._typed(step)
            case steps.BargeIn():
                yield from self._barge_in(step)
            case steps.ToolCall():
                yield from self._tool_call(step)
            case steps.Failed():
                yield from self._say("Go on." if not step.user else step.user)
                yield from self._model(Answer(step.assistant, fails=(step.status, step.reason)))
            case steps.Error():
                error = self._call.frames.error(step.code, step.message, param=step.param or None, kind=step.type)
                yield Emit(error, origin="browser" if step.cause == "browser" else None)
            case steps.SessionUpdate():
                yield from self._session_update(step)
            case steps.Flood():
                yield from self._flood(step)
            case steps.Repeat():
                done = 0
                while not step.times or done < step.times:
                    yield from self.perform(step.steps)
                    done += 1
            case steps.Wait():
                yield Wait(step.seconds)
            case steps.Idle():
                yield Until(lambda: False)
            case steps.Hold():
                yield Until(lambda: self._released(step.name))
            case steps.Frame():
                yield EmitRaw(step.text, text=not step.binary)
            case steps.Leave():
                yield End("left", step.close)
            case steps.Cap():
                yield from self._cap(step)

    def _spoken(self, step: steps.Spoken) -> Timeline:
        yield from self._say(step.user, step.user_seconds, fails=step.transcription_error)
        yield from self._model(Answer(step.assistant, step.assistant_seconds, step.latency))

    def _typed(self, step: steps.Typed) -> Timeline:
        yield from self._type(step.user)
        yield from self._model(Answer(step.assistant, step.assistant_seconds, step.latency), by_speech=False)

    def _barge_in(self, step: steps.BargeIn) -> Timeline:
        call = self._call
        yield from self._say(step.user)
        answer = Answer(step.assistant, latency=step.latency)
        yield from self._until_free()
        response = call.begin({})
        if step.when == "response":
            count = max(1, math.ceil(len(pieces(step.assistant)) * step.at))
            yield from generate(call, response, answer, by_speech=True, deltas=count)
        else:
            yield from generate(call, response, answer, by_speech=True)
            yield from hear(call, response, answer, part=min(step.at, 0.99))
        if (call.turn_detection or {}).get("interrupt_response", False):
            yield from self._say(step.interruption, cutting=True)
        else:
            if not response.is_over():
                for event in close(call, response):
                    yield Emit(event)
            yield from hear(call, response, answer)
            yield from self._say(step.interruption)
        yield from self._model(Answer(step.answer, latency=step.latency))

    def _tool_call(self, step: steps.ToolCall) -> Timeline:
        call = self._call
        yield from self._say(step.user) if step.spoken else self._type(step.user)
        yield from self._model(
            Answer(latency=step.latency, function=(step.name, step.arguments)), by_speech=step.spoken
        )
        asked = next((item for item in reversed(call.items.values()) if item["type"] == "function_call"), None)
        if asked is None:
            return
        call.prepared = Answer(step.assistant, latency=step.latency)
        if step.output:
            yield Wait(step.output_after)
            if not self._is_answered(asked["call_id"]):
                output = {
                    "id": call.ids.stamped("item_"),
                    "type": "function_call_output",
                    "call_id": asked["call_id"],
                    "output": step.output,
                }
                for event in call.add_item(output):
                    yield Emit(event)
                yield from self._model(call.prepared, by_speech=False)
                return
        yield Until(lambda: self._is_answered(asked["call_id"]), step.patience)
        yield Until(lambda: call.prepared is None, step.patience if self._is_answered(asked["call_id"]) else 0.0)
        call.prepared = None
        yield from self._until_free()

    def _cap(self, step: steps.Cap) -> Timeline:
        yield Wait(max(0.0, step.seconds))
        if step.error_first:
            text = "Your session hit the maximum duration of 60 minutes."
            yield Emit(self._call.frames.error("session_expired", text))
        yield End("expired", 1001, f"Your session hit the maximum duration of {step.minutes:g} minutes.")

    def _session_update(self, step: steps.SessionUpdate) -> Timeline:
        call = self._call
        try:
            call.session = merge(call.session, dict(step.session), spoke=call.last_spoken is not None)
        except Refusal as exc:
            yield Emit(call.frames.error(exc.code, exc.message, param=exc.param), origin="browser")
        else:
            yield Emit(call.frames.plain("session.updated", session=call.session))

    def _flood(self, step: steps.Flood) -> Timeline:
        call = self._call
        yield from self._until_free()
        response = call.begin({})
        yield from generate(call, response, Answer(step.text, latency=0.0), deltas=1)
        kind = "output_audio_transcript.delta" if response.speaks else "output_text.delta"
        count = int(step.rate * step.seconds) if step.seconds else None
        produced = 0
        while not response.is_over() and (count is None or produced < count):
            event = call.frames.part(kind, response.id, response.item_id, delta=step.text)
            yield Emit(call.frames.padded(event))
            yield Wait(1 / step.rate)
            produced += 1
            if count is not None:
                response.text += step.text
        if not response.is_over():
            for event in close(call, response):
                yield Emit(event)
        if call.stop_playing() is not None:
            yield Emit(call.frames.buffer("stopped", response.id))

    def _say(self, text: str, seconds: float = 0.0, *, fails: str = "", cutting: bool = False) -> Timeline:
        """Speak into the microphone; unless `cutting`, politely wait until the model is silent."""
        call, frames = self._call, self._call.frames
        if not cutting:
            yield from self._until_free()
        seconds = seconds or (speaking_seconds(text) if text else 0.25)
        item_id = call.ids.stamped("item_")
        detection = call.turn_detection
        if detection is not None:
            padding, silence = detection.get("prefix_padding_ms", 300), detection.get("silence_duration_ms", 500)
            start = max(0, round(call.input_seconds * 1000) - padding)
            yield Emit(frames.plain("input_audio_buffer.speech_started", audio_start_ms=start, item_id=item_id))
            if cutting:
                for event in interrupt(call):
                    yield Emit(event)
            early, late = self._transcribe(item_id, text, seconds, fails)
            for event in early:
                yield Emit(event)
            yield Wait(seconds)
            call.input_seconds += seconds + silence / 1000
            end = round(call.input_seconds * 1000)
            yield Emit(frames.plain("input_audio_buffer.speech_stopped", audio_end_ms=end, item_id=item_id))
        else:
            yield Wait(seconds)
            call.input_seconds += seconds
            early, late = self._transcribe(item_id, text, seconds, fails)
            late = early + late
        yield Emit(frames.plain("input_audio_buffer.committed", previous_item_id=call.last_item, item_id=item_id))
        call.audio_seconds[item_id] = seconds
        content = [{"type": "input_audio", "transcript": None}]
        item = {"id": item_id, "type": "message", "status": "completed", "role": "user", "content": content}
        for event in call.add_item(item):
            yield Emit(event)
        for event in late:
            yield Emit(event)

    def _transcribe(self, item_id: str, text: str, seconds: float, fails: str) -> tuple[list[Json], list[Json]]:
        """Give the transcription's events before and after the item was committed."""
        call, frames = self._call, self._call.frames
        if call.transcription is None:
            return [], []
        kind = "conversation.item.input_audio_transcription"
        if fails:
            error = {
                "type": "invalid_request_error",
                "code": fails,
                "message": "The transcription failed.",
                "param": None,
            }
            return [], [frames.plain(f"{kind}.failed", item_id=item_id, content_index=0, error=error)]
        streams = call.transcription.get("model") == _STREAMING
        cut = pieces(f" {text}" if streams and text else text)
        deltas = [
            frames.padded(frames.plain(f"{kind}.delta", item_id=item_id, content_index=0, delta=piece)) for piece in cut
        ]
        tokens = round(seconds * 10)
        usage: Json = {
            "type": "tokens",
            "total_tokens": tokens + len(cut) + 2,
            "input_tokens": tokens,
            "input_token_details": {"text_tokens": 0, "audio_tokens": tokens},
            "output_tokens": len(cut) + 2,
        }
        if streams:
            usage = {"type": "duration", "seconds": math.ceil(seconds)}
        done = frames.plain(f"{kind}.completed", item_id=item_id, content_index=0, transcript=text, usage=usage)
        return (deltas[:-2], [*deltas[-2:], done]) if streams else ([], [*deltas, done])

    def _type(self, text: str) -> Timeline:
        yield from self._until_free()
        call = self._call
        item = {
            "id": call.ids.stamped("item_"),
            "type": "message",
            "status": "completed",
            "role": "user",
            "content": [{"type": "input_text", "text": text}],
        }
        for event in call.add_item(item):
            yield Emit(event)

    def _model(self, answer: Answer, *, by_speech: bool = True) -> Timeline:
        """Answer, or let a peer ask for the answer where the session says so."""
        call = self._call
        detection = call.turn_detection
        if by_speech and detection is not None and not detection.get("create_response", True):
            call.prepared = answer
            yield Until(lambda: call.prepared is None, _PATIENCE)
            call.prepared = None
            yield from self._until_free()
            return
        yield from self._until_free(playing=False)
        call.prepared = None
        response = call.begin({})
        yield from answer_whole(call, response, answer, by_speech=by_speech)

    def _until_free(self, *, playing: bool = True) -> Timeline:
        call = self._call
        if (call.is_busy and playing) or call.active is not None:
            yield Until(lambda: not (call.is_busy if playing else call.active is not None))

    def _is_answered(self, function_call_id: str) -> bool:
        return any(
            item["type"] == "function_call_output" and item["call_id"] == function_call_id
            for item in self._call.items.values()
        )
