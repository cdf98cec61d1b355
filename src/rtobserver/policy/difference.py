"""Compare what was decided in a call with what would be. Pure.

A decision is found again by its policy and its position. Whether it acted is not compared: modes are
left out, so that a policy which is only observed compares with one that is enforced.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

How = Literal["new", "vanished", "changed"]


class Place(NamedTuple):
    """Mark an entry of a call."""

    epoch: int
    seq: int

    def __str__(self) -> str:
        return f"{self.epoch}:{self.seq}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """Be one decision, recorded or replayed."""

    policy: str
    position: Place
    """Of the entry that triggered it."""
    trigger: str
    mode: str
    acts: bool
    """Whether the actions were done, or would have been in this mode."""
    would_act: bool
    """Whether they would be done if the policy were enforced: always, but for a fault."""
    actions: tuple[str, ...]
    match: str | None = None
    """The matched words."""
    fault: str | None = None

    @property
    def key(self) -> tuple[Place, str]:
        """Give what it is found by."""
        return self.position, self.policy


@dataclass(frozen=True, slots=True)
class Change:
    """Be a decision that is different."""

    how: How
    before: Decided | None
    after: Decided | None

    @property
    def decision(self) -> Decided:
        """Give the decision, as it would be where it still is one."""
        found = self.after or self.before
        if found is None:
            raise TypeError("a change is of something")
        return found


@dataclass(slots=True)
class Tally:
    """Count decisions of one policy, or of all."""

    before: int = 0
    after: int = 0
    new: int = 0
    vanished: int = 0
    changed: int = 0
    calls: int = 0
    """Calls in which anything is different."""


@dataclass(slots=True)
class Tallies:
    """Count decisions policy by policy; each once per call."""

    total: Tally = field(default_factory=Tally)
    by_policy: dict[str, Tally] = field(default_factory=dict)

    def add(self, before: Iterable[Decided], after: Iterable[Decided], changes: Iterable[Change]) -> None:
        """Count what was found in one call."""
        for each in before:
            self._of(each.policy).before += 1
            self.total.before += 1
        for each in after:
            self._of(each.policy).after += 1
            self.total.after += 1
        touched: set[str] = set()
        for change in changes:
            policy = change.decision.policy
            touched.add(policy)
            for tally in (self._of(policy), self.total):
                setattr(tally, change.how, getattr(tally, change.how) + 1)
        for policy in touched:
            self._of(policy).calls += 1
        self.total.calls += bool(touched)

    def _of(self, policy: str) -> Tally:
        return self.by_policy.setdefault(policy, Tally())


def compare(before: Iterable[Decided], after: Iterable[Decided]) -> list[Change]:
    """List what is different, by position and then policy."""
    old = {each.key: each for each in before}
    new = {each.key: each for each in after}
    changes: list[Change] = []
    for key in sorted(old.keys() | new.keys()):
        was, would = old.get(key), new.get(key)
        if was is None:
            changes.append(Change("new", None, would))
        elif would is None:
            changes.append(Change("vanished", was, None))
        elif not _is_same(was, would):
            changes.append(Change("changed", was, would))
    return changes


def _is_same(was: Decided, would: Decided) -> bool:
    if (was.trigger, was.match, was.would_act) != (would.trigger, would.match, would.would_act):
        return False
    if was.acts == would.acts or not any("restore_session" in each.actions for each in (was, would)):
        return was.actions == would.actions
    # what only observes has no guard, by which what acts leaves something out
    return _unguarded(was) == _unguarded(would)


def _unguarded(each: Decided) -> list[str]:
    return [action for action in each.actions if action not in ("restore_session", "hang_up")]
