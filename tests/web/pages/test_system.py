from __future__ import annotations

from collections.abc import AsyncIterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from rtobserver.outbound import HookState
from rtobserver.store import keys, tables
from rtobserver.web.pages.rendering import DASH
from rtobserver.web.pages.system import sections_of
from tests.store.stored import call, ref
from tests.web.operator_stage import Stage, stage


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Stage]:
    async with stage(tmp_path) as opened:
        yield opened


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []

    def handle_data(self, data: str) -> None:
        self.words.append(data)


async def text_of(api: Stage, *, key: str | None = None, **headers: str) -> str:
    answer = await api.get("/system", key=key, **headers)
    assert answer.status == 200
    parser = _Text()
    parser.feed(answer.body.decode())
    return " ".join(" ".join(parser.words).split())


async def test_the_verdict_stands_on_top_and_is_that_of_readyz(api: Stage) -> None:
    assert "Recording works. No offer came yet." in await text_of(api)
    api.facts.degraded, api.facts.since = ["the disk is full"], 1_763_900_000_000_000
    told = await text_of(api)
    assert "This daemon works, but not all is well." in told
    assert "the disk is full, since 2025-11-23 12:13:20 UTC" in told
    api.facts.broken = ["the recorder has stopped"]
    assert "Calls cannot be taken or recorded. the recorder has stopped" in await text_of(api)
    api.facts.draining = True
    assert "This daemon is stopping" in await text_of(api)


async def test_the_verdict_claims_of_negotiation_only_what_offers_have_shown(api: Stage) -> None:
    api.metrics.calls_negotiated.labels("refused").inc()
    assert "Recording works. No offer has got through yet." in await text_of(api)
    api.metrics.calls_negotiated.labels("answered").inc()
    assert "Recording and negotiation work." in await text_of(api)


async def test_gaps_lead_to_their_calls_and_hostile_names_stay_text(api: Stage) -> None:
    now = api.clock.now_us()
    api.insert(tables.call, call("rtc_1", started_at=now))
    gap = {
        "call_key": ref("rtc_1").key,
        "day": ref("rtc_1", now).day,
        "epoch": 1,
        "seq": 9,
        "from_at": now,
        "to_at": None,
        "reason": "reattach",
        "state": "open",
        "after": "1:8",
        "lost": None,
        "lost_by_type": "{}",
        "counted": True,
    }
    api.insert(tables.gap, gap)
    api.facts.webhooks = [HookState("<script>alert(1)</script>", 3, now, True)]
    body = (await api.get("/system")).body.decode()
    assert '<a class="mono" href="/calls/rtc_1#1:8">rtc_1</a>' in body
    assert "&lt;script&gt;alert(1)" in body
    assert "<script>alert(1)" not in body


async def test_keys_and_audit_are_for_those_who_may_see_them(api: Stage) -> None:
    seen = await text_of(api)
    assert "API keys" not in seen
    assert "Audit" not in seen
    admin = api.make_key("admin")
    seen = await text_of(api, key=admin)
    assert "API keys" in seen
    assert "pages.system" in seen
    assert admin not in seen


async def test_what_turns_the_direction_of_a_text_is_shown_in_the_names_of_keys(api: Stage) -> None:
    keys.create(api.path, name="live\u202eevil\u2066", scopes=["read"], now_us=api.clock.now_us())
    assert "live[RLO]evil[LRI]" in await text_of(api, key=api.make_key("admin"))


async def test_a_page_that_stands_open_writes_one_row_a_minute_into_the_audit(api: Stage) -> None:
    for _ in range(3):
        await text_of(api, HX_Request="true")
    admin = api.make_key("admin")
    deeds = "/api/v1/audit?action=pages.system"
    assert len((await api.get(deeds, key=admin)).json["data"]) == 1
    api.clock.ahead += 61
    await text_of(api)
    assert len((await api.get(deeds, key=admin)).json["data"]) == 2


async def test_what_is_reloaded_is_the_figures_alone(api: Stage) -> None:
    part = await api.get("/system", HX_Request="true")
    assert b"Recording works." in part.body
    assert b"<html" not in part.body
    assert b"Configuration" not in part.body


async def test_a_database_that_refuses_to_write_does_not_keep_the_verdict_from_anybody(api: Stage) -> None:
    api.facts.degraded = ["the disk is full"]
    api.metrics.store_failing.set(1)
    seen = await text_of(api)
    assert "the disk is full" in seen
    assert "refuses to write" in seen
    assert "this page has only what the daemon itself knows" in seen
    # what recordings hold is not shown without its row in the audit
    assert "Gaps of the last day" not in seen


def test_settings_say_whether_they_are_set_and_objects_stay_whole() -> None:
    config = {
        "public": {"port": 9000, "host": "127.0.0.1", "auth": {"mode": "none", "label_claims": []}},
        "profile": [{"name": "a", "session": {"model": "m"}}],
        "webhook": [],
    }
    public, profile = sections_of(config, frozenset({"public.port", "profile.0.name", "profile.0.session"}))
    assert [(each.name, each.value, each.is_set) for each in public.settings] == [
        ("port", "9000", True),
        ("host", "127.0.0.1", False),
        ("auth.mode", "none", False),
        ("auth.label_claims", DASH, False),
    ]
    assert (profile.name, profile.set_count) == ("profile a", 2)
    assert profile.settings[1].value == '{\n  "model": "m"\n}'
