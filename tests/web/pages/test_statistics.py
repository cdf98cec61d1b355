"""The page of sums shows what the API sums up, for the time that its address names."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from rtobserver.realtime.rows import ResponseRow
from rtobserver.store import folds, tables
from rtobserver.store.identity import day_of
from rtobserver.web.pages import statistics
from rtobserver.web.pages.statistics import AskStatistics, Period
from tests.store import stored
from tests.web.operator_stage import Stage, stage

DAY, HOUR = 86_400_000_000, 3_600_000_000
NOW = stored.START + 10 * DAY + 5 * HOUR + 7


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Stage]:
    async with stage(tmp_path) as opened:
        yield opened


def add(api: Stage, number: int, *, ago: int = 0, heard: int | None = None, **values: Any) -> None:
    began = api.clock.now_us() - ago - HOUR // 2
    call_id = f"rtc_{number}"
    row = stored.call(call_id, started_at=began, ended_at=began + 60_000_000, **values)
    api.insert(tables.call, row | {"day": day_of(began)})
    if heard is not None:
        response = ResponseRow(
            response_id="r", epoch=1, seq=1, heard_latency_ms=heard, generation_latency_ms=heard // 2
        )
        ref = stored.ref(call_id, began)
        api.insert(tables.response, {"call_key": ref.key, "day": ref.day, **folds.response_values(response)})


def texts(page: str, tag: str) -> list[str]:
    found = re.findall(rf"<{tag}\b[^>]*>(.*?)</{tag}>", page, re.DOTALL)
    return [re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", each)).strip() for each in found]


def cards_of(page: str) -> list[str]:
    return texts(page.split('<ul class="cards figures">')[1], "li")


async def read(api: Stage, query: str = "", status: int = 200) -> str:
    answer = await api.get(f"/stats{query}")
    assert (answer.status, answer.headers["Content-Type"]) == (status, "text/html; charset=utf-8"), answer.body
    return answer.body.decode()


async def test_the_figures_are_those_of_the_api(api: Stage) -> None:
    add(api, 1, heard=400, cost_usd="0.25", interruption_count=3, error_count=1, turn_count=4)
    add(api, 2, heard=900, profile="support", turn_count=2)
    page = await read(api)
    cards = cards_of(page)
    assert next(each for each in cards if each.startswith("Calls")) == "Calls 2 before: 0"
    assert (
        next(each for each in cards if each.startswith("Cost")) == "Cost $0.2500 before: none without 1 of unknown cost"
    )
    assert (
        next(each for each in cards if each.startswith("First audio, median"))
        == "First audio, median 400 ms before: none"
    )
    assert next(each for each in cards if each.startswith("First audio, p95")) == "First audio, p95 900 ms before: none"
    assert next(each for each in cards if each.startswith("Interruptions")) == "Interruptions 3 before: 0 in 6 turns"
    rows = texts(page, "tr")
    assert any(row.endswith("1 1.0 $0.2500 400 400 200 200 3 1") and row.startswith("default") for row in rows)
    assert any(row.endswith("1 1.0 \N{EN DASH} 900 900 450 450 0 0") and row.startswith("support") for row in rows)


async def test_every_day_of_the_time_has_a_row_and_days_without_a_call_no_latency(api: Stage) -> None:
    add(api, 1, heard=400)
    page = await read(api, "?range=30d")
    days = re.findall(r'<tr data-x="(\d+)">', page)
    assert len(days) == 30
    assert {int(later) - int(day) for day, later in itertools.pairwise(days)} == {86_400}
    first = page.split("<tr data-x=")[1].split("</tr>")[0]
    assert re.findall(r'data-value="([^"]*)"', first) == ["0", "0", "0", "", "", "", "", "0", "0"]
    assert len(re.findall(r"<tr data-x=", await read(api, "?range=24h"))) == 24


async def test_changes_are_against_as_much_time_before(api: Stage) -> None:
    for number, ago in enumerate([0, 0, 0, 8 * DAY, 8 * DAY]):
        add(api, number, ago=ago, heard=1000 if ago else 1500)
    cards = cards_of(await read(api))
    assert next(each for each in cards if each.startswith("Calls")) == "Calls 3 50.0 % more than before (2)"
    latency = next(
        each for each in re.findall(r"<li.*?</li>", await read(api), re.DOTALL) if "First audio, median" in each
    )
    assert '<span class="bad">50.0 % more</span>' in latency


async def test_one_profile_is_shown_alone_and_every_link_keeps_what_else_was_asked_for(api: Stage) -> None:
    add(api, 1, profile="support", model="mini")
    add(api, 2)
    page = await read(api, "?range=30d&profile=support")
    assert any(each.startswith("Calls 1 ") for each in cards_of(page))
    links = [each.replace("&amp;", "&") for each in re.findall(r'href="(/stats\?[^"]*)"', page)]
    assert "/stats?range=30d" in links
    assert "/stats?profile=support&range=24h" in links
    assert "/stats?range=30d&profile=support&model=mini" in links


async def test_each_day_leads_to_its_calls(api: Stage) -> None:
    add(api, 1, profile="support")
    add(api, 2, profile="support", ago=DAY)
    add(api, 3)
    page = await read(api, "?profile=support")
    links = [unescape(each) for each in re.findall(r'href="(/calls\?[^"]*)"', page)]
    found = [(await api.get(f"/api/v1{link}")).json["data"] for link in links]
    assert [[each["call_id"] for each in calls] for calls in found] == [["rtc_2"], ["rtc_1"]]


async def test_without_calls_the_page_says_what_to_do(api: Stage) -> None:
    page = await read(api, "?profile=none")
    assert "No call began in this time." in page
    assert "show calls of every profile and model" in page
    assert "data-chart" not in page


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("?since=2026-02-02&until=2026-02-01", "The time ends before it begins."),
        ("?since=1970-01-01&until=2026-01-01", "That is too long: at most 999 days are summed up here."),
    ],
)
async def test_a_time_that_cannot_be_summed_up_is_refused_in_its_place(api: Stage, query: str, words: str) -> None:
    page = await read(api, query, status=400)
    assert words in page
    assert 'id="since"' in page


async def test_what_callers_wrote_is_text(api: Stage) -> None:
    hostile = '<img src=x onerror=alert(1)>"\u202e'
    add(api, 1, profile=hostile, model=hostile)
    page = await read(api)
    assert "<img" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;&#34;[RLO]" in page


async def test_the_page_needs_a_key_and_is_audited_without_what_was_asked_for(api: Stage) -> None:
    async with api.client.get(f"{api.url}/stats?profile=a", allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (303, "/login?next=%2Fstats%3Fprofile%3Da")
    await read(api, "?profile=secret-profile")
    rows = api.select(tables.audit.select())
    assert ("pages.statistics", "profile") in [tuple(row[3:5]) for row in rows]
    assert "secret-profile" not in json.dumps(rows, default=str)


@pytest.mark.parametrize(
    ("query", "since", "until", "steps"),
    [
        (AskStatistics(), stored.START + 4 * DAY, NOW, 7),
        (AskStatistics(range_="24h"), NOW // HOUR * HOUR - 23 * HOUR, NOW, 24),
        (AskStatistics(since=5 * DAY), 5 * DAY, NOW, None),
        (AskStatistics(until=9 * DAY), 2 * DAY, 9 * DAY, 7),
        (AskStatistics(since=DAY + 1, until=DAY + HOUR + 1), DAY + 1, DAY + HOUR + 1, 2),
    ],
)
def test_a_range_is_whole_days_or_hours_and_the_one_that_goes_on(
    query: AskStatistics, since: int, until: int, steps: int | None
) -> None:
    asked = statistics.period(query, NOW)
    if steps is None:
        assert isinstance(asked, str)
        return
    assert isinstance(asked, Period)
    assert (asked.wanted.since, asked.wanted.until, len(list(asked.begins()))) == (since, until, steps)
    assert (asked.before.until, asked.before.since) == (since, max(0, since - (until - since)))
