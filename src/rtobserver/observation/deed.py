"""Carry one decision to its end: gather what became of its commands, and say it in its row. Pure.

outcome        means
observed       the policy only observes, or was demoted to that
not_in_canary  the call is not among those that the policy acts on
fault          it could not be decided or filled in; `detail` says why
no_response    there was no response to act on, and nothing else to do
done           every command was acknowledged, or there was none to acknowledge
failed         one of them was refused, could not be sent in time, or its tool failed
unknown        nobody knows whether one of them arrived
"""

from __future__ import annotations

from collections import Counter
from typing import Literal

from rtobserver.observation.commands import Tell, Told
from rtobserver.observation.effects import Effect
from rtobserver.realtime.entries import DecisionRow
from rtobserver.realtime.values import text

LONGEST_DETAIL = 500
LONGEST_MATCH = 1_000

Ending = Literal["done", "failed", "unknown"]

_WORST_FIRST: tuple[Ending, ...] = ("failed", "unknown", "done")
_WORDS = {
    "expired": "it could not be sent in time",
    "released": "the observer left the call before it was sent",
}


class Deed:
    """Follow what becomes of one decision that acts."""

    __slots__ = ("_acknowledged_at", "_details", "_did", "_endings", "_open", "row")

    def __init__(self, row: DecisionRow) -> None:
        self.row = row
        self._open = 0
        self._did = False
        self._endings: Counter[Ending] = Counter()
        self._acknowledged_at: int | None = None
        self._details: list[str] = []

    def note(self, words: str) -> None:
        """Add words to the outcome."""
        if words not in self._details:
            self._details.append(words)
            self.row.detail = text("; ".join(self._details))[:LONGEST_DETAIL]  # type: ignore[index]

    def do(self) -> None:
        """Take note that something was done that nobody acknowledges."""
        self._did = True

    def fail(self, words: str) -> list[Effect]:
        """Take note that part of it failed, or could not even begin."""
        self._did = True
        self._endings["failed"] += 1
        self.note(words)
        return []

    def begin(self, *harmless: str) -> Tell:
        """Begin something that ends later; gives who must be told of it. Errors that are `harmless` are none."""
        self._open += 1
        self._did = True

        def tell(told: Told) -> list[Effect]:
            if told.state == "sent":
                return [self.row]
            if told.state == "acknowledged":
                return self.end("done", None, told.at)
            words = _WORDS.get(told.state) or told.error or told.state
            if told.error in harmless:
                return self.end("done", words)
            return self.end("unknown" if told.state == "unknown" else "failed", words)

        return tell

    def end(self, ending: Ending, words: str | None = None, acknowledged_at: int | None = None) -> list[Effect]:
        """End something that was begun."""
        self._open -= 1
        self._endings[ending] += 1
        if words:
            self.note(words)
        if acknowledged_at is not None:
            self._acknowledged_at = acknowledged_at
        return self.settle()

    def mend(self, at: int) -> list[Effect]:
        """Take note that something which had ended as failed was tried again, and then done."""
        self._endings["failed"] -= 1
        self._endings["done"] += 1
        self._acknowledged_at = at
        self.note("then it was tried again and done")
        return self.settle()

    def settle(self) -> list[Effect]:
        """Say the outcome, if nothing is open any more."""
        if self._open:
            return [self.row]
        worst: Ending = next((ending for ending in _WORST_FIRST if self._endings[ending] > 0), "done")
        self.row.outcome = worst if self._did else "no_response"
        self.row.acknowledged_at = self._acknowledged_at if worst == "done" else None
        return [self.row]
