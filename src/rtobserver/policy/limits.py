"""Keep what one policy did in one call, and say whether it may act again. Pure."""

from __future__ import annotations

from rtobserver.policy.rules import Limit

MAX_FAULTS = 10
"""Faults of one policy in one call that are decisions."""
MAX_TURNS = 1_000
"""Turns that matched that are remembered, the latest ones."""
ACTIONS_PER_CALL = 200
"""Actions of all policies in one call."""


class Ledger:
    """Be the account of one policy in one call. It outlives a reload of the policies."""

    __slots__ = ("_last_age", "_turns", "count", "decided_turn", "faults", "is_over_budget")

    def __init__(self) -> None:
        self.count = 0
        """Decisions so far, without faults."""
        self.faults = 0
        self.decided_turn: int | None = None
        """Turns of the user there were when it last acted, or would have."""
        self.is_over_budget = False
        """Whether it was said that the call's actions are used up."""
        self._last_age: float | None = None
        self._turns: dict[int, bool] = {}
        """Turns that matched, and whether they counted already."""

    def is_cool(self, limit: Limit, age: float) -> bool:
        """Say whether the cool-down is over and the call's limit not reached."""
        if limit.per_call and self.count >= limit.per_call:
            return False
        return self._last_age is None or age - self._last_age >= limit.cooldown

    def hits(self, limit: Limit, turn: int) -> bool:
        """Note a match in a turn; say whether that completes so many such turns in a row. They count once.

        Turns may come in any order: what the user said is known later than what was said after it.
        """
        most = limit.consecutive
        if most <= 1:
            return True
        turns = self._turns
        if turn in turns:
            return False
        turns[turn] = False
        if len(turns) > MAX_TURNS:
            del turns[min(turns)]
        first = last = turn
        while turns.get(first - 1) is False and turn - first < most:
            first -= 1
        while turns.get(last + 1) is False and last - first < most:
            last += 1
        if last - first + 1 < most:
            return False
        turns.update(dict.fromkeys(range(first, first + most), True))
        return True

    def decided(self, age: float, *, turn: int | None) -> None:
        """Note a decision; `turn` is None where it is not known."""
        self.count += 1
        self._last_age = age if self._last_age is None else max(age, self._last_age)
        if turn is not None:
            self.decided_turn = turn

    def failed(self) -> None:
        """Note a fault: it uses up nothing but the faults that are recorded."""
        self.faults += 1
