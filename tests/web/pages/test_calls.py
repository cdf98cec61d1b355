"""The page of calls over a real store: filters as in the API, pages, highlights, sums."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from rtobserver.store import spread, tables
from rtobserver.store.calls import Filter
from tests.store.stored import START, call, fresh
from tests.store.test_plans import steps
from tests.web.operator_stage import Stage, stage
from tests.web.test_api_search import item

MINUTE = 60_000_000
RLO = "\u202e"


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Stage]:
    async with stage(tmp_path) as opened:
        opened.clock.ahead += START / 1e6 + 3570 - opened.clock.now_us() / 1e6
        yield opened


async def page(api: Stage, query: str = "", **options: Any) -> str:
    answer = await api.get(f"/calls{query}", **options)
    assert answer.status == 200, answer.body
    return answer.body.decode()


def listed(html: str) -> list[str]:
    """Give the ids of the calls in a page's table."""
    return re.findall(r'<th scope="row" role="rowheader"><a href="/calls/([^"]+)"', html)


def links(html: str, words: str) -> list[str]:
    return [unescape(address) for address in re.findall(rf'<a [^>]*?href="([^"]+)"[^>]*>{words}</a>', html)]


def some(api: Stage, count: int = 5) -> None:
    api.insert(
        tables.call,
        *[
            call(
                f"rtc_{number}",
                started_at=START + number * MINUTE,
                status="ended",
                outcome="browser_left",
                ended_at=START + number * MINUTE + 90_000_000,
                user=f"user {number % 2}",
                cost_usd=None if number == 4 else "0.25",
                tags=["vip"] if number == 1 else [],
                labels={"team": "north"} if number == 2 else {},
                gap_count=int(number == 3),
            )
            for number in range(count)
        ],
    )


@pytest.mark.parametrize(
    "query",
    [
        "?status=ended",
        "?status=live",
        "?outcome=browser_left&user=user+1",
        "?profile=default&model=gpt-realtime",
        "?profile=x",
        "?tag=vip",
        "?label.team=north",
        "?policy=none",
        "?since=58m&until=57m",
        "?min_duration=80s",
        "?min_duration=2m",
        "?has=gap",
        "?has=gap&has=error",
        "?q=parcel",
        "?limit=2",
    ],
)
async def test_a_filter_finds_what_it_finds_in_the_api(api: Stage, query: str) -> None:
    some(api)
    api.insert(tables.item, item("rtc_2", 1, "Where is my parcel?", START + 2 * MINUTE))
    found = (await api.get(f"/api/v1/calls{query}")).json["data"]
    assert listed(await page(api, query)) == [each["call_id"] for each in found]


async def test_pages_are_turned_by_links_that_keep_the_filters(api: Stage) -> None:
    some(api)
    first = await page(api, "?limit=2&outcome=browser_left")
    seen = listed(first)
    assert links(first, "Back to the newest") == []
    html = first
    while older := links(html, "Older calls"):
        assert "outcome=browser_left" in older[0]
        html = await page(api, older[0].removeprefix("/calls"))
        seen += listed(html)
    assert seen == [f"rtc_{number}" for number in (4, 3, 2, 1, 0)]
    assert links(html, "Back to the newest") == ["/calls?limit=2&outcome=browser_left"]


async def test_what_a_form_sends_becomes_the_address_that_the_api_takes(api: Stage) -> None:
    sent = "?q=&since=&status=ended&profile=&user=&tag=vip&tag=&label.a=&label_name=team&label_value=north"
    async with api.client.get(
        f"{api.url}/calls{sent}", headers={"Authorization": f"Bearer {api.key}"}, allow_redirects=False
    ) as answer:
        where = answer.headers["Location"]
    assert (answer.status, where) == (303, "/calls?status=ended&tag=vip&label.a=&label.team=north")
    assert (await api.get(f"/api/v1{where}")).status == 200


async def test_a_label_may_be_asked_for_that_is_empty(api: Stage) -> None:
    some(api)
    api.insert(tables.call, call("rtc_bare", labels={"team": ""}))
    html = await page(api, "?label.team=")
    assert listed(html) == ["rtc_bare"]
    assert [each["call_id"] for each in (await api.get("/api/v1/calls?label.team=")).json["data"]] == ["rtc_bare"]
    assert 'type="checkbox" name="label.team" value="" checked' in html
    assert "<bdi>team</bdi> is empty" in html
    assert "1 call," in (await api.get("/calls/sums?since=2h&label.team=")).body.decode()
    answer = await api.client.get(
        f"{api.url}/calls?user=&label_name=team&label_value=",
        headers={"Authorization": f"Bearer {api.key}"},
        allow_redirects=False,
    )
    assert (answer.status, answer.headers["Location"]) == (303, "/calls?label.team=")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("since", "yesterday", "Must be a time"),
        ("min_duration", "long", "Must be a number of seconds"),
        ("status", "on", "Must be one of connecting"),
        ("outcome", "good", "Must be one of"),
        ("has", "luck", "Must be one of"),
        ("q", "?!", "Must be words to look for"),
        ("user", "x" * 300, "Takes at most 256 characters"),
        ("label.a b", "1", "A label&#39;s name has"),
        ("limit", "0", "`limit` must be a whole number"),
        ("cursor", "x", "`cursor` is not one that was given here"),
        ("colour", "red", "There is no filter `colour`"),
    ],
)
async def test_a_wrong_filter_is_named_in_place_and_the_others_stay(
    api: Stage, name: str, value: str, words: str
) -> None:
    some(api)
    other = ("profile", "default") if name != "profile" else ("user", "x")
    answer = await api.get(f"/calls?{name}={value}&{other[0]}={other[1]}&tag=vip")
    html = answer.body.decode()
    assert answer.status == 400
    assert words in html
    assert f'name="{other[0]}" type="text" value="{other[1]}"' in html
    assert 'name="tag" value="vip"' in html
    assert listed(html) == []
    if name not in ("colour", "limit", "cursor", "has"):
        [described] = re.findall(r'aria-invalid="true" aria-describedby="([^"]+)"', html)
        assert f'id="{described}"' in html


async def test_what_was_found_is_marked_and_leads_to_its_place(api: Stage) -> None:
    some(api, 3)
    api.insert(
        tables.item,
        item("rtc_1", 7, "Where is my <b>parcel</b>?", START + MINUTE),
        *[item("rtc_2", number, f"parcel {number}", START + 2 * MINUTE) for number in range(200)],
    )
    html = await page(api, "?q=parcel")
    assert listed(html) == ["rtc_2", "rtc_1"]
    assert "Where is my &lt;b&gt;<mark>parcel</mark>&lt;/b&gt;?" in html
    assert 'href="/calls/rtc_1?item=item_7#line"' in html
    assert 'href="/calls/rtc_2?item=item_199#line"' in html


async def test_texts_of_callers_are_escaped_and_what_is_unseen_in_them_is_shown(api: Stage) -> None:
    hostile = f"<script>alert(1)</script>{RLO}"
    api.insert(tables.call, call("rtc_1", user=hostile, profile=hostile, tags=[hostile], labels={"a": hostile}))
    html = await page(api)
    assert "<script>alert" not in html
    assert RLO not in html
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;[RLO]") == 4
    answer = await api.get("/calls?user=%3Cscript%3Ealert(1)&status=%22%3E%3Cscript%3Ealert(2)")
    assert b"<script>alert" not in answer.body


async def test_empty_pages_say_what_to_do_next(api: Stage) -> None:
    assert "No call was recorded yet." in await page(api)
    some(api)
    assert "No call passes these filters." in await page(api, "?user=nobody")


async def test_exports_are_offered_to_keys_that_may_have_them(api: Stage) -> None:
    some(api)
    assert "/api/v1/export" not in await page(api)
    key = api.make_key("read", "export")
    [address] = links(await page(api, "?user=user+1&limit=2", key=key), "calls as CSV")
    assert address == "/api/v1/export?user=user+1&what=calls&format=csv"
    assert (await api.get(address, key=key)).body.count(b"rtc_") == 2


async def test_sums_are_of_the_calls_that_pass_the_filters(api: Stage) -> None:
    some(api)
    html = (await api.get("/calls/sums?since=1h")).body.decode()
    assert "5 calls, $1.0000 without 1 whose cost is not known" in html
    assert html.count("<rect") == 10
    assert "Calls per minute" in html
    assert "2026-01-01 00:04:00 UTC: 1 call, cost not known" in html
    html = (await api.get("/calls/sums?since=1h&user=user+1")).body.decode()
    assert "2 calls, $0.5000" in html
    assert (await api.get("/calls/sums?since=nothing")).status == 400


async def test_a_cost_of_which_nothing_is_known_is_not_nothing(api: Stage) -> None:
    api.insert(tables.call, *[call(f"rtc_{number}", started_at=START + number * MINUTE) for number in range(8)])
    html = (await api.get("/calls/sums?since=1h")).body.decode()
    assert "8 calls, cost not known, from" in html
    assert "$" not in html
    assert "Cost per" not in html
    html = (await api.get("/calls/sums?since=1h&user=nobody")).body.decode()
    assert "0 calls, $0.0000, from" in html


async def test_sums_have_at_most_sixty_slices_whatever_the_time(api: Stage) -> None:
    some(api)
    for since, step in (
        ("2h", "5 minutes"),
        ("24h", "hour"),
        ("7d", "3 hours"),
        ("", "day"),
        ("1971-01-01", "365 days"),
    ):
        html = (await api.get(f"/calls/sums?since={since}" if since else "/calls/sums")).body.decode()
        assert f"Calls per {step}<" in html
        [slices] = {int(width) for width in re.findall(r'viewBox="0 0 (\d+) 1"', html)}
        assert slices <= 62


def test_sums_are_read_in_the_range_of_an_index(tmp_path: Path) -> None:
    wanted = Filter(since=1, until=2, status=None, policy="p")
    found = steps(fresh(tmp_path), spread.spread_statement(wanted, 1000))
    assert found[0].startswith("SEARCH call USING INDEX ix_call_started (started_at>? AND started_at<?)")


async def test_the_page_needs_the_scope(api: Stage) -> None:
    key = api.make_key("metrics")
    for path in ("/calls", "/calls/sums"):
        assert (await api.get(path, key=key)).status == 403
