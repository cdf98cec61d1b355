"""Try policies on the tests that stand beside them. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rtobserver.config.sections import Config, Profile
from rtobserver.policy.active import Active
from rtobserver.policy.difference import Decided
from rtobserver.policy.recordings import Recording
from rtobserver.policy.replay import Replay, Watched, decided, uncapped
from rtobserver.policy.rules import PolicySet, PolicyTest
from rtobserver.policy.view import Subject
from rtobserver.realtime.call import CallState

CALL_ID = "rtc_test"
"""What the call of a test is called."""

NewState = Callable[[Profile, str], CallState]


@dataclass(frozen=True, slots=True)
class Trial:
    """Be what came of a test."""

    test: PolicyTest
    decided: tuple[Decided, ...] = ()
    problem: str | None = None
    """Why it could not be tried."""

    @property
    def expected(self) -> list[str]:
        """Write what was expected, a line for each decision."""
        return [f"{policy}: {', '.join(actions)}" for policy, actions in self.test.expect]

    @property
    def found(self) -> list[str]:
        """Write what was decided likewise."""
        return [_line(each) for each in self.decided]

    @property
    def passed(self) -> bool:
        """Say whether it was decided as expected."""
        return self.problem is None and self.expected == self.found


def _line(each: Decided) -> str:
    if each.fault is not None:
        return f"{each.policy}: fault: {each.fault}"
    return f"{each.policy}: {', '.join(each.actions)}"


def try_out(test: PolicyTest, recording: Recording, policies: PolicySet, config: Config, new_state: NewState) -> Trial:
    """Replay a test's recording; whatever mode a policy has, what it would do is what counts.

    The call is of the default profile, unless the first expected policy does not hold there: then it
    is of that policy's first profile.
    """
    profile = profile_for(test, policies, config)
    subject = Subject(call_id=CALL_ID, profile=profile.name, model=profile.model, started_at=recording.started_at)
    replay = Replay(
        Active(uncapped(policies)),
        subject,
        new_state(profile, profile.model),
        session=profile.session,
        watched=Watched(epochs=len({line.epoch for line in recording.lines})),
    )
    found = [ruling for line in recording.lines for ruling in replay.take(line)]
    found += replay.pass_time(recording.age)
    return Trial(test, tuple(map(decided, found)))


def profile_for(test: PolicyTest, policies: PolicySet, config: Config) -> Profile:
    """Choose the profile of a test's call."""
    by_id = {policy.id: policy for policy in policies.policies}
    for id_, _ in test.expect:
        names = by_id[id_].profiles
        if names is not None and config.default_profile.name not in names:
            return config.profile(names[0]) or config.default_profile
        break
    return config.default_profile
