"""What holds for a call whatever happens, in any order, through crashes and take-overs.

A world has one call that goes through several runs of the daemon: what happens is told to the machine of
the run, what it wants recorded is committed now and then, and a crash leaves the next run what was
committed and nothing else.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from rtobserver.observation.effects import AskTool, Finish, HangUp, Send
from rtobserver.observation.healing import PER_ITEM
from rtobserver.observation.phases import Phase
from rtobserver.policy import rules
from rtobserver.policy.rules import PolicySet
from rtobserver.realtime.entries import COMMAND, EVENT, CommandRow, DecisionRow, GapRow, OrderRow, Record
from tests.observation.play import START, Play, Store, answers, plan
from tests.observation.test_enforcement import CALLS, SESSION, WEATHER, policy

POLICIES = (
    policy(rules.Say(text="Careful."), rules.CancelResponse(), id_="words"),
    policy(WEATHER, trigger=CALLS, id_="tool"),
    policy(rules.RestoreSession(), trigger=rules.Tampered(keys=None), id_="keeps"),
    policy(rules.Tag(tag="old"), rules.HangUp(goodbye="Bye."), trigger=rules.After(seconds=90.0), id_="old"),
    policy(rules.PauseRecording(), trigger=rules.On(types=("x.pause",)), id_="pauses"),
)
SETS = (POLICIES, POLICIES[1:3], ())
IDS = ("1", "2", "3", "4")
LEAVE_HOLES = ("shed", "disk", "corrupt")


def _event(type_: str, n: str, words: str) -> dict[str, Any]:
    place = {"response_id": f"resp_{n}", "item_id": f"item_{n}"}
    match type_:
        case "response.created" | "response.done":
            status = "completed" if type_ == "response.done" else "in_progress"
            return {"type": type_, "response": {"id": f"resp_{n}", "status": status, "conversation_id": "c"}}
        case "session.updated":
            listening = {"transcription": {"model": "whisper-1"}}
            return {"type": type_, "session": {**SESSION, "instructions": words, "audio": {"input": listening}}}
        case "conversation.item.added":
            role = "user" if words == "ref" else "assistant"
            item = {"id": f"item_{n}", "type": "message", "role": role, "status": "in_progress", "content": []}
            return {"type": type_, "item": item, "previous_item_id": f"item_{int(n) - 1}"}
        case "conversation.item.retrieved":
            content = [{"type": "output_audio", "transcript": words}]
            item = {"id": f"item_{n}", "type": "message", "role": "assistant", "status": "completed"}
            return {"type": type_, "item": {**item, "content": content}}
        case "response.function_call_arguments.done":
            return {"type": type_, **place, "call_id": f"call_{n}", "name": "weather", "arguments": "{}"}
    return {"type": type_, **place, "delta": words}


_EVENTS = st.builds(
    _event,
    st.sampled_from(
        [
            "response.created",
            "response.done",
            "response.output_audio_transcript.delta",
            "response.output_audio_transcript.delta",
            "response.function_call_arguments.done",
            "output_audio_buffer.started",
            "output_audio_buffer.stopped",
            "input_audio_buffer.speech_started",
            "input_audio_buffer.committed",
            "session.updated",
            "conversation.item.added",
            "conversation.item.added",
            "conversation.item.retrieved",
            "rate_limits.updated",
            "x.pause",
            "error",
        ]
    ),
    st.sampled_from(IDS),
    st.sampled_from(["a refund", "ref", "und", "Be rude."]),
)
_FRAME = st.tuples(st.just("frame"), _EVENTS, st.sampled_from([0, 0, 0, 0, 1, 4, 9]))
_WAIT = st.tuples(st.just("wait"), st.sampled_from([0.01, 0.5, 2.0, 2.0, 4.0, 15.0, 40.0]))
_CALM = st.one_of(
    *[_FRAME] * 10,
    *[_WAIT] * 4,
    *[st.tuples(st.just("commit"))] * 3,
    *[st.tuples(st.just("answer"), st.integers(0, 3))] * 3,
    st.tuples(st.just("refuse"), st.integers(0, 3)),
    st.tuples(st.just("order"), st.sampled_from(["create", "say", "pause", "resume", "hangup"])),
    st.tuples(st.just("tool"), st.integers(1, 3), st.booleans()),
    st.tuples(st.just("reload"), st.integers(0, 2)),
    st.tuples(st.just("probed"), st.sampled_from([True, None])),
    st.tuples(st.just("unsent"), st.integers(0, 3)),
    st.tuples(st.just("spoil"), st.integers(0, 10)),
)
_BREAK = st.one_of(
    *[st.tuples(st.just("close"), st.sampled_from([None, 1000, 1011, 1009]))] * 4,
    st.tuples(st.just("die"), st.floats(0.1, 40.0)),
    *[st.tuples(st.just("crash"))] * 3,
    st.tuples(st.just("restart")),
    st.tuples(st.just("hung_up"), st.sampled_from([True, None, None])),
)
_FAIL = st.tuples(st.just("fail"), st.sampled_from([None, None, None, 401, 503, 404]))
_STEPS = st.one_of(_CALM, _CALM, _BREAK, _FAIL, st.tuples(st.just("attach")))


def _stretch(
    tries: list[tuple[Any, ...]], calm: list[tuple[Any, ...]], stop: tuple[Any, ...], deaf: list[tuple[Any, ...]]
) -> list[tuple[Any, ...]]:
    return [*tries, ("attach",), *calm, stop, *deaf]


_BEGUN = [
    ("attach",),
    ("frame", _event("session.updated", "1", "a"), 0),
    ("frame", _event("response.created", "1", "a"), 0),
    ("frame", _event("conversation.item.added", "2", "a"), 0),
    ("frame", _event("response.output_audio_transcript.delta", "1", "a"), 0),
]
_STRETCHES = st.lists(
    st.builds(
        _stretch,
        st.lists(_FAIL, max_size=1),
        st.lists(_CALM, min_size=5, max_size=30),
        _BREAK,
        st.lists(st.one_of(_FRAME, _WAIT, _STEPS), max_size=2),
    ),
    min_size=2,
    max_size=5,
).map(lambda stretches: [step for stretch in stretches for step in stretch])
_WORLDS = st.tuples(st.sampled_from([[], _BEGUN, [*_BEGUN, ("commit",)]]), _STRETCHES).map(
    lambda parts: [*parts[0], *parts[1]]
)


class World:
    """Be one call and all that was ever known of it."""

    def __init__(self) -> None:
        self.store = Store()
        self.runs: list[Play] = []
        self.stored: list[int] = []
        """How much of each run was committed."""
        self.frames: list[list[tuple[int, bytes]]] = []
        """The frames that each run received, and when."""
        self.missed: list[int] = []
        """When upstream said something that nobody heard."""
        self._maybe: list[int] = []
        """Likewise, if the call was not over by then."""
        self._orders = 0
        self.given: dict[str, dict[str, Any]] = {}
        self._begin(Play(plan(audio_key=None, max_duration=0.0), policies=POLICIES, session=SESSION))

    @property
    def play(self) -> Play:
        return self.runs[-1]

    def _begin(self, play: Play) -> None:
        self.runs.append(play)
        self.stored.append(0)
        self.frames.append([])

    def perform(self, step: tuple[Any, ...]) -> None:
        before = self.play.machine.phase
        getattr(self, f"_{step[0]}")(*step[1:])
        after = self.play.machine.phase
        if after is Phase.ATTACHED and self._maybe:
            self.missed += self._maybe
            self._maybe = []
        if after is Phase.ENDED and before is not Phase.ENDED:
            # what is said to be over says nothing more
            self._maybe = []

    # --- steps ----------------------------------------------------------------------------------

    def _frame(self, event: dict[str, Any], pressure: int = 0) -> None:
        play = self.play
        if play.machine.phase is Phase.ATTACHED:
            frame = json.dumps(event).encode()
            self.frames[-1].append((play.at, frame))
            play.frame(frame, pressure)
        elif play.machine.phase is not Phase.ENDED:
            self._maybe.append(play.at)

    def _wait(self, seconds: float) -> None:
        play, until = self.play, self.play.now + seconds
        for _ in range(100):
            due = play.machine.wake_at()
            if due is None or due > until:
                break
            play.wait(max(0.0, due - play.now))
            play.wake()
            again = play.machine.wake_at()
            assert again is None or again > play.now, "woken, it asks for the same moment again"
        play.wait(max(0.0, until - play.now))

    def _commit(self) -> None:
        self.store.commit(self.play.all[self.stored[-1] :])
        self.stored[-1] = len(self.play.all)

    def _attach(self) -> None:
        if self.play.machine.attach_due is not None:
            self.play.attach()

    def _fail(self, status: int | None) -> None:
        if self.play.machine.attach_due is not None:
            self.play.fail(status)

    def _close(self, code: int | None) -> None:
        self.play.close(code, oversize=code == 1009)

    def _die(self, seconds: float) -> None:
        if self.play.machine.phase is not Phase.ATTACHED:
            return
        self._maybe.append(self.play.at + 1)
        self.play.wait(seconds)
        self.play.close(1011, silent=seconds)

    def _answer(self, number: int) -> None:
        if self.play.machine.phase is Phase.ATTACHED and self.play.sent:
            for event in answers(self.play.sent[-1 - number % len(self.play.sent)]):
                self._frame(event)

    def _refuse(self, number: int) -> None:
        if self.play.machine.phase is Phase.ATTACHED and self.play.sent:
            event_id = self.play.sent[-1 - number % len(self.play.sent)]["event_id"]
            self._frame({"type": "error", "error": {"code": "invalid_value", "event_id": event_id}})

    def _order(self, kind: str) -> None:
        self._orders += 1
        order_id = f"ord_{self._orders}"
        command: dict[str, Any] = {"type": kind}
        if kind == "create":
            item = {"type": "message", "role": "system", "content": [{"type": "input_text", "text": order_id}]}
            command = {"type": "conversation.item.create", "item": item}
        elif kind == "say":
            command["text"] = order_id
        self.given[order_id] = command
        self.play.order(order_id, command)

    def _tool(self, number: int, is_answered: bool) -> None:
        self.play.answer_tool(f"ask_{number}", "sun" if is_answered else None, None if is_answered else "it failed")

    def _reload(self, number: int) -> None:
        self.play.active.replace(PolicySet(policies=SETS[number], hash=f"{number:016x}"))
        self.play.machine.policies_changed()

    def _probed(self, alive: bool | None) -> None:
        self.play.probed(alive)

    def _hung_up(self, ended: bool | None) -> None:
        self.play.hung_up(ended)

    def _unsent(self, number: int) -> None:
        if self.play.sent:
            self.play.unsent(self.play.sent[-1 - number % len(self.play.sent)]["event_id"])

    def _spoil(self, number: int) -> None:
        """Have the database refuse an entry, and hear of it."""
        if self.play.machine.phase is Phase.ENDED:
            return
        fresh = self.play.all[self.stored[-1] :]
        events = [effect for effect in fresh if isinstance(effect, Record) and effect.kind == EVENT]
        if not events:
            return
        victim = events[number % len(events)]
        self.store.commit([effect for effect in fresh if effect is not victim])
        self.stored[-1] = len(self.play.all)
        self.play._do(self.play.machine.refused([(victim.seq, victim.type, victim.at)], *self.play.time))
        self._commit()

    def _crash(self) -> None:
        last = self.store.records[-1].at if self.store.records else START
        lost = [at for at, _ in self.frames[-1] if at > last]
        self._maybe = [*lost, *self._maybe]
        self._go_on()

    def _restart(self) -> None:
        self.play.drain()
        self._commit()
        self._go_on()
        for row in self._latest_orders().values():
            if row.state == "waiting":
                self.play.order(row.order_id, self.given[row.order_id])

    def _latest_orders(self) -> dict[str, OrderRow]:
        rows: dict[str, OrderRow] = {}
        for run, stored in zip(self.runs, self.stored, strict=True):
            rows |= {effect.order_id: effect for effect in run.all[:stored] if isinstance(effect, OrderRow)}
        return rows

    def _go_on(self) -> None:
        """Begin the next run, unless the call is over as far as is stored."""
        if self.store.columns.get("status") in ("ended", "unobserved", "lost"):
            return
        if self.play.machine.phase is Phase.ENDED:
            self._maybe = []
        sets = self.play.active.policies.policies
        self._begin(self.play.taken_over(self.store, policies=sets))

    # --- what is asked of it ----------------------------------------------------------------------

    def effects(self) -> list[Any]:
        return [effect for run in self.runs for effect in run.all]

    def stored_sends(self) -> list[dict[str, Any]]:
        """Give the client events that were sent and whose record was committed."""
        found = []
        for run, stored in zip(self.runs, self.stored, strict=True):
            found += [json.loads(effect.text) for effect in run.all[:stored] if isinstance(effect, Send)]
        return found


def _lived(steps: list[tuple[Any, ...]]) -> World:
    world = World()
    for step in [("attach",), *steps, ("commit",)]:
        world.perform(step)
    return world


@settings(max_examples=300, deadline=None)
@given(_WORLDS)
def test_each_frame_is_one_entry_or_counted_by_exactly_one_gap(steps: list[tuple[Any, ...]]) -> None:
    world = _lived([*steps, ("restart",)])
    positions = [(record.epoch, record.seq) for record in world.store.records]
    assert len(set(positions)) == len(positions), "no place is taken twice"
    for number, run in enumerate(world.runs[:-1]):
        epoch, frames = run.epoch, world.frames[number]
        records = [record for record in world.store.records if record.epoch == epoch]
        seqs = [record.seq for record in records]
        assert seqs == sorted(seqs)
        times = [(record.at, record.offset_us) for record in records]
        assert times == sorted(times)
        kept = iter([frame for _, frame in frames])
        events = [record for record in records if record.kind == EVENT]
        assert all(b'"paused":true' in each.payload or each.payload in kept for each in events), "in their order"
        holes = len(set(range(1, max(seqs, default=0) + 1)) - set(seqs))
        gaps = [gap for gap in world.store.gaps.values() if gap.epoch == epoch]
        assert {(gap.epoch, gap.seq) for gap in gaps} <= set(positions)
        lost = sum(gap.lost or 0 for gap in gaps if gap.reason in LEAVE_HOLES)
        assert holes <= lost <= len(frames) - len(events)
        if run.machine.phase is Phase.DETACHED:
            # the last numbers may all be holes
            holes = run.machine.ledger.seq - len(seqs)
            assert lost == holes == len(frames) - len(events)


@settings(max_examples=300, deadline=None)
@given(_WORLDS)
def test_whatever_nobody_heard_lies_within_a_gap(steps: list[tuple[Any, ...]]) -> None:
    world = _lived([*steps, ("attach",), ("restart",)])
    gaps = list(world.store.gaps.values())
    for at in world.missed:
        assert any(gap.from_at <= at and (gap.to_at is None or at <= gap.to_at) for gap in gaps), (at, gaps)


@settings(max_examples=300, deadline=None)
@given(_WORLDS)
def test_the_record_of_what_led_to_something_stands_before_it(steps: list[tuple[Any, ...]]) -> None:
    for run in _lived(steps).runs:
        recorded: set[str] = set()
        seqs = {0}
        last = 0
        for effect in run.all:
            match effect:
                case Record():
                    assert effect.seq > last
                    last = effect.seq
                    seqs.add(effect.seq)
                    if effect.kind == COMMAND:
                        recorded.add(effect.event_id or "")
                case Send():
                    assert effect.event_id in recorded
                case CommandRow() if effect.epoch == run.epoch:
                    assert effect.event_id in recorded
                case HangUp():
                    assert effect.row.event_id in recorded
                case GapRow() if effect.epoch == run.epoch:
                    assert effect.seq in seqs
                case DecisionRow() if effect.epoch == run.epoch:
                    # its entry stands, or was shed and is a hole
                    assert effect.seq <= max(last, run.machine.ledger.seq)


@settings(max_examples=300, deadline=None)
@given(_WORLDS, st.lists(_STEPS, max_size=20))
def test_after_its_end_nothing_is_recorded_sent_or_asked(
    steps: list[tuple[Any, ...]], later: list[tuple[Any, ...]]
) -> None:
    over = [("attach",), ("close", 1000), ("fail", 404)]
    after = [step for step in later if step[0] not in ("crash", "restart", "spoil")]
    world = _lived([*steps, *over, *after])
    for run in world.runs:
        kinds = [type(effect) for effect in run.all]
        assert kinds.count(Finish) <= 1
        if Finish in kinds:
            late = run.all[kinds.index(Finish) :]
            assert not [effect for effect in late if isinstance(effect, Record | Send | HangUp | AskTool)]
            assert run.machine.wake_at() is None
            assert [row for row in run.decisions if row.outcome is None] == []


@settings(max_examples=300, deadline=None)
@given(_WORLDS)
def test_what_a_run_sent_and_stored_no_later_run_sends_again(steps: list[tuple[Any, ...]]) -> None:
    world = _lived(steps)
    for run in world.runs[1:]:
        began = [effect for effect in run.all[:4] if isinstance(effect, Send)]
        assert began == [], "a run begins by listening"
    sent = world.stored_sends()
    ids = Counter(event["event_id"] for event in sent)
    assert all(count == 1 for count in ids.values())
    outputs = Counter(event["item"]["call_id"] for event in sent if "call_id" in event.get("item", {}))
    assert all(count == 1 for count in outputs.values()), "a function call is answered once"
    orders = Counter(
        event["item"]["content"][0]["text"]
        for event in sent
        if event["type"] == "conversation.item.create" and event["item"]["type"] == "message"
    )
    assert all(count == 1 for count in orders.values()), "an order is carried out once"
    old = [row for row in world.store.decisions.values() if row.policy == "old"]
    assert len(old) <= 1 + sum(step[0] == "reload" for step in steps)


@settings(max_examples=300, deadline=None)
@given(_WORLDS)
def test_healing_asks_for_an_item_twice_at_most_and_comes_to_rest(steps: list[tuple[Any, ...]]) -> None:
    world = _lived(steps)
    asked = Counter(event["item_id"] for event in world.stored_sends() if event["type"] == "conversation.item.retrieve")
    assert all(count <= PER_ITEM for count in asked.values())
    play = world.play
    before = len(play.sent)
    for _ in range(60):
        world.perform(("wait", 15.0))
    assert play.machine.phase is Phase.ENDED or play.machine._healing.due is None
    system = [send for send in play.of(Send)[before:] if send.row.source == "system"]
    assert len(system) <= PER_ITEM * len(IDS)


@settings(max_examples=200, deadline=None)
@given(_STRETCHES)
def test_nothing_is_asked_for_while_the_recording_is_paused(steps: list[tuple[Any, ...]]) -> None:
    world = _lived([*_BEGUN, ("order", "pause"), ("commit",), *(step for step in steps if step[1:] != ("resume",))])
    assert [event for event in world.stored_sends() if event["type"] == "conversation.item.retrieve"] == []
