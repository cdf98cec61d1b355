"""Keep what one policy did in one call, and say whether it may act again. Pure."""

from __future__ import annotations

from rtobserver.policy.rules import Limit

MAX_FAULTS = 10
"""Faults of one policy in one call that are decisions."""
ACTIONS_PER_CALL = 200
"""Actions of all policies in one call."""


class Ledger:
    """Be the account of one policy in one call. It outlives a reload of the policies."""

    __slots__ = ("_last_age", "_last_turn", "_row", "acted_turn", "count", "faults", "is_over_budget")

    def __init__(self) -> None:
        self.count = 0
        """Decisions so far, faults too."""
        self.faults = 0
        self.acted_turn: int | None = None
        """Turns of the user there were when it last acted."""
        self.is_over_budget = False
        """Whether it was said that the call's actions are used up."""
        self._last_age: float | None = None
        self._row = 0
        self._last_turn: int | None = None

    def is_cool(self, limit: Limit, age: float) -> bool:
        """Say whether the cool-down is over and the call's limit not reached."""
        if limit.per_call and self.count >= limit.per_call:
            return False
        return self._last_age is None or age - self._last_age >= limit.cooldown

    def hits(self, limit: Limit, turn: int) -> bool:
        """Note a match in a turn; say whether there were enough such turns in a row. Then it begins anew."""
        if limit.consecutive <= 1:
            return True
        if self._last_turn == turn:
            return False
        self._row = self._row + 1 if self._last_turn == turn - 1 else 1
        self._last_turn = turn
        if self._row < limit.consecutive:
            return False
        self._row = 0
        return True

    def decided(self, age: float, *, turn: int | None, is_fault: bool = False) -> None:
        """Note a decision; `turn` is None where nothing was done."""
        self.count += 1
        self.faults += is_fault
        self._last_age = age if self._last_age is None else max(age, self._last_age)
        if turn is not None:
            self.acted_turn = turn
