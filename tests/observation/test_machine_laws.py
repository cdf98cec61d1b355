"""What holds for an observer whatever happens, in any order."""

from __future__ import annotations

import json
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from rtobserver.observation.effects import Finish, HangUp
from rtobserver.observation.phases import Phase
from rtobserver.realtime.entries import COMMAND, EVENT, CommandRow, GapRow, Record
from rtobserver.realtime.shedding import shed_class
from tests.observation.play import Play, plan

_FRAMES = st.one_of(
    st.binary(max_size=30),
    st.sampled_from(
        [
            "response.output_audio_transcript.delta",
            "rate_limits.updated",
            "input_audio_buffer.committed",
            "response.done",
            "error",
            "x.unknown",
        ]
    ).map(lambda type_: json.dumps({"type": type_, "event_id": "e", "item_id": "i", "delta": "d"}).encode()),
)
_STEPS = st.one_of(
    st.tuples(st.just("frame"), _FRAMES, st.integers(0, 5)),
    st.tuples(st.just("attach")),
    st.tuples(st.just("fail"), st.sampled_from([None, 404, 401, 429, 503])),
    st.tuples(st.just("close"), st.sampled_from([None, 1000, 1001, 1009, 1011])),
    st.tuples(st.just("die"), st.floats(0.1, 60.0)),
    st.tuples(st.just("wait"), st.floats(0.0, 200.0)),
    st.tuples(st.just("wake")),
    st.tuples(st.just("probed"), st.sampled_from([True, False, None])),
    st.tuples(st.just("hang_up"), st.sampled_from(["browser", "operator", "undelivered"])),
    st.tuples(st.just("hung_up"), st.sampled_from([True, False, None])),
    st.tuples(st.just("drain")),
)


def _perform(play: Play, step: tuple[object, ...]) -> bytes | None:
    """Do a step; gives the frame that was received, if the step was one that an observer could receive."""
    name, *arguments = step
    if name == "frame":
        if play.machine.phase is not Phase.ATTACHED:
            return None
        play.frame(*arguments)  # type: ignore[arg-type]
        return arguments[0]  # type: ignore[return-value]
    if name == "die":
        # its end is noticed when it has long been dead
        play.wait(arguments[0])  # type: ignore[arg-type]
        play.close(1011, silent=arguments[0])  # type: ignore[arg-type]
        return None
    getattr(play, str(name))(*arguments)
    return None


@settings(max_examples=300, deadline=None)
@given(st.lists(_STEPS, max_size=60))
def test_entries_are_dense_in_order_and_every_missing_frame_is_counted_by_one_gap(
    steps: list[tuple[object, ...]],
) -> None:
    play = Play(plan(audio_key=None))
    received = []
    for step in steps:
        frame = _perform(play, step)
        if frame is not None:
            received.append(frame)
    stored = [record.payload for record in play.records if record.kind == EVENT]
    remaining = iter(received)
    assert all(frame in remaining for frame in stored), "stored frames are received ones, in their order"
    seqs = [record.seq for record in play.records]
    assert seqs == sorted(set(seqs)), "numbers grow and none is given twice"
    holes = set(range(1, play.machine.ledger.seq + 1)) - set(seqs)
    lost = sum(gap.lost or 0 for gap in {(gap.epoch, gap.seq): gap for gap in play.of(GapRow)}.values())
    assert len(holes) == lost == len(received) - len(stored)
    times = [(record.at, record.offset_us) for record in play.records]
    assert times == sorted(times)


@settings(max_examples=300, deadline=None)
@given(st.lists(_STEPS, max_size=60))
def test_a_call_ends_once_and_nothing_is_recorded_or_commanded_after_it(steps: list[tuple[object, ...]]) -> None:
    play = Play(plan(max_duration=500.0))
    for step in steps:
        _perform(play, step)
    kinds = [type(effect) for effect in play.all]
    assert kinds.count(Finish) <= 1
    if Finish in kinds:
        after = play.all[kinds.index(Finish) :]
        assert not any(isinstance(effect, Record | HangUp) for effect in after)
        assert play.machine.wake_at() is None


@settings(max_examples=200, deadline=None)
@given(st.lists(_STEPS, max_size=60))
def test_every_command_is_recorded_before_it_is_sent(steps: list[tuple[object, ...]]) -> None:
    play = Play(plan(max_duration=500.0))
    for step in steps:
        _perform(play, step)
    recorded: Counter[str] = Counter()
    sent = 0
    for effect in play.all:
        if isinstance(effect, Record) and effect.kind == COMMAND:
            recorded[effect.event_id or ""] += 1
        if isinstance(effect, HangUp):
            sent += 1
            assert sent <= recorded.total()
        if isinstance(effect, CommandRow):
            assert recorded[effect.event_id] == 1


@settings(max_examples=200, deadline=None)
@given(st.lists(_STEPS, max_size=60))
def test_a_machine_that_asks_to_be_woken_has_a_reason(steps: list[tuple[object, ...]]) -> None:
    play = Play(plan(max_duration=500.0))
    for step in steps:
        _perform(play, step)
    for _ in range(20):
        due = play.machine.wake_at()
        if due is None:
            return
        play.wait(max(0.0, due - play.now))
        play.wake()
        again = play.machine.wake_at()
        assert again is None or again > play.now, "woken, it asks for the same moment again"


@given(st.text(max_size=40))
def test_every_type_has_a_class(type_: str) -> None:
    assert 1 <= shed_class(type_) <= 5


@settings(max_examples=300, deadline=None)
@given(st.lists(_STEPS, max_size=30))
def test_whenever_nobody_listened_to_a_call_that_went_on_a_gap_says_so(steps: list[tuple[object, ...]]) -> None:
    play = Play()
    deaf: list[tuple[int, int]] = []
    since: int | None = None
    for step in [*steps, ("drain",)]:
        before, at = play.machine.phase, play.at
        _perform(play, step)
        if before is Phase.ATTACHED and play.machine.phase is Phase.REATTACHING:
            # of an orderly close it is known that nothing came before it and was lost
            since = at if step[0] == "die" else play.at
        goes_on = play.machine.phase in (Phase.ATTACHED, Phase.DETACHED)
        if before is Phase.REATTACHING and goes_on and since is not None:
            deaf.append((since, play.at))
            since = None
        if before is Phase.REATTACHING and play.machine.phase is Phase.ENDED:
            since = None
    for begin, end in deaf:
        assert any(
            gap.from_at <= begin + 1 and (gap.to_at is None or gap.to_at >= end) for gap in play.gaps.values()
        ), (begin, end, play.gaps)
