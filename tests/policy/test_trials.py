"""Tests that stand beside policies run over their files, whatever the mode."""

from __future__ import annotations

import json
from dataclasses import replace

from rtobserver.config.sections import Config, Profile, Upstream
from rtobserver.policy import rules
from rtobserver.policy.recordings import read_recording
from rtobserver.policy.rules import Limit, Policy, PolicySet, PolicyTest
from rtobserver.policy.trials import Trial, profile_for, try_out
from rtobserver.realtime.call import CallState

CONFIG = Config(
    upstream=Upstream(provider="azure", base_url="https://x.example.com/openai/v1", auth="entra"),
    profiles=(
        Profile(name="default", session={"type": "realtime", "model": "m", "instructions": "Be kind."}),
        Profile(name="support", session={"type": "realtime", "model": "m"}),
    ),
)
HELLO = Policy(id="hello", trigger=rules.On(types=("hello",)), actions=(rules.Tag(tag="hello"),))
IDLE = Policy(id="idle", trigger=rules.Idle(seconds=20), actions=(rules.HangUp(),))


def trial(policies: tuple[Policy, ...], lines: list[object], *expect: tuple[str, tuple[str, ...]]) -> Trial:
    test = PolicyTest(name="t", events="x.ndjson", expect=expect, place="policy[0].test[0]")
    recording = read_recording(json.dumps(line).encode() for line in lines)
    return try_out(test, recording, PolicySet(policies=policies), CONFIG, lambda profile, model: CallState(model=model))


def test_expected_is_all_that_is_decided_in_order() -> None:
    lines: list[object] = [{"type": "hello"}, {"type": "x"}, {"type": "hello"}]
    tag = ("hello", ("tag",))
    assert trial((HELLO,), lines, tag, tag).passed
    assert not trial((HELLO,), lines, tag).passed
    assert not trial((HELLO,), lines).passed
    assert trial((HELLO,), [{"type": "x"}]).passed


def test_a_policy_is_tested_in_any_mode_and_without_the_cap_on_all_calls() -> None:
    for mode in ("observe", "canary", "enforce"):
        tested = replace(HELLO, mode=mode, canary_percent=1, limit=Limit(per_minute=1))
        assert trial((tested,), [{"type": "hello"}] * 3, *[("hello", ("tag",))] * 3).passed


def test_time_that_passes_at_the_end_counts() -> None:
    hangs_up = ("idle", ("hang_up",))
    assert trial((IDLE,), [{"type": "x"}, {"offset_ms": 21_000}], hangs_up).passed
    assert trial((IDLE,), [{"type": "x"}, {"offset_ms": 19_000}]).passed


def test_a_fault_is_never_what_was_expected() -> None:
    broken = replace(HELLO, when="event.n / 0 == 1")
    found = trial((broken,), [{"type": "hello", "n": 1}], ("hello", ("tag",)))
    assert not found.passed
    assert found.found[0].startswith("hello: fault: ")


def test_the_call_is_of_a_profile_that_the_expected_policy_is_for() -> None:
    support = replace(HELLO, profiles=("support",))
    assert trial((support,), [{"type": "hello"}], ("hello", ("tag",))).passed
    policies = PolicySet(policies=(support, IDLE))
    for expect, name in ((("hello", ("tag",)), "support"), (("idle", ("hang_up",)), "default")):
        test = PolicyTest(name="t", events="", expect=(expect,), place="")
        assert profile_for(test, policies, CONFIG).name == name


def test_the_expected_session_is_the_profiles() -> None:
    watch = Policy(id="watch", trigger=rules.Tampered(keys=None), actions=(rules.RestoreSession(),))
    rude = {"type": "session.updated", "session": {"instructions": "Be rude."}}
    kind = {"type": "session.updated", "session": {"instructions": "Be kind."}}
    assert trial((watch,), [rude], ("watch", ("restore_session",))).passed
    assert trial((watch,), [kind]).passed
