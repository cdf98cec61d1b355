"""State of one call, folded from its events. Pure: the same entries give the same rows, live or later.

What is folded is what is stored: every server event of the call, in the order of positions, with
the audio cut out if it was cut out before storage. Nothing here refuses an event: what cannot be
understood changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Self

from rtobserver.realtime import item_events, response_events, user_events
from rtobserver.realtime.conversation import Changes
from rtobserver.realtime.cost import Prices
from rtobserver.realtime.events import Event
from rtobserver.realtime.fold import MAX_NAMED, Fold, Step
from rtobserver.realtime.heard import AUDIO_TOKEN_MS
from rtobserver.realtime.lacking import Lack, lacking
from rtobserver.realtime.meters import NO_PRICES, Bill, percentile
from rtobserver.realtime.names import BETA_NAMES, canonical
from rtobserver.realtime.rows import ItemRow, ResponseRow, Totals, Usage
from rtobserver.realtime.transcript import order

__all__ = ["CallState", "Changes"]

_PRESENT: dict[str, Step] = {**user_events.STEPS, **item_events.STEPS, **response_events.STEPS}
_STEPS: dict[str | None, Step] = {
    name: _PRESENT[canonical(name)] for name in (*_PRESENT, *BETA_NAMES) if canonical(name) in _PRESENT
}

_DELTAS: dict[str | None, bool] = {
    name: canonical(name) in item_events.GATHERED for name in _STEPS if name is not None and name.endswith(".delta")
}
"""The deltas, and whether their text is gathered."""

_NO_DEPLOYMENT = "DeploymentNotFound"


class CallState:
    """Fold the events of one call.

    `model` is what the call was asked to use, a model's or a deployment's name; `transcription_model`
    likewise. Both are completed from the session that upstream tells of. Without `prices` there is
    no cost.
    """

    __slots__ = ("_final", "_fold", "_items", "_model", "_prices")

    def __init__(
        self, *, model: str | None = None, transcription_model: str | None = None, prices: Prices | None = None
    ) -> None:
        self._fold = Fold(transcriber=transcription_model)
        self._items = self._fold.talk.items
        self._final: Totals | None = None
        self._model = model
        self._prices = prices

    def fork(self) -> Self:
        """Give another state that knows the same and goes its own way from here on."""
        made = type(self)(model=self._model, prices=self._prices)
        made._fold, made._final = self._fold.fork(), self._final
        made._items = made._fold.talk.items
        return made

    def apply(self, event: Event, frame: bytes, at_us: int, epoch: int, seq: int) -> Changes | None:
        """Take in one server event; give the rows that it made worth writing. Never raises.

        One more delta of an item only gathers text: it costs next to nothing and changes no row.
        """
        gathered = _DELTAS.get(event.type)
        if gathered is not None:
            item = self._items.get(event.item_id)  # type: ignore[arg-type]
            if item is not None:
                if not gathered:
                    if item.introduced and (item.role == "user" or item.response_id is not None):
                        return None
                elif item.open:
                    delta = event.delta
                    if delta:
                        item.parts.append(delta)
                        item.size += len(delta)
                        if item.size > item.threshold:
                            item.grow()
                    return None
        step = _STEPS.get(event.type)
        if step is None:
            return None
        talk = self._fold.talk
        talk.at, talk.epoch, talk.seq = at_us, epoch, seq
        return step(self._fold, event, frame)

    def finish(self) -> Changes:
        """Give what is still to be written when the call has ended; what is unfinished stays so."""
        talk = self._fold.talk
        changes = talk.changes(talk.items.values(), talk.responses.values(), settled=True)
        return changes or Changes((), (), settled=True)

    def release(self) -> None:
        """Let go of all items and responses, when nothing will come any more; the sums stay as they are."""
        self._final = self.totals()
        self._fold.talk.release()

    def items(self) -> list[ItemRow]:
        """Give the rows of all items that are held, in the order of the conversation."""
        talk = self._fold.talk
        return order(talk.row(item) for item in talk.items.values() if item.visible)

    def responses(self) -> list[ResponseRow]:
        """Give the rows of all responses that are held, by position."""
        rows = [response.make_row() for response in self._fold.talk.responses.values()]
        return sorted(rows, key=lambda row: (row.epoch, row.seq, row.response_id))

    def totals(self) -> Totals:
        """Sum up the call so far."""
        if self._final is not None:
            return self._final
        fold = self._fold
        meters, sound, talk = fold.meters, fold.sound, fold.talk
        responses = talk.responses.values()
        heard = [*talk.heard_ms, *(ms for each in responses if (ms := each.heard_latency_ms) is not None)]
        generated = [*talk.generated_ms, *(ms for each in responses if (ms := each.generation_latency_ms) is not None)]
        bill = self._bill()
        return Totals(
            turn_count=talk.turn_count,
            interruption_count=talk.interruption_count,
            error_count=fold.error_count,
            usage=meters.usage,
            transcription_tokens=meters.transcribed.tokens,
            transcription_seconds=float(meters.transcribed.seconds),
            responses_without_usage=meters.without_usage,
            first_audio_p50_ms=percentile(heard, 50),
            first_audio_p95_ms=percentile(heard, 95),
            generation_p50_ms=percentile(generated, 50),
            generation_p95_ms=percentile(generated, 95),
            cost_usd=bill.amount,
            missed=talk.missed,
            unfinished=tuple(each.id for each in responses if not each.is_done)[:MAX_NAMED],
            broken=tuple(fold.broken),
            recovered=tuple(fold.recovered),
            open_links=talk.absent[:MAX_NAMED],
            unpriced=bill.unpriced,
            costs=bill.costs,
            transcription_failures=fold.transcription_failure_count,
            transcription_hint=self.transcription_hint,
            tool_p50_ms=percentile(fold.tool_ms, 50),
            tool_p95_ms=percentile(fold.tool_ms, 95),
            user_talk_ms=sound.user_ms,
            assistant_talk_ms=sound.talked_us // 1000 if sound.plays else meters.usage.output_audio * AUDIO_TOKEN_MS,
            dead_air_ms=sound.dead_us // 1000 if sound.plays else None,
        )

    @property
    def turn_count(self) -> int:
        """Turns of the user so far, spoken or typed."""
        return self._fold.talk.turn_count

    @property
    def interruption_count(self) -> int:
        """Responses that the user cut short so far."""
        return self._fold.talk.interruption_count

    @property
    def error_count(self) -> int:
        """`error` events and failed responses so far."""
        return self._fold.error_count

    @property
    def active_response_id(self) -> str | None:
        """The response that the model is making in the default conversation."""
        return self._fold.talk.active_id

    @property
    def playing_response_id(self) -> str | None:
        """The response that is heard: the last `output_audio_buffer.started`, until stopped or cleared."""
        return self._fold.playing_response_id

    @property
    def usage(self) -> Usage:
        """Tokens used by the responses that ended."""
        return self._fold.meters.usage

    @property
    def cost_usd(self) -> Decimal | None:
        """What the call cost so far; None where anything it used has no known price."""
        return self._bill().amount

    @property
    def last_speech_started_at(self) -> int | None:
        """When the user last began to speak, in microseconds since 1970."""
        return self._fold.sound.started_at

    @property
    def last_speech_stopped_at(self) -> int | None:
        """When the user last ceased to speak, in microseconds since 1970."""
        return self._fold.sound.stopped_at

    @property
    def is_user_speaking(self) -> bool:
        """True between `speech_started` and `speech_stopped`."""
        return self._fold.sound.speaking_since is not None

    @property
    def quiet_since(self) -> int | None:
        """Since when nobody speaks and nothing plays; None while somebody does, and before the first sound."""
        return self._fold.sound.quiet_since

    @property
    def waiting_tools(self) -> Mapping[str, tuple[str, int]]:
        """Function calls without output: call id to item id and the time of the complete arguments."""
        return self._fold.waiting_tools

    @property
    def transcription_hint(self) -> str | None:
        """What may be wrong when transcriptions failed; None while none did."""
        code = self._fold.transcription_error
        if code is None:
            return None
        if code == _NO_DEPLOYMENT:
            return (
                "there is no deployment of that name: on Azure `audio.input.transcription.model` is the name of a "
                "deployment, so deploy a transcription model and put its deployment's name into the profile"
            )
        return f"upstream could not transcribe the user ({code})"

    def knows(self, id_: str) -> bool:
        """Say whether an item or response of this id is on record."""
        return self._fold.talk.knows(id_)

    def response_of(self, item_id: str) -> str | None:
        """Give the response that an item is the output of; None where that is not known."""
        item = self._items.get(item_id)
        return None if item is None else item.response_id

    def open_ids(self) -> list[str]:
        """List the items and responses that go on: the user's speech, what the model is making."""
        talk = self._fold.talk
        responses = [each.id for each in talk.responses.values() if not each.is_done]
        return responses + [item.id for item in talk.items.values() if not item.is_done]

    def lacking(self) -> list[Lack]:
        """List the items that are known and whose final text did not come."""
        return lacking(self._fold.talk, transcribes=self._fold.transcriber is not None)

    def is_recovered(self, item_id: str) -> bool:
        """Say whether an item's text was asked for and came."""
        item = self._items.get(item_id)
        return item is not None and item.recovered

    def is_response_done(self, response_id: str) -> bool:
        """Say whether a response ended; true also for one that is not known, or no longer."""
        response = self._fold.talk.responses.get(response_id)
        return response is None or response.is_done

    def _bill(self) -> Bill:
        if self._prices is None:
            return NO_PRICES
        return self._fold.meters.bill(self._prices, self._models, self._fold.transcriber)

    @property
    def _models(self) -> tuple[str | None, str | None]:
        return self._model, self._fold.session_model
