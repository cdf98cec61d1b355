"""Policies that reach addresses of the configuration: tools' endpoints and webhooks, good ones and others."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from standardwebhooks import Webhook as Verifier
from structlog.testing import capture_logs

from rtobserver.config.sections import Secret, Webhook
from rtobserver.policy import rules
from rtobserver.policy.rules import After, AnswerTool, On, Policy, PolicySet, Tag, Tool, UpdateSession
from rtobserver.simulator.scenario import Scenario, ToolCall
from tests.support.stage import PATIENCE, Json, Setting, Stage
from tests.system.conftest import Play
from tests.system.ordering import sent
from tests.upstream.raw_peer import Peer, answer, cut, peer, silence
from tests.web.wire import until

SECRET = "any text"
ASKING = Scenario(name="asking", steps=(ToolCall(output=""),), ending="stay")
"""The page has no answer of its own."""
OK = b"HTTP/1.1 200 OK\r\n"


def answering(endpoint: Peer, timeout: float = PATIENCE, **more: Any) -> PolicySet:
    action = AnswerTool(url=endpoint.url, timeout=timeout, **more)
    policy = Policy(id="answers", trigger=Tool(name="*", arguments={}), actions=(action,), mode="enforce")
    return PolicySet(policies=(policy,), hash="0123456789abcdef")


async def settled(stage: Stage, call_id: str) -> Json:
    """Wait until the one decision of a call has an outcome."""
    async with asyncio.timeout(PATIENCE):
        while True:
            for decision in await stage.decisions(call_id):
                if decision["outcome"] is not None:
                    return decision


def outputs(stage: Stage, call_id: str) -> list[Json]:
    items = [event["item"] for event in sent(stage, call_id, "conversation.item.create")]
    return [item for item in items if item["type"] == "function_call_output"]


async def test_a_tools_endpoint_answers_for_the_page(play: Play) -> None:
    async with peer() as endpoint:
        endpoint.will(answer(200, b'{"sky": "blue"}', [("Content-Type", "application/json")]))
        setting = Setting(policies=answering(endpoint, secret=Secret(SECRET)))
        async with play(setting, scenario_for=lambda _id, _number: ASKING) as stage:
            call_id = await stage.call()
            decision = await settled(stage, call_id)
            [output] = outputs(stage, call_id)
    assert (decision["outcome"], decision["actions"], decision["acted"]) == ("done", ["answer_tool"], True)
    assert output["output"] == '{"sky": "blue"}'
    [asked] = endpoint.asked
    question = Verifier(SECRET.encode()).verify(asked.body, asked.headers)
    assert (question["call_id"], question["function_call_id"]) == (call_id, output["call_id"])
    assert isinstance(question["arguments"], dict)


@pytest.mark.parametrize(
    ("step", "detail"),
    [
        pytest.param(silence, "no whole answer within 0.5 s", id="hangs"),
        pytest.param(answer(500, b"{}"), "the answer was 500", id="500"),
        pytest.param(answer(302, headers=[("Location", "/")]), "redirect", id="redirect"),
        pytest.param(answer(200, b"x" * 10_000_000), "longer than 64 KiB", id="10 MB"),
        pytest.param(answer(200, b"<html>", [("Content-Type", "text/html")]), "a web page", id="HTML"),
        pytest.param(answer(200, b"\xff\xfe"), "not text in UTF-8", id="no UTF-8"),
        pytest.param(cut(OK + b"Content-Length: 9\r\n\r\nx"), "broke off", id="half an answer"),
    ],
)
async def test_an_endpoint_that_fails_is_asked_once_and_the_call_goes_on(play: Play, step: Any, detail: str) -> None:
    async with peer() as endpoint:
        endpoint.will(step)
        # one that answers has the time that it takes
        policies = answering(endpoint, 0.5 if step is silence else PATIENCE)
        async with play(Setting(policies=policies), scenario_for=lambda _id, _number: ASKING) as stage:
            call_id = await stage.call()
            decision = await settled(stage, call_id)
            await stage.until(call_id, status="live")
            assert len(outputs(stage, call_id)) == 1
            assert len(sent(stage, call_id, "response.create")) <= 1
            assert await stage.hang_up(call_id) in (200, 204, 404)
            [told] = (await stage.document("/api/v1/policies"))["policies"]
    assert decision["outcome"] == "failed"
    assert detail in decision["detail"]
    # where nothing is answered, half a second may be over before the question has left
    assert len(endpoint.asked) == 1 or (step is silence and not endpoint.asked)
    assert told["counts"]["decisions"] == 1


async def test_a_webhook_is_told_what_was_decided_and_figures_count_it(play: Play) -> None:
    watching = Policy(
        id="watching",
        trigger=After(seconds=0.05),
        actions=(rules.Webhook(id="alerts"), Tag(tag="seen")),
        mode="enforce",
    )
    quiet = Policy(id="quiet", trigger=After(seconds=0.05), actions=(Tag(tag="no"),))
    async with peer() as endpoint:
        endpoint.will(answer(503), answer(204))
        setting = Setting(
            policies=PolicySet(policies=(watching, quiet), hash="0123456789abcdef"),
            webhooks=(Webhook(id="alerts", url=endpoint.url, secret=Secret(SECRET)),),
        )
        async with play(setting) as stage:
            call_id = await stage.call()
            await stage.until(call_id, tags=["seen"])
            await until(lambda: len(endpoint.asked) == 2)
            _, figures = await stage.get("/metrics")
            first, second = (await stage.document("/api/v1/policies"))["policies"]
            [tagged] = await stage.calls("&tag=seen")
            assert await stage.calls("&policy=quiet") == [tagged]
            assert await stage.calls("&tag=no") == []
            groups = (await stage.document("/api/v1/stats?group_by=policy"))["data"]
    one, other = endpoint.asked
    assert one.headers["webhook-id"] == other.headers["webhook-id"]
    told = Verifier(SECRET.encode()).verify(other.body, other.headers)
    assert told["data"]["call_id"] == call_id
    assert told["data"]["policy"] == "watching"
    assert first["counts"] == {"decisions": 1, "acted": 1, "would_have_acted": 0, "faults": 0}
    assert second["counts"] == {"decisions": 1, "acted": 0, "would_have_acted": 1, "faults": 0}
    assert (first["matched"], second["matched"]) == (1, 1)
    assert [(group["group"], group["call_count"]) for group in groups] == [("quiet", 1), ("watching", 1)]
    text = figures.decode()
    assert 'rtobserver_policy_decisions_total{acted="yes",mode="enforce",policy="watching"} 1.0' in text
    assert 'rtobserver_policy_decisions_total{acted="no",mode="observe",policy="quiet"} 1.0' in text
    assert 'rtobserver_webhook_failures_total{webhook="alerts"} 1.0' in text


async def test_limits_and_reactions_are_counted_too(play: Play) -> None:
    strict = Policy(
        id="strict",
        trigger=On(types=("response.*",)),
        actions=(UpdateSession(session={"type": "realtime", "instructions": "Be brief."}),),
        mode="enforce",
        limit=rules.Limit(per_call=1),
    )
    setting = Setting(policies=PolicySet(policies=(strict,), hash="0123456789abcdef"))
    async with play(setting, scenario="default", pace=0.05) as stage:
        call_id = await stage.call()
        await stage.ended(call_id)
        _, figures = await stage.get("/metrics")
        [told] = (await stage.document("/api/v1/policies"))["policies"]
        [decision] = await stage.decisions(call_id)
    assert told["counts"]["acted"] == 1
    assert told["matched"] == told["limited"] + 1 > 10
    assert (decision["outcome"], decision["actions"]) == ("done", ["update_session"])
    times = [decision[name] for name in ("received_at", "matched_at", "sent_at", "acknowledged_at")]
    assert times == sorted(times)
    assert "rtobserver_reaction_seconds_count 1.0" in figures.decode()


async def demoted(play: Play, setting: Setting) -> tuple[list[str], Json, bytes]:
    """Place four calls under one policy; gives the modes it decided in, how it stands, and the figures."""
    async with play(setting) as stage:
        modes = [(await settled(stage, await stage.call()))["mode"] for _ in range(4)]
        _, figures = await stage.get("/metrics")
        [told] = (await stage.document("/api/v1/policies"))["policies"]
    return modes, told, figures


async def test_a_policy_beyond_its_rate_is_demoted_with_an_alarm(play: Play) -> None:
    eager = Policy(
        id="eager",
        trigger=After(seconds=0.05),
        actions=(Tag(tag="eager"),),
        mode="enforce",
        limit=rules.Limit(per_minute=2),
    )
    setting = Setting(policies=PolicySet(policies=(eager,), hash="0123456789abcdef"))
    with capture_logs() as logs:
        modes, told, figures = await demoted(play, setting)
    assert [line["policy"] for line in logs if line["event"] == "policy_demoted"] == ["eager"]
    assert modes == ["enforce", "enforce", "observe", "observe"]
    assert told["demoted_at"] is not None
    assert told["counts"] == {"decisions": 4, "acted": 2, "would_have_acted": 2, "faults": 0}
    assert 'rtobserver_policy_demotions_total{policy="eager"} 1.0' in figures.decode()
