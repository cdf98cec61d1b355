"""What holds for orders and pauses whatever happens, in any order."""

from __future__ import annotations

import json
from collections import Counter
from itertools import count
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from rtobserver.observation.effects import Finish, Send
from rtobserver.observation.phases import Phase
from rtobserver.realtime.entries import COMMAND, EVENT, CommandRow, GapRow, OrderRow, Record
from tests.observation.play import Play, plan

_COMMANDS: list[dict[str, object]] = [
    {"type": "session.update", "session": {}},
    {"type": "response.cancel"},
    {"type": "conversation.item.create", "item": {"type": "message"}},
    {"type": "say", "text": "Hello"},
    {"type": "hangup"},
    {"type": "hangup", "goodbye": "Bye", "after": 3.0},
    {"type": "pause"},
    {"type": "resume"},
    {"type": "tags", "add": ["a"], "remove": ["b"]},
]
_TYPES = [
    "session.updated",
    "response.created",
    "response.done",
    "error",
    "conversation.item.added",
    "input_audio_buffer.speech_started",
    "input_audio_buffer.committed",
    "conversation.item.input_audio_transcription.completed",
    "output_audio_buffer.stopped",
]
_IDS = st.sampled_from(["a", "b", "c"])
_STEPS = st.one_of(
    st.tuples(st.just("order"), st.sampled_from(_COMMANDS), st.floats(0.0, 12.0)),
    st.tuples(st.just("event"), st.sampled_from(_TYPES), _IDS, st.integers(0, 5), st.integers(0, 3)),
    st.tuples(st.just("unsent"), st.integers(0, 3)),
    st.tuples(st.just("attach")),
    st.tuples(st.just("close"), st.sampled_from([None, 1000])),
    st.tuples(st.just("fail"), st.sampled_from([None, 404, 503])),
    st.tuples(st.just("wait"), st.floats(0.0, 12.0)),
    st.tuples(st.just("wake")),
    st.tuples(st.just("hung_up"), st.sampled_from([True, False, None])),
    st.tuples(st.just("drain")),
)
Steps = list[tuple[Any, ...]]


def _perform(steps: Steps) -> tuple[Play, list[bytes]]:
    """Play the steps; gives the payloads that were received while the recording was paused."""
    play = Play(plan(max_duration=500.0))
    numbers, secrets = count(), []
    for name, *arguments in steps:
        match name:
            case "order":
                play.order(f"ord_{next(numbers)}", arguments[0], age=arguments[1])
            case "unsent":
                if outstanding := list(play.commands):
                    play.unsent(outstanding[arguments[0] % len(outstanding)])
            case "event":
                if play.machine.phase is not Phase.ATTACHED:
                    continue
                frame = _frame(play, *arguments[:3], marker=f"said-{next(numbers)}.")
                if play.machine.control.pause.is_active:
                    secrets.append(json.loads(frame)["marker"].encode())
                play.frame(frame, arguments[3])
            case _:
                getattr(play, name)(*arguments)
    return play, secrets


def _frame(play: Play, type_: str, id_: str, which: int, *, marker: str) -> bytes:
    """Write an event that may be about one of our commands."""
    ours = list(play.commands)
    cause = ours[which % len(ours)] if ours else "none"
    event = {
        "type": type_,
        "marker": marker,
        "item_id": id_,
        "response_id": id_,
        "item": {"id": cause},
        "error": {"code": "conversation_already_has_active_response", "event_id": cause},
        "response": {
            "id": id_,
            "conversation_id": "conv",
            "status": ["completed", "cancelled"][which % 2],
            "metadata": {"rtobserver": "operator"} if which % 3 else None,
        },
    }
    return json.dumps(event).encode()


@settings(max_examples=300, deadline=None)
@given(st.lists(_STEPS, max_size=50))
def test_every_client_event_is_recorded_before_it_is_sent_and_sent_once(steps: Steps) -> None:
    play, _ = _perform([("attach",), *steps])
    recorded: dict[str, bytes] = {}
    sent: Counter[str] = Counter()
    for effect in play.all:
        if isinstance(effect, Record) and effect.kind == COMMAND:
            recorded[effect.event_id or ""] = effect.payload
        if isinstance(effect, Send):
            assert recorded[effect.event_id] == effect.text.encode()
            sent[effect.event_id] += 1
    assert set(sent.values()) <= {1}
    assert all(event_id.startswith("rto_1_") for event_id in sent)


@settings(max_examples=300, deadline=None)
@given(st.lists(_STEPS, max_size=50))
def test_nothing_is_sent_or_recorded_after_the_end(steps: Steps) -> None:
    play, _ = _perform([("attach",), *steps])
    kinds = [type(effect) for effect in play.all]
    if Finish in kinds:
        after = play.all[kinds.index(Finish) :]
        assert not any(isinstance(effect, Send | Record) for effect in after)


@settings(max_examples=300, deadline=None)
@given(st.lists(_STEPS, max_size=50))
def test_a_command_is_settled_at_most_once_and_always_in_the_end(steps: Steps) -> None:
    # commands are changed in place, so that what is counted are the times at which rows were written
    play, _ = _perform([("attach",), *steps, ("drain",)])
    written = Counter(effect.event_id for effect in play.all if isinstance(effect, CommandRow))
    assert all(times <= 2 for times in written.values())
    for event_id in {send.event_id for send in play.of(Send)}:
        assert play.commands[event_id].state in ("acknowledged", "failed", "unknown")


@settings(max_examples=300, deadline=None)
@given(st.lists(_STEPS, max_size=50))
def test_every_order_is_told_of_in_the_end_and_goes_forward_only(steps: Steps) -> None:
    play, _ = _perform([("attach",), *steps, ("drain",), ("hung_up", True)])
    ranks = {"sent": 1, "waiting": 2, "acknowledged": 2, "failed": 2, "expired": 2}
    reached: Counter[str] = Counter()
    for row in play.of(OrderRow):
        assert reached[row.order_id] <= ranks[row.state]
        assert reached[row.order_id] != 2, "what was settled is not settled again"
        reached[row.order_id] = ranks[row.state]
    given_orders = sum(step[0] == "order" for step in steps)
    assert len(reached) == given_orders


@settings(max_examples=300, deadline=None)
@given(st.lists(_STEPS, max_size=50))
def test_what_was_received_in_a_pause_is_not_recorded(steps: Steps) -> None:
    play, secrets = _perform([("attach",), ("order", {"type": "pause"}, 0.0), *steps])
    stored = b"".join(record.payload for record in play.records)
    assert not any(secret in stored for secret in secrets)


@settings(max_examples=300, deadline=None)
@given(st.lists(_STEPS, max_size=50))
def test_a_number_stands_for_each_frame_in_a_pause_too(steps: Steps) -> None:
    play, _ = _perform([("attach",), *steps])
    seqs = [record.seq for record in play.records]
    assert seqs == sorted(set(seqs))
    holes = set(range(1, play.machine.ledger.seq + 1)) - set(seqs)
    lost = sum(gap.lost or 0 for gap in {(gap.epoch, gap.seq): gap for gap in play.of(GapRow)}.values())
    assert len(holes) == lost
    assert all(record.flags for record in play.records if record.kind == EVENT)


@settings(max_examples=200, deadline=None)
@given(st.lists(_STEPS, max_size=40))
def test_a_machine_with_orders_that_asks_to_be_woken_has_a_reason(steps: Steps) -> None:
    play, _ = _perform([("attach",), *steps])
    for _ in range(40):
        due = play.machine.wake_at()
        if due is None:
            return
        play.wait(max(0.0, due - play.now))
        play.wake()
        again = play.machine.wake_at()
        assert again is None or again > play.now, "woken, it asks for the same moment again"
