"""How a call goes: the steps of a scenario as one timeline."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence

from rtobserver.simulator import scenario as steps
from rtobserver.simulator.beats import Emit, EmitRaw, End, Json, Play, Timeline, Until, Wait, WaitSince
from rtobserver.simulator.conversation import UNSCRIPTED, Answer, Conversation, Exchange
from rtobserver.simulator.frames import pieces
from rtobserver.simulator.responses import answer_whole, close, generate, hear
from rtobserver.simulator.session import Refusal, merge
from rtobserver.simulator.user import be_heard, speak, type_line, until_free
from rtobserver.simulator.voice import Voice

_PATIENCE = 5.0
"""Real seconds that a turn waits for a `response.create`, where the session leaves that to a client."""


def _speaks_again(voice: Voice, known: int) -> bool:
    return voice.utterance_count > known


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
        if self._call.voice is not None:
            yield Play(self._listen(self._call.voice), "listen")
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
                yield from self._failed(step)
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
        answer = Answer(step.assistant, step.assistant_seconds, step.latency)
        yield from self._turn(step.user, answer, seconds=step.user_seconds, fails=step.transcription_error)

    def _typed(self, step: steps.Typed) -> Timeline:
        yield from type_line(self._call, step.user)
        yield from self._model(Answer(step.assistant, step.assistant_seconds, step.latency), by_speech=False)

    def _failed(self, step: steps.Failed) -> Timeline:
        yield from self._turn(step.user, Answer(step.assistant, fails=(step.status, step.reason)))

    def _barge_in(self, step: steps.BargeIn) -> Timeline:
        call, answer = self._call, Answer(step.assistant, latency=step.latency)
        if call.voice is not None:
            # Whether the answer is really cut off is up to the caller.
            call.expected.append(Exchange(step.user, answer))
            yield from self._turn(step.interruption, Answer(step.answer, latency=step.latency))
            return
        late = yield from speak(call, step.user)
        if self._leaves_asking_to_clients():
            yield from self._model(answer, late)
            late = yield from speak(call, step.interruption)
        else:
            yield from until_free(call)
            response = call.begin({})
            if step.when == "response":
                count = max(1, math.ceil(len(pieces(step.assistant)) * step.at))
                yield from generate(call, response, answer, by_speech=True, meanwhile=late, deltas=count)
            else:
                yield from generate(call, response, answer, by_speech=True, meanwhile=late)
                yield from hear(call, response, answer, part=min(step.at, 0.99))
            detection = call.turn_detection
            cuts = detection is not None and detection["interrupt_response"]
            if not cuts:
                if not response.is_over():
                    for event in close(call, response):
                        yield Emit(event)
                yield from hear(call, response, answer)
            late = yield from speak(call, step.interruption, cutting=cuts)
        yield from self._model(Answer(step.answer, latency=step.latency), late)

    def _tool_call(self, step: steps.ToolCall) -> Timeline:
        call = self._call
        asking = Answer(latency=step.latency, function=(step.name, step.arguments))
        known = set(call.items)
        if step.spoken:
            yield from self._turn(step.user, asking)
        else:
            yield from type_line(call, step.user)
            yield from self._model(asking, by_speech=False)
        asked = [item for key, item in call.items.items() if key not in known and item["type"] == "function_call"]
        if not asked:
            return
        function_call_id = asked[-1]["call_id"]
        call.prepared = Answer(step.assistant, latency=step.latency)
        if step.output:
            yield Wait(step.output_after)
            if not self._is_answered(function_call_id):
                yield from self._answer_tool(function_call_id, step)
                return
        yield Until(lambda: self._is_answered(function_call_id), step.patience)
        if self._is_answered(function_call_id):
            yield Until(lambda: call.prepared is None, step.patience)
        call.prepared = None
        yield from until_free(call)

    def _answer_tool(self, function_call_id: str, step: steps.ToolCall) -> Timeline:
        """Answer a function call as the page does: an item, then `response.create`."""
        output = {
            "id": self._call.ids.stamped("item_"),
            "type": "function_call_output",
            "call_id": function_call_id,
            "output": step.output,
        }
        for event in self._call.add_item(output):
            yield Emit(event)
        yield from self._model(Answer(step.assistant, latency=step.latency), by_speech=False)

    def _cap(self, step: steps.Cap) -> Timeline:
        yield WaitSince(step.seconds)
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
        yield from until_free(call)
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
            response.text = step.text * (count + 1)
        if not response.is_over():
            for event in close(call, response):
                yield Emit(event)
        if call.stop_playing() is not None:
            yield Emit(call.frames.buffer("stopped", response.id))

    def _turn(self, user: str, answer: Answer, *, seconds: float = 0.0, fails: str = "") -> Timeline:
        """Have the user say something at the script's time, or whenever the caller really speaks, and answer it."""
        if self._call.voice is None:
            late = yield from speak(self._call, user, seconds, fails=fails)
            yield from self._model(answer, late)
            return
        exchange = Exchange(user, answer, fails)
        self._call.expected.append(exchange)
        yield Until(lambda: exchange.is_over)

    def _listen(self, voice: Voice) -> Timeline:
        """Make a turn of everything that the caller says, to the end of the call."""
        known, replies = 0, itertools.cycle(self._scenario.replies)
        while True:
            yield Until(functools.partial(_speaks_again, voice, known))
            known = voice.utterance_count
            expected = self._call.expected
            exchange = expected.popleft() if expected else Exchange(UNSCRIPTED, Answer(next(replies)))
            late = yield from be_heard(self._call, voice, exchange)
            yield Play(self._answer(exchange, late), "answer")

    def _answer(self, exchange: Exchange, late: Sequence[Json]) -> Timeline:
        yield from self._model(exchange.answer, late)
        exchange.is_over = True

    def _model(self, answer: Answer, late: Sequence[Json] = (), *, by_speech: bool = True) -> Timeline:
        """Answer, or let a client ask for the answer where the session says so."""
        call = self._call
        if by_speech and self._leaves_asking_to_clients():
            call.prepared = answer
            for event in late:
                yield Emit(event)
            yield Until(lambda: call.prepared is None, _PATIENCE)
            call.prepared = None
            yield from until_free(call)
            return
        yield from until_free(call, playing=False)
        call.prepared = None
        response = call.begin({})
        yield from answer_whole(call, response, answer, by_speech=by_speech, meanwhile=late)

    def _leaves_asking_to_clients(self) -> bool:
        detection = self._call.turn_detection
        return detection is not None and not detection["create_response"]

    def _is_answered(self, function_call_id: str) -> bool:
        return any(
            item["type"] == "function_call_output" and item["call_id"] == function_call_id
            for item in self._call.items.values()
        )
