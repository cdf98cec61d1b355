"""The pages of policies show the set in force, what each policy did, and what the API says of them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from rtobserver.config.sections import Secret
from rtobserver.errors import ConfigError, Mistake
from rtobserver.policy.rules import AnswerTool, Limit, Phrase, Policy, PolicySet, Tag, Tool
from rtobserver.store import tables
from rtobserver.web.pages.texts import visible
from tests.store.stored import call
from tests.store.test_tallies import decision
from tests.web.operator_stage import Stage, stage

HOUR = 3_600_000_000
HOSTILE = '<script>alert("x")</script>\u202eevil'

REFUND = Policy(
    id="refund",
    trigger=Phrase(speaker="assistant", phrases=("refund", "<b>money</b>")),
    actions=(Tag(tag="refund"),),
    mode="canary",
    canary_percent=25,
    when="call.turn_count > 1",
    limit=Limit(per_minute=1),
)
PAY = Policy(
    id="pay",
    trigger=Tool(name="pay", arguments={}),
    actions=(AnswerTool(url="https://me:hidden@tools.example.com/pay", secret=Secret("hidden")),),
    mode="enforce",
)
POLICIES = PolicySet(policies=(REFUND, PAY), hash="00112233aabbccdd")


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Stage]:
    async with stage(tmp_path, POLICIES) as opened:
        yield opened


def decide(api: Stage, *rows: dict[str, Any], ago: int = HOUR) -> None:
    began = api.clock.now_us() - 10 * 24 * HOUR
    own = {"day": call("rtc_1", started_at=began)["day"]}
    if not api.select(tables.call.select()):
        api.insert(tables.call, call("rtc_1", started_at=began), call("rtc_2", started_at=began))
    at = api.clock.now_us() - ago
    api.insert(
        tables.decision,
        *[row | own | {"received_at": at + row["seq"], "matched_at": at + row["seq"] + 400} for row in rows],
    )


async def read(api: Stage, path: str = "/policies", status: int = 200) -> str:
    answer = await api.get(path)
    assert (answer.status, answer.headers["Content-Type"]) == (status, "text/html; charset=utf-8"), answer.body
    return answer.body.decode()


def rows_of(page: str, label: str) -> list[str]:
    part = page.split(f'aria-label="{label}"')[1].split("</table>")[0]
    rows = re.findall(r"<tr\b[^>]*>(.*?)</tr>", part.split("<tbody>")[1], re.DOTALL)
    return [re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", row))).strip() for row in rows]


async def test_each_policy_in_force_is_shown_with_what_it_did(api: Stage) -> None:
    decide(
        api,
        decision("rtc_1", 1, "refund", mode="canary", outcome="not_in_canary"),
        decision("rtc_1", 2, "refund", mode="canary", acted=True, outcome="done"),
        decision("rtc_2", 3, "refund", outcome="fault", detail="there is no `event.item`"),
    )
    page = await read(api)
    assert "<code>00112233aabbccdd</code>, 2 policies" in page
    refund, pay = rows_of(page, "Policies in force")
    assert refund.startswith(
        "refund phrase: assistant says 'refund', '<b>money</b>' when call.turn_count > 1 tag"
        " canary 25 % 0 0 1 1 1 0 of 1 "
    )
    assert refund.endswith("rtc_2 1:3")
    assert pay == "pay tool: pay answer tool enforce 0 0 0 0 0 0 of 60 –"  # noqa: RUF001
    assert 'href="/calls/rtc_2#1:3"' in page
    assert "there is no `event.item`" in unescape(page)


async def test_the_last_decisions_of_all_calls_have_their_times_and_outcomes(api: Stage) -> None:
    decide(api, decision("rtc_1", 7, "gone", outcome="failed", detail="upstream said no", match=HOSTILE, acted=True))
    page = await read(api)
    [row] = rows_of(page, "Decisions")
    assert "gone rtc_1 1:7 failed observe upstream said no" in row
    assert visible(HOSTILE) in row
    assert "<script>alert" not in page
    assert row.endswith("tag 0.4 ms – –")  # noqa: RUF001
    assert 'href="/policies?policy=gone&amp;range=24h"' in page


async def test_more_decisions_than_one_page_holds_are_behind_a_link(api: Stage) -> None:
    decide(api, *[decision("rtc_1", seq, "refund") for seq in range(1, 61)])
    page = await read(api)
    assert len(rows_of(page, "Decisions")) == 50
    [older] = re.findall(r'href="([^"]*)">Older decisions', page)
    second = await read(api, unescape(older))
    assert len(rows_of(second, "Decisions")) == 10
    assert "Newest decisions" in second
    assert "Older decisions</a>" not in second


async def test_a_refused_reload_is_told_with_its_mistakes(api: Stage) -> None:
    mistake = Mistake("policy[0].phrase", f"has {HOSTILE}", "write words", file="policies/a.toml")
    api.files.found = ConfigError([mistake])
    await api.reloads.reload("files")
    page = await read(api)
    assert "The changed configuration was refused" in page
    assert "policies/a.toml: policy[0].phrase" in page
    assert "write words" in page
    assert "<script>alert" not in page
    assert len(rows_of(page, "Policies in force")) == 2


async def test_a_demoted_policy_says_so_and_what_to_do(api: Stage) -> None:
    now = api.clock.now_us()
    assert [api.active.admit(REFUND, now) for _ in range(2)] == [True, False]
    for path in ("/policies", "/policies?policy=refund"):
        page = await read(api, path)
        assert '<span class="badge bad">demoted</span>' in page
        assert "A reload" in page
    assert "1 of 1" in rows_of(await read(api), "Policies in force")[0]


async def test_a_policys_own_page_shows_its_rule_without_secrets_and_its_decisions_over_time(api: Stage) -> None:
    decide(api, decision("rtc_1", 1, "pay", mode="enforce", acted=True, outcome="done"))
    decide(api, decision("rtc_1", 2, "pay"), decision("rtc_1", 3, "pay"), decision("rtc_1", 4, "refund"), ago=2 * HOUR)
    page = await read(api, "/policies?policy=pay")
    assert "https://***@tools.example.com/pay" in unescape(page)
    assert "hidden@" not in page
    assert 'href="/calls?policy=pay"' in page
    assert 'data-series="c0:good c1:accent"' in page
    rows = rows_of(page, "Decisions by hour")
    assert [row.split()[-2:] for row in rows][-3:] == [["0", "2"], ["1", "0"], ["0", "0"]]
    assert len(rows_of(page, "Decisions")) == 3
    assert len(rows_of(await read(api, "/policies?policy=pay&range=30d"), "Decisions by day")) == 30


async def test_a_policy_that_is_no_longer_in_force_keeps_its_decisions(api: Stage) -> None:
    decide(api, decision("rtc_1", 1, "gone"))
    page = await read(api, "/policies?policy=gone")
    assert "not in force" in page
    assert len(rows_of(page, "Decisions")) == 1
    unknown = await read(api, f"/policies?policy={'%3Cimg%20src=x%3E'}", status=404)
    assert "There is no policy of this name in force" in unknown
    assert "<img" not in unknown


async def test_without_policies_the_page_says_how_to_get_some(tmp_path: Path) -> None:
    async with stage(tmp_path) as api:
        page = await read(api)
        assert "No policy is in force." in page
        assert "rtobserver policies check" in page
        assert "Nothing was decided yet." in page


async def test_the_pages_need_a_key_and_are_audited(api: Stage) -> None:
    for path in ("/policies", "/policies/replay"):
        async with api.client.get(f"{api.url}{path}", allow_redirects=False) as answer:
            assert answer.status == 303
    await read(api, "/policies?policy=pay")
    await read(api, "/policies/replay")
    rows = [tuple(row[3:5]) for row in api.select(tables.audit.select())]
    assert ("pages.policies", "pay") in rows
    assert ("pages.policies_replay", "") in rows
