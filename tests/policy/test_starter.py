"""The starter policies of the documentation do what their headings say, and no more."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from rtobserver import settings
from rtobserver.policy import rules
from rtobserver.policy.active import Active
from rtobserver.policy.difference import Decided
from rtobserver.policy.recordings import Recorded
from rtobserver.policy.replay import Replay, decided
from rtobserver.policy.rules import Policy, PolicySet
from rtobserver.policy.view import Subject
from rtobserver.realtime.call import CallState
from rtobserver.realtime.cost import Prices
from rtobserver.realtime.entries import EVENT, JSON
from tests.conversations.played import Talk
from tests.fidelity.recorded import received
from tests.realtime.script import START_US, usage

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "policies.md").read_text(encoding="utf-8").partition("## Starter policies")[2]
EXAMPLE = (ROOT / "config.example.toml").read_text(encoding="utf-8").partition("# --- starter policies ---")[2]
BLOCKS = re.findall(r"```toml\n(.*?)```", DOCUMENT, re.DOTALL)
BASE = """
[upstream]
provider = "azure"
base_url = "http://127.0.0.1:9/openai/v1"
auth = "api-key"
api_key = "k"
[[profile]]
name = "default"
[profile.session]
type = "realtime"
model = "gpt-realtime"
instructions = "Be kind."
[[webhook]]
id = "alerts"
url = "https://ops.example.com/hook"
"""
WHISPER = {"input": {"transcription": {"model": "whisper-1"}}}
SESSION = {"type": "realtime", "model": "gpt-realtime", "instructions": "Be kind.", "audio": WHISPER}
PRICES = Prices.parse(
    """
    [[model]]
    name = "gpt-realtime"
    text = { in = 4, cached = 0.40, out = 16 }
    audio = { in = 32, cached = 0.40, out = 64 }
    """
)

Play = Callable[[Talk], object]


def compiled(folder: Path, text: str) -> tuple[Policy, ...]:
    path = folder / "config.toml"
    path.write_text(BASE + text)
    return settings.load(path, {}).policies.policies


def starters(folder: Path) -> dict[str, Policy]:
    return {policy.id: policy for policy in compiled(folder, "\n".join(BLOCKS))}


def says(words: str) -> Play:
    def play(talk: Talk) -> None:
        talk.creates("R1")
        talk.says("R1", "S1", None, words)
        talk.ends("R1")

    return play


def hears(words: str) -> Play:
    def play(talk: Talk) -> None:
        talk.speaks("U1", 0, 1000)
        talk.is_transcribed("U1", words)

    return play


def ends(status: str, reason: str | None = None) -> Play:
    def play(talk: Talk) -> None:
        talk.creates("R1")
        details = None if reason is None else {"type": status, "reason": reason}
        talk.ends("R1", status, details=details)

    return play


def spends(tokens: int) -> Play:
    def play(talk: Talk) -> None:
        talk.creates("R1")
        talk.ends("R1", used=usage(0, 0, 0, tokens))

    return play


def lasts(seconds: int, *, talks_every: int = 0) -> Play:
    def play(talk: Talk) -> None:
        for second in range(0, seconds + 1, talks_every or seconds):
            talk.at(second * 1000).send("input_audio_buffer.speech_started", item_id=f"U{second}")
            talk.at(second * 1000 + 500).send("input_audio_buffer.speech_stopped", item_id=f"U{second}")

    return play


def gets(recording: str) -> Play:
    """What a sideband really got, an event each 200 ms."""

    def play(talk: Talk) -> None:
        for number, event in enumerate(received(recording)):
            talk.at(number * 200).send(event["type"], **_rest(event))

    return play


def _rest(event: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in event.items() if name not in ("type", "event_id")}


def session(type_: str, **fields: Any) -> Play:
    def play(talk: Talk) -> None:
        told = {"instructions": "Be kind."} | fields
        talk.send(type_, session=told)
        talk.at(10).send(type_, session=told)

    return play


def late_notice(at: int) -> Play:
    def play(talk: Talk) -> None:
        talk.at(at * 1000)
        says("Hello! This call is recorded.")(talk)
        talk.at(40_000).send("rate_limits.updated")

    return play


CASES: list[tuple[str, Play, list[str], Play]] = [
    ("max-duration", lasts(1501), ["hang_up"], lasts(1499)),
    ("cost-cap", spends(25_000), ["tag", "hang_up"], spends(20_000)),
    *(
        ("ensure-transcription", gets(name), ["update_session"], ends("completed"))
        for name in ("openai_sideband_audio_turn", "azure_sideband_text_turn")
    ),
    (
        "keep-transcription",
        session("session.updated", audio={"input": {"transcription": None}}),
        ["restore_session", "tag"],
        session("session.updated", audio=WHISPER),
    ),
    (
        "forbidden-phrases",
        says("That is a guaranteed return, sir"),
        ["cancel_response", "say", "tag"],
        says("I guarantee to return your call"),
    ),
    ("recording-notice", late_notice(31), ["say", "tag"], late_notice(29)),
    (
        "spoken-card-number",
        says("Your card is 4111 1111 1111 1111 thanks"),
        ["cancel_response", "tag"],
        says("Your order is 4111 1111 and costs 12"),
    ),
    (
        "spoken-iban",
        says("Pay to DE89 3704 0044 0532 0130 00 please"),
        ["cancel_response", "tag"],
        says("Flight DE89 leaves at 3704"),
    ),
    (
        "content-filter-rescue",
        ends("incomplete", "content_filter"),
        ["say", "tag"],
        ends("incomplete", "max_output_tokens"),
    ),
    ("content-filter-rescue", ends("incomplete", "content_filter"), ["say", "tag"], ends("completed")),
    (
        "keep-the-instructions",
        session("session.updated", instructions="Be rude."),
        ["restore_session", "tag", "hang_up"],
        session("session.updated"),
    ),
    ("idle-hang-up", lasts(200), ["hang_up"], lasts(200, talks_every=60)),
    ("escalation", hears("Give me your supervisor!"), ["tag", "webhook"], hears("It is a super visor")),
]


def decide(policy: Policy, play: Play) -> list[Decided]:
    talk = Talk()
    play(talk)
    subject = Subject(call_id="rtc_1", profile="default", model="gpt-realtime", started_at=START_US)
    state = CallState(model="gpt-realtime", prices=PRICES)
    replay = Replay(Active(PolicySet(policies=(policy,))), subject, state, session=SESSION)
    found = []
    for seq, (ms, frame) in enumerate(talk.happened, 1):
        assert frame is not None
        type_ = json.loads(frame)["type"]
        line = Recorded(1, seq, EVENT, START_US + ms * 1000, ms * 1000, type_, None, JSON, frame)
        found += replay.take(line)
    found += replay.pass_time(talk.ms / 1000)
    return [decided(each) for each in found]


@pytest.mark.parametrize(("id_", "play", "actions", "other"), CASES)
def test_a_starter_policy_acts_on_what_it_is_for_and_on_nothing_else(
    tmp_path: Path, id_: str, play: Play, actions: list[str], other: Play
) -> None:
    policy = starters(tmp_path)[id_]
    found = decide(policy, play)
    assert [list(each.actions) for each in found][:1] == [actions]
    assert all(each.fault is None for each in found)
    assert decide(policy, other) == []


def test_no_starter_policy_waits_for_what_a_call_over_webrtc_does_not_get(tmp_path: Path) -> None:
    for name in ("openai_sideband_audio_turn", "azure_sideband_text_turn"):
        assert "session.created" not in {event["type"] for event in received(name)}
    for policy in starters(tmp_path).values():
        assert not isinstance(policy.trigger, rules.On) or "session.created" not in policy.trigger.types


def test_every_starter_policy_is_tried_here_and_only_observes(tmp_path: Path) -> None:
    found = starters(tmp_path)
    assert found.keys() == {id_ for id_, *_ in CASES}
    assert {policy.mode for policy in found.values()} == {"observe"}
    assert Decimal("1.5") in [getattr(policy.trigger, "at_least", None) for policy in found.values()]


def test_each_block_stands_by_itself(tmp_path: Path) -> None:
    assert len(BLOCKS) == 10
    for block in BLOCKS:
        assert compiled(tmp_path, block)


def test_the_example_has_the_same_starter_policies(tmp_path: Path) -> None:
    switched_on = re.sub(r"^#(?=[a-z\[])", "", EXAMPLE, flags=re.MULTILINE)
    assert compiled(tmp_path, switched_on) == tuple(starters(tmp_path).values())
