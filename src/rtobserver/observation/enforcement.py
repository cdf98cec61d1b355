"""Show policies what happens in a call, and do what they decide. Pure.

The machine shows each frame as it came, also one that was shed or must not be stored, after the fold took
it in; timers that are due before a frame decide first. Whatever the verdict, one decision is recorded. Its
actions are done in the order of the file, on the machine's own means: `Control`, `Commands`, `Speech`.

A policy that restores the session does so `GUARD` times in a call at most: somebody who always writes back
would be answered for ever; while one is unanswered no second one is sent or counted. Where it hangs up too,
that is its last resort, for when the guard is reached (docs/decisions/0070).
"""

from __future__ import annotations

from collections.abc import Mapping

from rtobserver.observation.cancellation import Cancellations
from rtobserver.observation.commands import Author, Json, Tell, Told
from rtobserver.observation.control import Control
from rtobserver.observation.deed import LONGEST_MATCH, Deed
from rtobserver.observation.effects import Effect, Notify
from rtobserver.observation.ledger import Ledger
from rtobserver.observation.speech import spoken
from rtobserver.observation.tooling import Tooling
from rtobserver.observation.watch import Watch
from rtobserver.policy import guard, rules, tampering
from rtobserver.policy.engine import MET, Engine
from rtobserver.policy.verdicts import Verdict
from rtobserver.policy.view import view
from rtobserver.policy.wording import action_names
from rtobserver.realtime.entries import Changed, DecisionRow
from rtobserver.realtime.events import Event
from rtobserver.realtime.times import rfc3339
from rtobserver.realtime.values import mapping, text

SAY_SECONDS = 30.0
"""How long words may have to wait for the response that goes on."""
MAX_ROUNDS = 64
"""How often timers are looked at before something else is done; an engine that is never done does not move on."""


class Enforcement:
    """Enforce policies in one call for one epoch."""

    __slots__ = (
        "_cancellations",
        "_control",
        "_decided",
        "_ledger",
        "_restoring",
        "_tooling",
        "_watch",
        "engine",
        "is_needed",
        "is_sooner",
        "wake",
    )

    def __init__(self, watch: Watch, ledger: Ledger, control: Control) -> None:
        self._watch = watch
        self._ledger = ledger
        self._control = control
        self._cancellations = Cancellations(watch.is_response_over, self._issue)
        self._tooling = Tooling(watch.subject.call_id, control, watch.tampering.is_ours, watch.is_response_done)
        for call, policy in watch.answered.items():
            self._tooling.own(call, policy)
        self._decided: dict[str, int] = {}
        """The last number at which each policy decided."""
        self._restoring: set[str] = set()
        """Policies whose restoration of the session is not answered yet."""
        self.engine: Engine | None = None
        """None while no policy is for this call."""
        self.is_needed = False
        """Whether frames must be shown to `heard`, for the sake of policies or of what they began."""
        self.wake: float | None = None
        """The call's age at which a timer may decide."""
        self.is_sooner = False
        """Whether `wake` came nearer since the observer last looked."""
        watch.view = self._view
        control.commands.follower = self
        self.policies_changed()

    def policies_changed(self) -> None:
        """Take note that other policies may be in force."""
        engine = self._watch.engine
        self.engine = engine if engine is not None and engine.owes() else None
        self._rest()
        self._look()

    def _rest(self) -> None:
        """Need frames only while there are policies, or something that they began and did not end."""
        self.is_needed = self.engine is not None or bool(self._cancellations) or bool(self._tooling)
        self._control.follow(follows=self.is_needed)

    def started(self, at: int, mono: float) -> list[Effect]:
        """Close what the epoch before left open: what came of it was told to nobody.

        A function call that waits for the answer of a tool gets an output that says so.
        """
        rows, self._watch.unsettled = self._watch.unsettled, []
        waiting = {item_id: call for call, (item_id, _) in self._watch.live.waiting_tools.items()}
        effects: list[Effect] = []
        for row in rows:
            call = waiting.get(row.item_id or "")
            if call is not None and self._watch.is_unanswered(call, row):
                author = Author("policy", row.policy, row, frozenset({row.policy}))
                effects += self._tooling.resume(call, row.response_id, author, Deed(row), at, mono)
                continue
            row.outcome = "unknown"
            row.detail = row.detail or "the observer that carried it out stopped before it heard what came of it"
        self._rest()
        return [*rows, *effects]

    # --- what happens ---------------------------------------------------------------------------

    @property
    def is_apart(self) -> bool:
        """Say whether policies know more than the record does, so that frames must be shown to `keep_up`."""
        return self._watch.is_apart

    def keep_up(self, event: Event, frame: bytes, at: int, seq: int) -> None:
        """Take in a frame as it came, where the record has it otherwise, and each one after such a frame."""
        self._watch.keep_up(event, frame, at, self._ledger.epoch, seq)

    def release(self) -> None:
        """Let go of what was said in the call."""
        self._watch.release()

    def heard(self, event: Event, frame: bytes, seq: int, at: int, mono: float, *, conceals: bool) -> list[Effect]:
        """Take in a frame as it came; `conceals` says that it must not be stored."""
        watch, age = self._watch, self._ledger.offset_us(mono) / 1e6
        keys: tuple[str, ...] = ()
        if event.type in tampering.WATCHED:
            keys = watch.tampering.heard(event, frame, self._tooling.owns, age=age)
        effects: list[Effect] = []
        if keys and not watch.is_tampered:
            watch.is_tampered = True
            effects.append(Changed({"tampered": True}))
        if not self.is_needed:
            return effects
        engine = self.engine
        causes = watch.causes.of(event, frame)
        effects += self._cancellations.heard(event, frame, at, mono)
        effects += self._tooling.heard(event, frame, at, mono)
        if engine is None:
            self._rest()
            return effects
        verdicts = engine.heard(event, frame, at=at, age=age, causes=causes)
        if keys:
            verdicts = [*verdicts, *engine.tampered(keys, event, frame, at=at, age=age, causes=causes)]
            verdicts.sort(key=watch.order)
        if engine.met:
            met, engine.met = engine.met, []
            effects += [effect for each in met for effect in self._tell(MET, each, at, mono)] if conceals else []
        for verdict in verdicts:
            effects += self._decide(verdict, seq, at, mono, conceals=conceals)
        self._look()
        return effects

    def woken(self, at: int, mono: float) -> list[Effect]:
        """Let timers decide that are due."""
        effects: list[Effect] = []
        for _ in range(MAX_ROUNDS):
            if self.engine is None or self.wake is None or self._ledger.due(self.wake) > mono:
                break
            age = max(self.wake, self._ledger.offset_us(mono) / 1e6)
            verdicts = self.engine.woken(at=at, age=age)
            before, last = self.wake, self._ledger.seq
            self._look()
            for verdict in verdicts:
                seq = last
                if self._decided.get(verdict.policy.id) == seq:
                    seq, noted = self._place(verdict.policy.id, at, mono)
                    effects += noted
                effects += self._decide(verdict, seq, at, mono, conceals=self._conceals(verdict.match.item_id))
            if not verdicts and self.wake == before:
                break
        return effects

    def tool_answered(self, key: str, output: str | None, problem: str | None, at: int, mono: float) -> list[Effect]:
        """Take note of what a tool's endpoint said."""
        return self._tooling.answered(key, output, problem, at, mono)

    def missed(self, age: float) -> None:
        """Take note that a gap begins at an age of the call."""
        if self.engine is not None:
            self.engine.missed(age=age)
            self._look()

    def detached(self) -> None:
        """Take note that frames are missed from now on."""
        self._cancellations.detached()
        self._tooling.detached()
        self._watch.tampering.lost()

    def ended(self, words: str) -> list[Effect]:
        """Give up what nobody needs any more."""
        self.engine = self.wake = None
        self.is_needed = False
        return self._tooling.close(words)

    def drained(self) -> None:
        """Leave what tools are asked to the next epoch, which answers for them; its decisions stay open until then."""
        self.engine = self.wake = None
        self.is_needed = False
        self._tooling.leave()

    def issued(self, event: Json, author: Author, mono: float) -> None:
        """Take note of a client event that is sent."""
        self._watch.tampering.sent(event, self._ledger.offset_us(mono) / 1e6)
        self._watch.causes.issued(event, author)
        if author.conceals:
            item_id = mapping(event.get("item")).get("id")
            self._control.pause.touch([item_id] if isinstance(item_id, str) else [])

    def answered(self, event: Json, author: Author, told: Told) -> None:
        """Take note that upstream acknowledged or refused it."""
        self._watch.causes.answered(author, told)
        if author.conceals:
            response_id = mapping(told.answer.get("response")).get("id")
            self._control.pause.touch([response_id] if isinstance(response_id, str) else [])

    def _look(self) -> None:
        before, self.wake = self.wake, self.engine.wake_at() if self.engine is not None else None
        if self.wake is not None and (before is None or self.wake < before):
            self.is_sooner = True

    def _conceals(self, item_id: str | None) -> bool:
        """Say whether what is known of an item, or of nothing in particular, must not be stored now."""
        pause = self._control.pause
        return pause.is_active or (item_id is not None and pause.holds(item_id))

    def _view(self, age: float) -> Mapping[str, Json]:
        return view(
            self._watch.subject,
            self._watch.live,
            age=age,
            tags=self._control.tags,
            entry_count=self._ledger.entry_count,
            gap_count=self._ledger.gaps.count,
            tampered=self._watch.is_tampered,
        )

    # --- what is decided ------------------------------------------------------------------------

    def _place(self, policy: str, at: int, mono: float) -> tuple[int, list[Effect]]:
        """Make a place for a timer's decision whose policy has one at the last entry already."""
        effects = self._tell("timer", policy, at, mono)
        return self._ledger.seq, effects

    def _tell(self, type_: str, policy: str, at: int, mono: float) -> list[Effect]:
        """Record something of a policy that no event tells."""
        note = self._control.commands.note
        return note({"type": type_, "policy": policy}, Author("policy", policy), at, mono)[1]

    def _decide(self, verdict: Verdict, seq: int, at: int, mono: float, *, conceals: bool) -> list[Effect]:
        policy, match = verdict.policy, verdict.match
        self._decided[policy.id] = seq
        said = None if conceals or match.text is None else text(match.text)
        row = DecisionRow(
            self._ledger.epoch,
            seq,
            policy.id,
            verdict.policy_set,
            rules.TRIGGER_NAMES[type(policy.trigger)],
            verdict.mode,
            verdict.acts,
            action_names(verdict.actions),
            at,
            match=None if said is None else said[:LONGEST_MATCH],
            item_id=match.item_id,
            response_id=match.response_id,
        )
        deed = Deed(row)
        if verdict.note is not None:
            deed.note(verdict.note)
        if verdict.fault is not None:
            deed.note("what went wrong names what must not be stored" if conceals else verdict.fault)
            row.outcome = "fault"
            return [row]
        if not verdict.acts:
            row.outcome = "observed" if verdict.mode == "observe" else "not_in_canary"
            return [row]
        author = Author("policy", policy.id, row, verdict.causes, conceals)
        effects: list[Effect] = [row]
        for action in self._permitted(verdict, deed):
            effects += self._do(action, verdict, author, deed, at, mono)
        if row.outcome is None:
            effects += deed.settle()
        return effects

    def _permitted(self, verdict: Verdict, deed: Deed) -> list[rules.Action]:
        """Leave out what the guard of restorations forbids."""
        actions = [*verdict.actions]
        if not guard.restores(actions):
            return actions
        policy = verdict.policy.id
        if is_waiting := policy in self._restoring:
            # what was changed before upstream took it up is written over by it
            deed.do()
        else:
            self._watch.restored[policy] += 1
        actions, words = guard.kept(actions, is_waiting=is_waiting, times=self._watch.restored[policy])
        for each in words:
            deed.note(each)
        if actions or is_waiting:
            deed.row.actions = action_names(actions)
        else:
            deed.row.acted, deed.row.outcome = False, "fault"
        return actions

    def _do(
        self, action: rules.Action, verdict: Verdict, author: Author, deed: Deed, at: int, mono: float
    ) -> list[Effect]:
        watch, control = self._watch, self._control
        match action:
            case rules.Send():
                return self._send(dict(action.event), author, deed, at, mono)
            case rules.UpdateSession():
                return self._update(watch.tampering.completed(action.session), author, deed, at, mono)
            case rules.RestoreSession():
                return self._restore(author, deed, at, mono)
            case rules.CancelResponse():
                return self._cancel(verdict, author, deed, at, mono)
            case rules.Say():
                event = spoken(action.text, {"rtobserver": verdict.policy.id})
                return control.say(event, author, deed.begin(), at, mono, due=mono + SAY_SECONDS)
            case rules.CreateItem():
                event = {"type": "conversation.item.create", "item": dict(action.item)}
                return self._issue(event, author, deed.begin(), at, mono)
            case rules.DeleteItem():
                item_id = action.item_id or verdict.match.item_id
                if item_id is None:
                    return deed.fail("there is no item to delete")
                event = {"type": "conversation.item.delete", "item_id": item_id}
                return self._issue(event, author, deed.begin(), at, mono)
            case rules.AnswerTool():
                return self._tooling.ask(action, verdict.match, author, deed)
            case rules.MuteModel() | rules.UnmuteModel():
                return self._mute(author, deed, at, mono, mutes=isinstance(action, rules.MuteModel))
            case rules.PauseRecording():
                deed.do()
                return control.begin_pause(author, at, mono)[1]
            case rules.ResumeRecording():
                deed.do()
                return control.end_pause(author, at, mono)[1]
            case rules.HangUp():
                return self._end_call(action, author, deed, at, mono)
            case rules.Tag():
                deed.do()
                if author.conceals and action not in verdict.policy.actions:
                    deed.note("the tag names what must not be stored")
                    return []
                return control.change_tags([action.tag], ())
            case rules.Webhook():
                deed.do()
                return [Notify(action.id, self._payload(verdict, deed.row, at))]

    def _issue(self, event: Json, author: Author, tell: Tell, at: int, mono: float) -> list[Effect]:
        return self._control.issue(event, author, tell, at, mono)

    def _send(self, event: Json, author: Author, deed: Deed, at: int, mono: float) -> list[Effect]:
        if event.get("type") == "response.create" and mapping(event.get("response")).get("conversation") != "none":
            return self._control.say(event, author, deed.begin(), at, mono, due=mono + SAY_SECONDS)
        return self._issue(event, author, deed.begin(), at, mono)

    def _update(self, session: Json, author: Author, deed: Deed, at: int, mono: float) -> list[Effect]:
        return self._issue({"type": "session.update", "session": session}, author, deed.begin(), at, mono)

    def _restore(self, author: Author, deed: Deed, at: int, mono: float) -> list[Effect]:
        policy, tell = author.policy or "", deed.begin()
        self._restoring.add(policy)

        def told(told: Told) -> list[Effect]:
            if told.state != "sent":
                self._restoring.discard(policy)
            return tell(told)

        event = {"type": "session.update", "session": self._watch.tampering.restoration()}
        return self._issue(event, author, told, at, mono)

    def _mute(self, author: Author, deed: Deed, at: int, mono: float, *, mutes: bool) -> list[Effect]:
        detection = self._watch.tampering.detection()
        if detection is None:
            deed.do()
            deed.note("turn detection is off, so that the model makes no response by itself")
            return []
        part = {"audio": {"input": {"turn_detection": {**detection, "create_response": not mutes}}}}
        return self._update(self._watch.tampering.completed(part), author, deed, at, mono)

    def _cancel(self, verdict: Verdict, author: Author, deed: Deed, at: int, mono: float) -> list[Effect]:
        response_id = verdict.match.response_id
        if response_id is None:
            deed.note("there is no response to cancel")
            return []
        deed.row.played_ms = self._cancellations.played_ms(response_id, verdict.match.text, at)
        return self._cancellations.cancel(response_id, author, deed, at, mono)

    def _end_call(self, action: rules.HangUp, author: Author, deed: Deed, at: int, mono: float) -> list[Effect]:
        tell = deed.begin()
        has_failed = False

        def ended(at: int, error: str | None) -> list[Effect]:
            nonlocal has_failed
            if has_failed:
                return [] if error else deed.mend(at)
            has_failed = error is not None
            return tell(Told("failed" if error else "acknowledged", at, mono, error=error))

        goodbye = spoken(action.goodbye, {"rtobserver": author.policy}) if action.goodbye else None
        return self._control.end_call(goodbye, author, action.after, ended, at, mono)

    def _payload(self, verdict: Verdict, row: DecisionRow, at: int) -> Json:
        subject = self._watch.subject
        return {
            "type": "policy.matched",
            "timestamp": rfc3339(at),
            "data": {
                "call_id": subject.call_id,
                "policy": row.policy,
                "policy_set": row.policy_set,
                "trigger": row.trigger,
                "mode": row.mode,
                "position": f"{row.epoch}:{row.seq}",
                "match": row.match,
                "profile": subject.profile,
                "user": subject.user,
                "labels": dict(subject.labels),
            },
        }
