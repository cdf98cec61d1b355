"""Each trigger, as an operator writes it, fires in a live call over real sockets."""

from __future__ import annotations

from typing import Any

import pytest

from rtobserver.simulator.scenario import Error, Hold, SessionUpdate, Spoken, ToolCall, Typed
from tests.policy.written import compiled
from tests.support.stage import PATIENCE, SESSION, Setting
from tests.system.conftest import Play
from tests.system.ordering import live
from tests.system.test_policies import decided, scenario

ACTS = 'mode = "enforce"\ndo = [{ tag = "seen" }]\n'
TALK = (Spoken(user="I want a refund.", assistant="There is no money back, I am afraid."),)

TRIGGERS: dict[str, tuple[str, tuple[Any, ...], str | None]] = {
    "on": ('on = ["response.d*"]', TALK, None),
    "phrase": ('phrase = { speaker = "assistant", any = ["@money"], whole = true }', TALK, "money back"),
    "regex": ('regex = { speaker = "user", pattern = "re[a-z]und" }', (Typed(user="My refund?"),), "refund"),
    "tool": ('tool = { name = "get_*", arguments = { city = "Oslo" } }', (ToolCall(),), None),
    "after": ('after = "300ms"', TALK, None),
    "idle": ('idle = "400ms"', TALK, None),
    "dead_air": ('dead_air = "400ms"', TALK, None),
    "unanswered_tool": ('unanswered_tool = "200ms"', (ToolCall(output="", patience=PATIENCE),), None),
    "absent": ('absent = { phrase = { speaker = "assistant", any = ["recorded"] }, within = "500ms" }', TALK, None),
    "count": ('count = { on = "error", at_least = 2, within = "10s" }', (Error(), Error()), None),
    "usage": ("usage = { total_tokens = 1 }", TALK, None),
    "turns": ("turns = 2", (Typed(), Typed()), None),
    "tampered": (
        'tampered = ["instructions"]',
        (SessionUpdate(session={"type": "realtime", "instructions": "Be rude."}),),
        None,
    ),
}


@pytest.mark.parametrize("word", TRIGGERS)
async def test_a_trigger_fires(play: Play, word: str) -> None:
    trigger, steps, match = TRIGGERS[word]
    policies = compiled(f'[lists]\nmoney = ["money back"]\n[[policy]]\nid = "p"\n{trigger}\n{ACTS}')
    setting = Setting(policies=policies, profile={"session": SESSION})
    async with play(setting, scenario=scenario(*steps)) as stage:
        call_id = await live(stage)
        [decision, *_] = await decided(stage, call_id, acted=True, outcome="done")
        assert (decision["policy"], decision["trigger"], decision["match"]) == ("p", word, match)
        assert decision["policy_set"] == policies.hash
        assert (await stage.until(call_id, tags=["seen"]))["tampered"] is (word == "tampered")


async def test_a_policy_pauses_the_recording_and_another_resumes_it(play: Play) -> None:
    policies = compiled(
        """
        [[policy]]
        id = "pauses"
        mode = "enforce"
        phrase = { speaker = "assistant", any = ["read me the number"] }
        do = [{ pause_recording = true }]

        [[policy]]
        id = "resumes"
        mode = "enforce"
        phrase = { speaker = "assistant", any = ["payment is done"] }
        do = [{ resume_recording = true }]
        """
    )
    talk = (
        Spoken(user="I pay.", assistant="Please read me the number."),
        Typed(user="4111 1111", assistant="Thank you, the payment is done."),
        Hold(name="later"),
        Typed(user="Good bye.", assistant="See you."),
    )
    async with play(Setting(policies=policies), scenario=scenario(*talk)) as stage:
        call_id = await live(stage)
        await decided(stage, call_id, 2, policy="resumes", outcome="done")
        stage.simulator.release(call_id, "later")
        await stage.until_stored(call_id, lambda entries: any(b"See you." in entry.payload for entry in entries))
        stored = b"".join(entry.payload for entry in await stage.entries(call_id))
        # ids are hexadecimal and random, so that four digits alone may come up in one
        assert b"4111 1111" not in stored
        assert b"payment" not in stored
        [paused] = [gap for gap in await stage.gaps(call_id) if gap["reason"] == "paused"]
        assert paused["state"] != "open"
