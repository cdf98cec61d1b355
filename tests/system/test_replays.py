"""Replaying calls that were recorded live, over real sockets, gives the decisions that were recorded."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from rtobserver.clock import SystemClock
from rtobserver.policy import rules
from rtobserver.policy.rules import Limit, Policy, PolicySet
from rtobserver.settings import Settings
from rtobserver.simulator.scenario import Hold, Scenario, SessionUpdate, Spoken, ToolCall, Typed
from rtobserver.terminal.replaying import Rehearsal, Replayed, Side
from tests.support.stage import PATIENCE, Setting, Stage, serving, simulating
from tests.system.conftest import Play
from tests.system.ordering import live

PROMISE = "I give you your money back today and I will tell you more about that at great length, if you like."
MONEY = rules.Phrase(speaker="assistant", phrases=("your money back", "great length"))


def rule(id_: str, trigger: rules.Trigger, *actions: rules.Action, **values: Any) -> Policy:
    return Policy(id=id_, trigger=trigger, actions=actions, **({"mode": "enforce"} | values))


POLICIES = PolicySet(
    policies=(
        rule("money", MONEY, rules.CancelResponse(), rules.Say(text="There is no money back."), rules.Tag(tag="money")),
        rule("again", rules.Phrase(speaker="assistant", phrases=("money",)), rules.Tag(tag="again"), mode="observe"),
        rule("asks", rules.Regex(speaker="user", pattern="[Mm]oney"), rules.Tag(tag="asks"), limit=Limit(per_call=1)),
        rule("tagged", rules.On(types=("response.done",)), rules.Tag(tag="late"), when='"money" in call.tags'),
        rule("notice", rules.Absent(what=MONEY, within=0.5), rules.Tag(tag="no-notice")),
        rule(
            "old", rules.After(seconds=0.7), rules.CreateItem(item={"type": "message", "role": "user", "content": []})
        ),
        rule("used", rules.Usage(meter="total_tokens", at_least=Decimal(1)), rules.Tag(tag="used"), mode="canary"),
        rule("turn", rules.Turns(at_least=1), rules.MuteModel()),
        rule("tool", rules.Tool(name="*", arguments={}), rules.Tag(tag="tool")),
        rule("watch", rules.Tampered(keys=None), rules.RestoreSession()),
    ),
    hash="0123456789abcdef",
)
SCENARIOS: dict[str, tuple[Any, ...]] = {
    "a promise that is cancelled": (Spoken(user="I want my money.", assistant=PROMISE),),
    "two promises": (Spoken(user="Hello.", assistant=PROMISE), Spoken(user="And?", assistant=PROMISE)),
    "a tool": (ToolCall(),),
    "a session that changes": (
        Spoken(user="Hello.", assistant="Hi."),
        SessionUpdate(session={"type": "realtime", "instructions": "Be rude."}),
        Typed(user="Give me my money", assistant="Well."),
    ),
}


async def replayed(stage: Stage, policies: PolicySet = POLICIES) -> list[Replayed]:
    side = Side(Settings(stage.config, policies, ()))
    found: list[Replayed] = []
    await Rehearsal(side, None).run(stage.path, since=0, profile=None, limit=None, show=found.append)
    return found


@pytest.mark.parametrize("name", SCENARIOS)
async def test_a_replay_of_a_live_call_gives_what_was_decided_live(play: Play, name: str) -> None:
    scenario = Scenario(name="replays", steps=SCENARIOS[name])
    async with play(Setting(policies=POLICIES), scenario=scenario, pace=0.1) as stage:
        call_id = await stage.call()
        await stage.ended(call_id)
        [found] = await replayed(stage)
        assert found.changes == []
        recorded = await stage.decisions(call_id)
        told = [(each["policy"], each["position"], each["acted"]) for each in recorded]
        assert sorted((each.policy, str(each.position), each.acts) for each in found.after) == sorted(told)
        assert len(told) >= 3


WAITING = PolicySet(
    policies=(
        rule("typed", rules.On(types=("conversation.item.done",)), rules.Tag(tag="typed"), limit=Limit(per_call=1)),
        rule("once", rules.On(types=("response.done",)), rules.Tag(tag="once"), when='!("once" in call.tags)'),
        rule("soon", rules.After(seconds=0.3), rules.Tag(tag="soon")),
        rule("old", rules.After(seconds=1.5), rules.Tag(tag="old")),
        rule("notice", rules.Absent(what=MONEY, within=1.6), rules.Tag(tag="no-notice")),
        rule("idle", rules.Idle(seconds=0.6), rules.Say(text="Still there?")),
    ),
    hash="fedcba9876543210",
)


class Later(SystemClock):
    """Be a clock of which two seconds passed while nobody looked."""

    def now_us(self) -> int:
        return super().now_us() + 2_000_000


async def until_decided(stage: Stage, call_id: str, *policies: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while not set(policies) <= {each["policy"] for each in await stage.decisions(call_id)}:
            pass


async def test_a_replay_gives_what_was_decided_by_a_daemon_that_was_stopped_and_the_next_one(tmp_path: Path) -> None:
    talk = Scenario(name="restart", steps=(Typed(), Hold(name="again"), Typed(), Hold(name="over")))
    path, setting = tmp_path / "calls.db", Setting(policies=WAITING)
    async with simulating(scenario=talk) as simulator:
        async with serving(simulator, path, setting) as stage:
            call_id = await live(stage)
            await until_decided(stage, call_id, "typed", "once", "soon")
        async with serving(simulator, path, setting, clock=Later()) as stage:
            await until_decided(stage, call_id, "old", "notice")
            await stage.wait(lambda: bool(simulator.calls[call_id].open_sidebands))
            simulator.release(call_id, "again")
            await until_decided(stage, call_id, "idle")
            simulator.release(call_id, "over")
            await stage.ended(call_id)
            recorded = await stage.decisions(call_id)
            assert {each["policy"] for each in recorded if each["position"] == "2:1"} >= {"old", "notice"}
            [found] = await replayed(stage, WAITING)
            assert found.changes == []
            told = [(each["policy"], each["position"], each["acted"]) for each in recorded]
            assert sorted((each.policy, str(each.position), each.acts) for each in found.after) == sorted(told)
