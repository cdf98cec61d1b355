from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rtobserver.errors import ConfigError, Mistake
from rtobserver.policy.rules import CancelResponse, Limit, On, Phrase, Policy, PolicySet, Say, Tag, Turns
from rtobserver.store import tables
from tests.store.stored import call
from tests.store.test_tallies import decision
from tests.web.operator_stage import Stage, settings, stage

HOUR = 3_600_000_000

REFUND = Policy(
    id="refund",
    trigger=Phrase(speaker="assistant", phrases=("refund",)),
    actions=(CancelResponse(), Say(text="One moment."), Tag(tag="refund")),
    mode="canary",
    canary_percent=25,
    profiles=("support",),
    when="call.turn_count > 1",
    limit=Limit(per_call=2, cooldown=20.0, consecutive=1, per_minute=1),
)
LONG = Policy(id="long", trigger=Turns(at_least=50), actions=(Tag(tag="long"),), mode="enforce")
POLICIES = PolicySet(policies=(REFUND, LONG), hash="00112233aabbccdd")


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Stage]:
    async with stage(tmp_path, POLICIES) as opened:
        yield opened


async def read(api: Stage, query: str = "") -> Any:
    answer = await api.get(f"/api/v1/policies{query}")
    assert answer.status == 200, answer.body
    return answer.json


def decide(api: Stage, *rows: dict[str, Any]) -> None:
    began = api.clock.now_us() - HOUR
    api.insert(tables.call, call("rtc_1", started_at=began), call("rtc_2", started_at=began))
    own = {"day": call("rtc_1", started_at=began)["day"], "received_at": began, "matched_at": began}
    api.insert(
        tables.decision, *[row | {**own, **later} for row, later in ((row, row.pop("more", {})) for row in rows)]
    )


async def test_the_set_in_force_is_told_policy_by_policy(api: Stage) -> None:
    found = await read(api)
    assert found["policy_set"] == "00112233aabbccdd"
    assert found["loaded_at"] > "2026-01-01"
    assert found["last_reload"] is None
    refund, long = found["policies"]
    assert refund == {
        "id": "refund",
        "mode": "canary",
        "canary_percent": 25,
        "demoted_at": None,
        "profiles": ["support"],
        "trigger": "phrase",
        "waits_for": "assistant says 'refund'",
        "when": "call.turn_count > 1",
        "limit": {"per_call": 2, "cooldown_seconds": 20.0, "consecutive": 1, "per_minute": 1},
        "actions": ["cancel_response", "say", "tag"],
        "rule": {
            "trigger": {"phrase": {"speaker": "assistant", "phrases": ["refund"], "whole": False}},
            "do": [{"cancel_response": True}, {"say": {"text": "One moment."}}, {"tag": {"tag": "refund"}}],
        },
        "last_minute": 0,
        "counts": {"decisions": 0, "acted": 0, "would_have_acted": 0, "faults": 0},
        "matched": 0,
        "limited": 0,
        "last_decision_at": None,
        "last_decision": None,
        "last_faults": [],
    }
    assert (long["id"], long["mode"], long["canary_percent"], long["profiles"]) == ("long", "enforce", None, [])
    assert (long["trigger"], long["when"], long["actions"]) == ("turns", None, ["tag"])


async def test_files_are_told_as_seen_from_the_main_one(api: Stage) -> None:
    assert (await read(api))["files"] == []
    files = (Path("/a/config.toml"), Path("/a/policies/refund.toml"), Path("/b/more.toml"))
    api.reloads.settings = replace(api.reloads.settings, files=files)
    assert (await read(api))["files"] == ["config.toml", "policies/refund.toml", "/b/more.toml"]


async def test_decisions_are_counted_from_the_store(api: Stage) -> None:
    fault_of = decision("rtc_2", 3, "refund", outcome="fault", detail="there is no `event.item`")
    decide(
        api,
        decision("rtc_1", 1, "refund"),
        decision("rtc_1", 2, "refund", mode="enforce", acted=True, outcome="done"),
        {**fault_of, "more": {"received_at": api.clock.now_us() - HOUR // 2}},
    )
    refund, long = (await read(api))["policies"]
    assert refund["counts"] == {"decisions": 3, "acted": 1, "would_have_acted": 1, "faults": 1}
    [fault] = refund["last_faults"]
    assert (fault["call_id"], fault["position"], fault["detail"]) == ("rtc_2", "1:3", "there is no `event.item`")
    assert fault["at"] == refund["last_decision_at"]
    assert refund["last_decision"] == {"call_id": "rtc_2", "position": "1:3"}
    assert long["counts"]["decisions"] == 0


async def test_counts_are_of_the_last_day_or_of_the_time_that_is_asked_for(api: Stage) -> None:
    old = {"received_at": api.clock.now_us() - 30 * HOUR}
    decide(api, {**decision("rtc_1", 1, "refund"), "more": old}, decision("rtc_1", 2, "refund"))
    assert (await read(api))["policies"][0]["counts"]["decisions"] == 1
    assert (await read(api, "?since=2d"))["policies"][0]["counts"]["decisions"] == 2
    soon = await read(api, "?since=1m")
    assert soon["policies"][0]["counts"]["decisions"] == 0
    assert soon["policies"][0]["last_decision_at"] is not None
    assert (await api.get("/api/v1/policies?since=soon")).code == "invalid_parameter"


async def test_a_demoted_policy_says_since_when(api: Stage) -> None:
    told: list[tuple[str, int]] = []
    api.active.demoted = lambda policy, at: told.append((policy.id, at))
    now = api.clock.now_us()
    assert [api.active.admit(REFUND, now) for _ in range(3)] == [True, False, False]
    assert (await read(api))["policies"][0]["last_minute"] == 1
    api.clock.ahead = 61
    assert (await read(api))["policies"][0]["last_minute"] == 0
    assert told == [("refund", now)]
    refund = (await read(api))["policies"][0]
    assert (refund["mode"], refund["demoted_at"] is not None) == ("canary", True)
    await api.reloads.reload("signal")
    assert (await read(api))["policies"][0]["demoted_at"] is None


async def test_a_good_reload_is_told_and_so_is_its_set(api: Stage) -> None:
    before = (await read(api))["loaded_at"]
    other = Policy(id="other", trigger=On(types=("error",)), actions=(Tag(tag="e"),))
    api.files.found = settings(PolicySet(policies=(other,), hash="ffffffffffffffff"))
    assert await api.reloads.reload("files")
    found = await read(api)
    assert [each["id"] for each in found["policies"]] == ["other"]
    assert found["policy_set"] == "ffffffffffffffff"
    assert found["loaded_at"] > before
    assert found["last_reload"]["ok"] is True
    assert found["last_reload"]["mistakes"] == []


async def test_a_reload_with_mistakes_keeps_the_set_and_names_them_all(api: Stage) -> None:
    before = await read(api)
    mistakes = [
        Mistake("policy[0].on", "must be a text or a list of texts", 'write on = "error"', "policies/a.toml"),
        Mistake("policy[3]", "has no trigger", "", "config.toml"),
    ]
    api.files.found = ConfigError(mistakes)
    assert not await api.reloads.reload("files")
    found = await read(api)
    last = found.pop("last_reload")
    assert last["ok"] is False
    assert last["mistakes"] == [
        {
            "file": "policies/a.toml",
            "path": "policy[0].on",
            "problem": "must be a text or a list of texts",
            "help": 'write on = "error"',
        },
        {"file": "config.toml", "path": "policy[3]", "problem": "has no trigger", "help": ""},
    ]
    for name in ("policy_set", "loaded_at", "policies"):
        assert found[name] == before[name]


async def test_a_reader_of_the_policies_is_audited(api: Stage) -> None:
    await read(api)
    admin = api.make_key("admin")
    found = (await api.get("/api/v1/audit?action=policies.get", key=admin)).json["data"]
    assert [row["status"] for row in found] == [200]


async def test_calls_are_found_by_what_policies_did_with_them(api: Stage) -> None:
    began = api.clock.now_us()
    api.insert(
        tables.call,
        call("rtc_1", started_at=began, tags=["refund"], tampered=True, status="ended", ended_at=began + HOUR),
        call("rtc_2", started_at=began + 1),
        call("rtc_3", started_at=began + 2, tags=["long", "refund"]),
    )
    day = call("rtc_1", started_at=began)["day"]
    api.insert(
        tables.decision,
        decision("rtc_1", 1, "refund", day=day, acted=True, mode="enforce", outcome="done"),
        decision("rtc_1", 2, "refund", day=day),
        decision("rtc_3", 1, "refund", day=day),
        decision("rtc_3", 1, "long", day=day),
    )

    async def ids(query: str) -> list[str]:
        return [row["call_id"] for row in (await api.get(f"/api/v1/calls?{query}")).json["data"]]

    assert await ids("policy=refund") == ["rtc_3", "rtc_1"]
    assert await ids("policy=long") == ["rtc_3"]
    assert await ids("tag=refund") == ["rtc_3", "rtc_1"]
    assert await ids("tag=refund&tag=long") == ["rtc_3"]
    assert await ids("has=tampered") == ["rtc_1"]
    assert await ids("has=tampered&policy=long") == []
    groups = (await api.get("/api/v1/stats?group_by=policy")).json["data"]
    assert [(group["group"], group["call_count"]) for group in groups] == [("long", 1), ("refund", 2)]
