"""Say when rules about time are due in one call. Pure; all times are the call's age in seconds."""

from __future__ import annotations

from collections.abc import Mapping

from rtobserver.policy import rules
from rtobserver.policy.book import Rule
from rtobserver.policy.tools import Called

TOLERANCE = 1e-6
"""Ages are made of whole microseconds."""
MAX_TOOLS = 1_000
"""Function calls that are remembered as answered or told of."""


class Timers:
    """Keep what rules about time wait for. What was told once is marked, by the policy's id."""

    __slots__ = (
        "_causes",
        "_done",
        "_is_doubtful",
        "_is_stale",
        "_quiet_since",
        "_told_tools",
        "_tools",
        "heard_age",
        "quiet_age",
    )

    def __init__(self) -> None:
        self.heard_age = 0.0
        """Age at the latest event."""
        self.quiet_age: float | None = None
        """Since when nobody speaks and nothing plays, at first since the first event; None while somebody does."""
        self._quiet_since: int | None = None
        self._is_stale = False
        """Whether the end of a sound may have been missed."""
        self._is_doubtful = False
        """Whether nobody knows if anybody speaks or anything plays: then silence is that nothing comes."""
        self._done: dict[str, float] = {}
        """For policies, the beginning of what they last told of."""
        self._tools: dict[str, tuple[float, str, Called | None]] = {}
        """Function calls without output: since when, their items, and what is called."""
        self._causes: dict[str, frozenset[str]] = {}
        """For function calls without output that policies led to, these policies."""
        self._told_tools: dict[str, dict[str, None]] = {}

    def look_at_tools(
        self, waiting: Mapping[str, tuple[str, int]], called: Called | None, age: float, causes: frozenset[str]
    ) -> None:
        """Take in which function calls wait for an output, and the latest of them with what led to it."""
        for call_id in [each for each in self._tools if each not in waiting]:
            del self._tools[call_id]
            self._causes.pop(call_id, None)
        for call_id, (item_id, _) in waiting.items():
            if causes and call_id not in self._tools:
                self._causes[call_id] = causes
            since, _, known = self._tools.get(call_id, (age, item_id, None))
            if known is None and called is not None and called.id == call_id:
                known = called
            self._tools[call_id] = (since, item_id, known)

    def begin(self, age: float) -> None:
        """Take in when the first event came: until somebody makes a sound, nobody did."""
        self.quiet_age = age

    def look_at_sound(self, quiet_since: int | None, age: float, *, is_start: bool) -> None:
        """Take in since when nobody speaks and nothing plays, by any clock; None while somebody does, and at first.

        `is_start` says whether the event is the beginning of a sound.
        """
        if quiet_since is not None:
            self._is_stale = self._is_doubtful = False
            if quiet_since != self._quiet_since:
                self.quiet_age = age
        elif is_start:
            self.quiet_age, self._is_doubtful = None, False
        elif self._is_stale:
            # the sound whose end was missed still seems to go on
            self.quiet_age, self._is_doubtful = age, True
        self._quiet_since = quiet_since

    def miss(self, age: float) -> None:
        """Take in that events were missed: the end of a sound may be among them."""
        if self.quiet_age is None:
            self.quiet_age = age
            self._is_stale = self._is_doubtful = True

    def due(self, rule: Rule) -> tuple[float, str | None] | None:
        """Give the age at which a rule is due, and the function call that it is about; None for never."""
        trigger, policy_id = rule.policy.trigger, rule.policy.id
        start: float | None
        if isinstance(trigger, rules.UnansweredTool):
            told = self._told_tools.get(policy_id, {})
            for call_id, (since, _, _) in self._tools.items():
                if call_id not in told:
                    return since + trigger.seconds, call_id
            return None
        if isinstance(trigger, rules.After):
            start, seconds = 0.0, trigger.seconds
        elif isinstance(trigger, rules.Absent):
            start, seconds = 0.0, trigger.within
        elif isinstance(trigger, rules.Idle):
            start, seconds = self.heard_age, trigger.seconds
        elif isinstance(trigger, rules.DeadAir):
            start, seconds = self._quiet_start, trigger.seconds
        else:
            return None
        if start is None or self._done.get(policy_id, -1.0) >= start:
            return None
        return start + seconds, None

    @property
    def _quiet_start(self) -> float | None:
        if self.quiet_age is None or not self._is_doubtful:
            return self.quiet_age
        return max(self.quiet_age, self.heard_age)

    def waiting(self, function_call_id: str | None) -> tuple[str | None, Called | None]:
        """Give the item of a function call that waits, and what is called."""
        _, item_id, called = self._tools.get(function_call_id or "", (0.0, None, None))
        return item_id, called

    def causes(self, function_call_id: str | None) -> frozenset[str]:
        """Name the policies that led to a function call that waits."""
        return self._causes.get(function_call_id or "", frozenset())

    def mark(self, rule: Rule, function_call_id: str | None) -> None:
        """Note that a rule told of what it is due for."""
        trigger, policy_id = rule.policy.trigger, rule.policy.id
        if function_call_id is not None:
            told = self._told_tools.setdefault(policy_id, {})
            told[function_call_id] = None
            if len(told) > MAX_TOOLS:
                del told[next(iter(told))]
        elif isinstance(trigger, rules.Idle):
            self._done[policy_id] = self.heard_age
        elif isinstance(trigger, rules.DeadAir):
            self._done[policy_id] = self._quiet_start or 0.0
        else:
            self._done[policy_id] = 0.0

    def lapse(self, rule: Rule, age: float) -> int:
        """Note that whatever was due by then was told of; say how often."""
        times = 0
        while (due := self.due(rule)) is not None and due[0] <= age + TOLERANCE:
            self.mark(rule, due[1])
            times += 1
        return times

    def forget(self, policy_id: str) -> None:
        """Begin anew for a policy."""
        self._done.pop(policy_id, None)
        self._told_tools.pop(policy_id, None)
