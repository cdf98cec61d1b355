"""The starter policy that ensures transcription does so in ordinary calls, over real sockets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rtobserver.policy.rules import PolicySet
from rtobserver.simulator.scenario import Hold, Idle, Scenario, SessionUpdate
from tests.policy.test_starter import starters
from tests.support.stage import Setting, Stage
from tests.system.conftest import Play
from tests.system.ordering import live, upstream_got
from tests.system.test_policies import decided

NAMES = ("ensure-transcription", "keep-transcription")


def setting(folder: Path) -> Setting:
    found = starters(folder)
    chosen = tuple(replace(found[name], mode="enforce") for name in NAMES)
    return Setting(policies=PolicySet(policies=chosen, hash="0123456789abcdef"))


def transcriber(stage: Stage, call_id: str) -> str | None:
    transcription = stage.simulator.calls[call_id].session["audio"]["input"]["transcription"]
    return None if transcription is None else str(transcription["model"])


async def test_the_default_conversation_is_transcribed_after_a_second(play: Play, tmp_path: Path) -> None:
    async with play(setting(tmp_path), scenario="default", pace=1.0) as stage:
        call_id = await stage.call()
        await upstream_got(stage, call_id, "session.update")
        [decision] = await decided(stage, call_id, outcome="done")
        assert (decision["policy"], decision["trigger"]) == ("ensure-transcription", "after")
        assert transcriber(stage, call_id) == "whisper-1"
        types = {entry.type for entry in await stage.entries(call_id)}
        assert "session.updated" in types
        assert "session.created" not in types


async def test_a_page_that_turns_it_off_has_it_turned_on_again(play: Play, tmp_path: Path) -> None:
    off = SessionUpdate(session={"audio": {"input": {"transcription": None}}})
    talk = Scenario(name="off", steps=(Hold(name="off"), off, Idle()))
    async with play(setting(tmp_path), scenario=talk) as stage:
        call_id = await live(stage)
        await decided(stage, call_id, outcome="done")
        stage.simulator.release(call_id, "off")
        found = await decided(stage, call_id, 2, outcome="done")
        assert [decision["policy"] for decision in found] == list(NAMES)
        assert transcriber(stage, call_id) == "whisper-1"
