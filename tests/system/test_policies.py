"""Policies that act in live calls: each action once, over real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from aiohttp import web

from rtobserver.config.sections import Seconds
from rtobserver.policy import rules
from rtobserver.policy.rules import Action, Policy, PolicySet, Trigger
from rtobserver.simulator.scenario import Frame, Hold, Idle, Scenario, SessionUpdate, Spoken, ToolCall, Typed
from tests.support.stage import PATIENCE, SESSION, Json, Setting, Stage, serving, simulating
from tests.support.watch import Watch
from tests.system.conftest import Play
from tests.system.ordering import live, sent, upstream_got

PROMISE = "I give you your money back today and I will tell you more about that at great length, if you like."
MONEY = rules.Phrase(speaker="assistant", phrases=("your money back",))
BEFORE = ("received_at", "matched_at", "sent_at", "acknowledged_at")


def policy(*actions: Action, trigger: Trigger = MONEY, id_: str = "p", **values: Any) -> Policy:
    return Policy(id=id_, trigger=trigger, actions=actions, **({"mode": "enforce"} | values))


def setting(*policies: Policy, **values: Any) -> Setting:
    return Setting(policies=PolicySet(policies=policies, hash="0123456789abcdef"), **values)


def scenario(*steps: Any, **values: Any) -> Scenario:
    return Scenario(name="policies", steps=(*steps, Idle()), **values)


def frame(event: Json) -> Frame:
    return Frame(text=json.dumps(event))


async def decided(stage: Stage, call_id: str, count: int = 1, **wanted: Any) -> list[Json]:
    """Wait until so many decisions stand, the last with these values."""
    found: list[Json] = []
    try:
        async with asyncio.timeout(PATIENCE):
            while len(found) < count or any(found[-1][name] != value for name, value in wanted.items()):
                found = (await stage.document(f"/api/v1/calls/{call_id}/decisions"))["data"]
    except TimeoutError:
        raise AssertionError(f"not {count} decisions with {wanted}: {found}") from None
    return found


# --- a forbidden phrase -------------------------------------------------------------------------


async def test_a_phrase_over_three_deltas_is_cancelled_and_its_sound_stopped(play: Play) -> None:
    # a model that would go on for long: what cancels it may be slow
    promise = f"{PROMISE} {'And there is more to tell. ' * 80}".strip()
    talk = scenario(Spoken(user="I want my money.", assistant=promise))
    async with play(setting(policy(rules.CancelResponse())), scenario=talk, pace=0.1) as stage:
        call_id = await live(stage)
        [decision] = await decided(stage, call_id, outcome="done")
        [cancel] = sent(stage, call_id, "response.cancel")
        [clear] = sent(stage, call_id, "output_audio_buffer.clear")
        assert cancel["response_id"] == decision["response_id"]
        times = [decision[name] for name in BEFORE]
        assert times == sorted(times)
        assert (decision["policy"], decision["match"], decision["acted"]) == ("p", "your money back", True)
        entries = await stage.entries(call_id)
        [began] = [each.fields["at"] for each in entries if each.type == "output_audio_buffer.started"]
        since = datetime.fromisoformat(decision["sent_at"]) - datetime.fromisoformat(began)
        assert 0 <= decision["played_ms"] <= since.total_seconds() * 1000 + 1
        [at] = [entry for entry in entries if f"{entry.position[0]}:{entry.position[1]}" == decision["position"]]
        assert at.body["delta"].strip() == "back"
        said = [entry.body["delta"] for entry in entries if (entry.type or "").endswith("audio_transcript.delta")]
        assert len(said) < len(promise.split())
        commands = {command["event_id"]: command for command in await stage.commands(call_id)}
        for event in (cancel, clear):
            row = commands[event["event_id"]]
            assert (row["source"], row["policy"], row["state"]) == ("policy", "p", "acknowledged")
            assert decision["sent_at"] <= row["sent_at"] <= row["acknowledged_at"]


async def test_a_second_response_that_plays_meanwhile_is_left_alone(play: Play) -> None:
    def response(id_: str, type_: str, status: str) -> Frame:
        told = {"id": id_, "status": status, "conversation_id": "conv_1", "output": []}
        return frame({"type": type_, "response": told})

    def said(delta: str) -> Frame:
        place = {"response_id": "resp_a", "item_id": "item_a", "output_index": 0, "content_index": 0}
        return frame({"type": "response.output_audio_transcript.delta", "delta": delta, **place})

    played = scenario(
        response("resp_a", "response.created", "in_progress"),
        frame({"type": "output_audio_buffer.started", "response_id": "resp_a"}),
        said("I give you your"),
        said(" money"),
        response("resp_b", "response.created", "in_progress"),
        frame({"type": "output_audio_buffer.started", "response_id": "resp_b"}),
        said(" back"),
        Hold(name="told"),
        frame({"type": "output_audio_buffer.started", "response_id": "resp_a"}),
    )
    async with play(setting(policy(rules.CancelResponse())), scenario=played) as stage:
        call_id = await live(stage)
        [cancel] = await upstream_got(stage, call_id, "response.cancel")
        assert cancel["response_id"] == "resp_a"
        assert not sent(stage, call_id, "output_audio_buffer.clear")
        # when the first is heard again, it is what plays, and the same decision stops it
        stage.simulator.release(call_id, "told")
        [clear] = await upstream_got(stage, call_id, "output_audio_buffer.clear")
        [decision] = await decided(stage, call_id)
        [command] = [row for row in await stage.commands(call_id) if row["event_id"] == clear["event_id"]]
        assert command["policy"] == decision["policy"]


async def test_a_policy_that_only_observes_sends_nothing(play: Play) -> None:
    watches = policy(rules.CancelResponse(), rules.Tag(tag="money"), mode="observe")
    async with play(setting(watches), scenario=scenario(Spoken(assistant=PROMISE))) as stage:
        call_id = await live(stage)
        [decision] = await decided(stage, call_id, outcome="observed")
        assert (decision["acted"], decision["sent_at"]) == (False, None)
        assert decision["actions"] == ["cancel_response", "tag"]
        assert not sent(stage, call_id)
        assert (await stage.row(call_id))["tags"] == []


# --- words, items, the session ------------------------------------------------------------------


async def test_other_words_are_said_instead(play: Play) -> None:
    says = policy(rules.CancelResponse(), rules.Say(text="Let me ask a colleague."), rules.Tag(tag="money"))
    async with play(setting(says), scenario=scenario(Spoken(assistant=PROMISE)), pace=0.05) as stage:
        call_id = await live(stage)
        [decision] = await decided(stage, call_id, outcome="done")
        [create] = sent(stage, call_id, "response.create")
        assert create["response"]["metadata"] == {"rtobserver": "p"}
        lines = await stage.until_stored(
            call_id, lambda entries: any(entry.type == "response.output_audio_transcript.done" for entry in entries)
        )
        said = [entry.body["transcript"] for entry in lines if entry.type == "response.output_audio_transcript.done"]
        assert said[-1] == "Let me ask a colleague."
        assert (await stage.until(call_id, tags=["money"]))["status"] == "live"
        assert decision["actions"] == ["cancel_response", "say", "tag"]


async def test_items_are_added_and_taken_away_and_events_sent(play: Play) -> None:
    typed = rules.On(types=("conversation.item.done",))
    first = rules.Limit(per_call=1)
    item = {"type": "message", "role": "system", "content": [{"type": "input_text", "text": "Be careful."}]}
    policies = (
        policy(rules.CreateItem(item=item), trigger=typed, id_="adds", limit=first),
        policy(rules.DeleteItem(item_id=None), trigger=typed, id_="deletes", limit=first),
        policy(rules.Send(event={"type": "input_audio_buffer.clear"}), trigger=typed, id_="sends", limit=first),
    )
    async with play(setting(*policies), scenario=scenario(Typed())) as stage:
        call_id = await live(stage)
        found = await decided(stage, call_id, 3)
        assert [each["policy"] for each in found] == ["adds", "deletes", "sends"]
        for each in found:
            [now] = [row for row in await decided(stage, call_id, 3, outcome="done") if row["policy"] == each["policy"]]
            assert now["outcome"] == "done"
        [create] = sent(stage, call_id, "conversation.item.create")
        assert create["item"] == {"id": create["event_id"], **item}
        [delete] = sent(stage, call_id, "conversation.item.delete")
        assert delete["item_id"] == found[1]["item_id"]
        assert (await stage.row(call_id))["tampered"] is False


async def test_the_session_is_changed_and_the_model_muted_and_unmuted(play: Play) -> None:
    typed = rules.On(types=("conversation.item.done",))
    policies = (
        policy(rules.UpdateSession(session={"instructions": "Be brief."}), trigger=typed, id_="updates"),
        policy(rules.MuteModel(), trigger=typed, id_="mutes"),
        policy(rules.UnmuteModel(), trigger=rules.On(types=("response.done",)), id_="unmutes"),
    )
    detection = {"type": "server_vad", "threshold": 0.7}
    minted = {**SESSION, "audio": {"input": {"turn_detection": detection}}}
    limited = [replace(each, limit=rules.Limit(per_call=1)) for each in policies]
    async with play(setting(*limited, profile={"session": minted}), scenario=scenario(Typed())) as stage:
        call_id = await live(stage)
        await upstream_got(stage, call_id, "session.update", 3)
        updates = [event["session"] for event in sent(stage, call_id, "session.update")]
        found = [update.get("audio", {}).get("input", {}).get("turn_detection") for update in updates]
        assert found == [None, {**detection, "create_response": False}, {**detection, "create_response": True}]
        await decided(stage, call_id, 3, outcome="done")
        session = stage.simulator.calls[call_id].session
        assert session["instructions"] == "Be brief."
        assert session["audio"]["input"]["turn_detection"]["threshold"] == 0.7
        assert (await stage.row(call_id))["tampered"] is False


async def test_a_page_that_overwrites_the_session_is_restored_and_at_last_hung_up(play: Play) -> None:
    keeps = policy(rules.RestoreSession(), rules.HangUp(), trigger=rules.Tampered(keys=None))
    overwrites = [
        step
        for number in range(4)
        for step in (SessionUpdate(session={"instructions": f"{number}"}), Hold(name=f"go {number}"))
    ]
    async with play(setting(keeps), scenario=scenario(*overwrites)) as stage:
        call_id = await live(stage)
        for number in range(1, 4):
            await upstream_got(stage, call_id, "session.update", number)
            await decided(stage, call_id, number, outcome="done")
            assert stage.simulator.calls[call_id].session["instructions"] == "Be kind."
            stage.simulator.release(call_id, f"go {number - 1}")
        row = await stage.ended(call_id, "policy")
        assert row["tampered"] is True
        assert len(sent(stage, call_id, "session.update")) == 3


# --- the call and its recording -----------------------------------------------------------------


async def test_a_call_that_grew_too_old_is_ended_with_a_goodbye(play: Play) -> None:
    ends = policy(rules.HangUp(goodbye="Goodbye.", after=5.0), trigger=rules.After(seconds=0.2))
    async with play(setting(ends)) as stage:
        call_id = await stage.call()
        await stage.ended(call_id, "policy")
        [create] = sent(stage, call_id, "response.create")
        assert "Goodbye." in create["response"]["instructions"]
        [decision] = await decided(stage, call_id, outcome="done")
        assert decision["trigger"] == "after"
        [hang_up] = [row for row in await stage.commands(call_id) if row["type"] == "hangup"]
        assert (hang_up["source"], hang_up["policy"]) == ("policy", "p")


async def test_what_is_said_after_a_policy_paused_the_recording_is_not_stored(play: Play) -> None:
    talk = scenario(Spoken(user="Here is my card.", assistant="Please read me the number."), Typed(user="4111 1111"))
    asks = rules.Phrase(speaker="assistant", phrases=("the number",))
    policies = (
        policy(rules.PauseRecording(), trigger=asks, id_="pauses"),
        policy(
            rules.Webhook(id="crm"),
            trigger=rules.Phrase(speaker="user", phrases=("4111 1111",)),
            id_="tells",
        ),
    )
    async with play(setting(*policies), scenario=talk) as stage:
        call_id = await live(stage)
        found = await decided(stage, call_id, 2)
        assert [(each["policy"], each["match"]) for each in found] == [("pauses", "the number"), ("tells", None)]
        assert b"4111 1111" not in b"".join(await stage.events(call_id))
        assert any(gap["reason"] == "paused" for gap in await stage.gaps(call_id))


# --- tools --------------------------------------------------------------------------------------


@asynccontextmanager
async def tool(status: int = 200) -> AsyncIterator[tuple[str, list[Json]]]:
    """Run an endpoint; gives its address, and what it was asked."""
    asked: list[Json] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(await request.json())
        return web.Response(status=status, text="clear skies")

    app = web.Application()
    app.router.add_post("/weather", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        yield f"http://127.0.0.1:{port}/weather", asked
    finally:
        await runner.cleanup()


CALLS = rules.Tool(name="get_weather", arguments={})


async def test_a_function_call_is_answered_by_an_endpoint(play: Play) -> None:
    async with tool() as (url, asked):
        answers = policy(rules.AnswerTool(url=url), trigger=CALLS)
        async with play(setting(answers), scenario=scenario(ToolCall(output=""))) as stage:
            call_id = await live(stage)
            [decision] = await decided(stage, call_id, outcome="done")
            [create] = sent(stage, call_id, "conversation.item.create")
            assert create["item"]["output"] == "clear skies"
            assert len(sent(stage, call_id, "response.create")) == 1
            assert asked == [
                {
                    "call_id": call_id,
                    "function_call_id": create["item"]["call_id"],
                    "name": "get_weather",
                    "arguments": {"city": "Oslo"},
                }
            ]
            assert decision["actions"] == ["answer_tool"]
            assert (await stage.row(call_id))["tampered"] is False


async def test_an_endpoint_that_fails_leaves_an_output_that_says_so(play: Play) -> None:
    async with tool(500) as (url, asked):
        answers = policy(rules.AnswerTool(url=url), trigger=CALLS)
        async with play(setting(answers), scenario=scenario(ToolCall(output=""))) as stage:
            call_id = await live(stage)
            [decision] = await decided(stage, call_id, outcome="failed")
            [create] = sent(stage, call_id, "conversation.item.create")
            assert "error" in json.loads(create["item"]["output"])
            assert "500" in decision["detail"]
            assert len(asked) == 1


async def test_an_endpoint_that_hangs_holds_up_neither_call_nor_drain_and_the_next_run_says_so(tmp_path: Path) -> None:
    asked = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await reader.read()  # until whoever asked has gone
        writer.close()

    async with (
        await asyncio.start_server(hang, "127.0.0.1", 0) as server,
        simulating(scenario=scenario(ToolCall(output="", patience=0.1), Typed())) as simulator,
    ):
        port = server.sockets[0].getsockname()[1]
        answers = policy(rules.AnswerTool(url=f"http://127.0.0.1:{port}/", timeout=30.0), trigger=CALLS)
        async with serving(simulator, tmp_path / "calls.db", setting(answers)) as stage:
            call_id = await live(stage)
            await asked.wait()
            await stage.until_stored(call_id, lambda found: sum(each.type == "response.done" for each in found) >= 2)
            [decision] = await decided(stage, call_id)
            assert (decision["acted"], decision["outcome"]) == (True, None)
            watch = Watch()
        assert watch.seconds() < 5
        assert stage.select("SELECT acted, outcome FROM decision") == [(1, None)]
        async with serving(simulator, tmp_path / "calls.db", setting(answers)) as stage:
            await stage.until(call_id, status="live")
            [decision] = await decided(stage, call_id, outcome="failed")
            outputs = [event["item"] for event in await upstream_got(stage, call_id, "conversation.item.create")]
            assert [item["type"] for item in outputs] == ["function_call_output"]


# --- restarts -----------------------------------------------------------------------------------


async def test_limits_the_session_and_decisions_outlive_a_restart(tmp_path: Path) -> None:
    once = policy(rules.Tag(tag="typed"), trigger=rules.On(types=("conversation.item.done",)), id_="once")
    once = replace(once, limit=rules.Limit(per_call=1))
    keeps = policy(rules.RestoreSession(), trigger=rules.Tampered(keys=("instructions",)), id_="keeps")
    talk = scenario(
        Typed(), Hold(name="again"), Typed(), SessionUpdate(session={"instructions": "Be rude."}), Hold(name="stay")
    )
    chosen = setting(once, keeps, profile={"max_duration": Seconds(0.0)})
    async with simulating(scenario=talk) as simulator:
        async with serving(simulator, tmp_path / "calls.db", chosen) as stage:
            call_id = await live(stage)
            await decided(stage, call_id, 1, outcome="done")
        async with serving(simulator, tmp_path / "calls.db", chosen) as stage:
            await stage.until_stored(call_id, lambda found: any(entry.position[0] == 2 for entry in found))
            await stage.wait(lambda: bool(simulator.calls[call_id].sidebands))
            simulator.release(call_id, "again")
            found = await decided(stage, call_id, 2, outcome="done")
            assert [each["policy"] for each in found] == ["once", "keeps"]
            assert found[1]["position"].startswith("2:")
            [update] = sent(stage, call_id, "session.update")
            assert update["session"]["instructions"] == "Be kind."


async def test_the_rate_over_all_calls_outlives_a_restart(tmp_path: Path) -> None:
    typed = policy(rules.Tag(tag="typed"), trigger=rules.On(types=("conversation.item.done",)), id_="typed")
    typed = replace(typed, limit=rules.Limit(per_minute=2))
    talk = scenario(Typed(), Hold(name="again"), Typed(), Hold(name="stay"))
    chosen = setting(typed, profile={"max_duration": Seconds(0.0)})
    async with simulating(scenario=talk) as simulator:
        async with serving(simulator, tmp_path / "calls.db", chosen) as stage:
            call_id = await live(stage)
            await decided(stage, call_id, 2, outcome="done")
        async with serving(simulator, tmp_path / "calls.db", chosen) as stage:
            await stage.until_stored(call_id, lambda found: any(entry.position[0] == 2 for entry in found))
            await stage.wait(lambda: bool(simulator.calls[call_id].sidebands))
            simulator.release(call_id, "again")
            # what the user typed and what the model answered were one each
            found = await decided(stage, call_id, 3, outcome="observed")
            assert [each["acted"] for each in found[:3]] == [True, True, False]
