"""Hold the policies in force in this process, and count what they did. Pure."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from rtobserver.policy.book import Book, Compiled
from rtobserver.policy.rules import Mode, Policy, PolicySet

MAX_FAULTS_SHOWN = 10
MAX_PROFILES = 256
"""Profiles whose rules are kept sorted."""

DEMOTED = "it acted as often in the last minute as its per_minute allows: from here on it only observes"
"""What the decision says with which a policy was demoted."""
MINUTE_US = 60_000_000
"""What `per_minute` is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Faulted:
    """Be one fault of a policy."""

    call_id: str
    at: int
    """Microseconds since 1970."""
    age: float
    """The call's age in seconds."""
    text: str


@dataclass(slots=True, kw_only=True)
class Standing:
    """Be what a policy did in this process since it was loaded first."""

    policy: Policy
    matched: int = 0
    """Times its trigger and its condition were true."""
    limited: int = 0
    """Of those, how often a limit or the loop breaker kept it from deciding."""
    acted: int = 0
    would: int = 0
    """Times that it would have acted in enforce mode."""
    faults: int = 0
    last_faults: deque[Faulted] = field(default_factory=lambda: deque(maxlen=MAX_FAULTS_SHOWN))
    demoted_at: int | None = None
    """When it was demoted to observe, in microseconds since 1970; a reload takes it back."""

    @property
    def mode(self) -> Mode:
        """Give the mode that holds now."""
        return self.policy.mode if self.demoted_at is None else "observe"


_NONE: Counter[int] = Counter()


def _nobody(policy: Policy, at: int) -> None:
    """Tell nobody."""


def compile_rules(policies: PolicySet) -> Compiled:
    """Compile a set; hundreds of policies take long enough to be left to a thread.

    Raises what the compilers of phrases, patterns and conditions raise.
    """
    return Compiled(policies.policies)


class Active:
    """Be the policies in force, for all calls of a process or of a replay."""

    def __init__(self, policies: PolicySet) -> None:
        self.demoted: Callable[[Policy, int], None] = _nobody
        """Told once when a policy is demoted: the policy, and when (microseconds since 1970)."""
        self.generation = 0
        """Raised by each `replace`."""
        self._standings: dict[str, Standing] = {}
        self._minutes: dict[str, deque[int]] = {}
        self._others: dict[str, list[int]] = {}
        """When other replicas decided, as far as that was read."""
        self._take(policies)

    def replace(self, policies: PolicySet, compiled: Compiled | None = None) -> None:
        """Put another set in force; counts of policies that stay go on, demotions do not.

        `compiled` is what `compile_rules` made of it, where that was done elsewhere. Without it this raises what
        the compilers of phrases, patterns and conditions raise; then the old set stays.
        """
        self._take(policies, compiled)
        self.generation += 1

    def _take(self, policies: PolicySet, compiled: Compiled | None = None) -> None:
        self._compiled = compile_rules(policies) if compiled is None else compiled
        self._books: dict[str, Book] = {}
        self.policies = policies
        before, self._standings = self._standings, {}
        for policy in policies.policies:
            standing = self._standings[policy.id] = before.get(policy.id) or Standing(policy=policy)
            standing.policy, standing.demoted_at = policy, None
        self._minutes, self._others = {}, {}

    def book(self, profile: str) -> Book:
        """Give the rules for calls of a profile."""
        book = self._books.get(profile)
        if book is None:
            if len(self._books) >= MAX_PROFILES:
                self._books.clear()
            book = self._books[profile] = Book(self._compiled, profile)
        return book

    def standings(self) -> list[Standing]:
        """Give what each policy did, in file order."""
        return list(self._standings.values())

    def standing(self, policy: Policy) -> Standing:
        """Give what one policy did."""
        return self._standings.get(policy.id) or Standing(policy=policy)

    def restore(self, decided: Iterable[tuple[str, int]]) -> None:
        """Let rates go on from what policies decided in an earlier run: which policy, and when.

        What counts are decisions to act, and those outside the canary, of the last `MINUTE_US`.
        """
        for policy_id, at in sorted(decided, key=lambda each: each[1]):
            if policy_id in self._standings:
                self._minutes.setdefault(policy_id, deque()).append(at)

    def learn(self, decided: Iterable[tuple[str, int]]) -> None:
        """Take in what all replicas decided in the last minute, as far as it is stored: which policy, and when.

        What is not ours counts as well, until it is told anew.
        """
        own = {policy_id: Counter(window) for policy_id, window in self._minutes.items()}
        self._others = {}
        for policy_id, at in decided:
            if policy_id not in self._standings:
                continue
            if own.get(policy_id, _NONE)[at] > 0:
                own[policy_id][at] -= 1
            else:
                self._others.setdefault(policy_id, []).append(at)

    def demote(self, policy_id: str, at: int) -> None:
        """Take over that another replica demoted a policy."""
        standing = self._standings.get(policy_id)
        if standing is not None and standing.demoted_at is None:
            standing.demoted_at = at
            self.demoted(standing.policy, at)

    def rate(self, policy: Policy, at: int) -> int:
        """Count what `per_minute` bounds: decisions to act in the minute before, in all calls that are known of."""
        own = sum(at - MINUTE_US < each <= at for each in self._minutes.get(policy.id, ()))
        return own + self._of_others(policy, at)

    def _of_others(self, policy: Policy, at: int) -> int:
        # their clocks may be ahead
        return sum(each > at - MINUTE_US for each in self._others.get(policy.id, ()))

    def admit(self, policy: Policy, at: int) -> bool:
        """Count a decision to act against the policy's rate; false once it is demoted."""
        standing = self.standing(policy)
        if standing.demoted_at is not None:
            return False
        most = policy.limit.per_minute
        if most <= 0:
            return True
        window = self._minutes.setdefault(policy.id, deque())
        if window and at < window[-1] - MINUTE_US:
            window.clear()  # a replay that goes on with an earlier call
        while window and window[0] <= at - MINUTE_US:
            window.popleft()
        if len(window) + self._of_others(policy, at) < most:
            window.append(at)
            return True
        standing.demoted_at = at
        self.demoted(policy, at)
        return False
