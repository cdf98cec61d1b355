"""The page of the search over a real store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rtobserver.store import tables
from rtobserver.web.pages.texts import LONGEST_PIECE, pieces, visible
from tests.store.stored import START, call
from tests.web.operator_stage import Stage, stage
from tests.web.pages.test_calls import links
from tests.web.test_api_search import SECOND, item


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Stage]:
    async with stage(tmp_path) as opened:
        for number, said in enumerate((["a refund", "no refund"], ["Refund <b>me</b>"], ["hello"])):
            at = START + number * SECOND
            opened.insert(tables.call, call(f"rtc_{number}", started_at=at, user=f"user {number}"))
            opened.insert(tables.item, *[item(f"rtc_{number}", seq, text, at) for seq, text in enumerate(said, 1)])
        yield opened


async def page(api: Stage, query: str) -> str:
    answer = await api.get(f"/search{query}")
    assert answer.status == 200, answer.body
    return answer.body.decode()


async def test_lines_stand_under_their_calls_with_what_was_found_and_lead_to_their_place(api: Stage) -> None:
    html = await page(api, "?q=refund")
    assert html.count('<li class="card">') == 2
    assert "<mark>Refund</mark> &lt;b&gt;me&lt;/b&gt;" in html
    for place in ("rtc_1?item=item_1#line", "rtc_0?item=item_2#line", "rtc_0?item=item_1#line"):
        assert f'href="/calls/{place}"' in html
    assert html.index("user 1") < html.index("user 0")


async def test_filters_narrow_it_and_pages_are_turned_with_them(api: Stage) -> None:
    assert "user 1" not in await page(api, "?q=refund&user=user+0")
    first = await page(api, "?q=refund&limit=2")
    [older] = links(first, "Older lines")
    second = await page(api, older.removeprefix("/search"))
    assert (first + second).count("<mark>") == 3
    assert links(second, "Back to the newest") == ["/search?q=refund&limit=2"]


async def test_phrases_and_beginnings_of_words_are_found(api: Stage) -> None:
    assert (await page(api, "?q=%22no+refund%22")).count("#line") == 1
    assert (await page(api, "?q=ref*")).count("#line") == 3


async def test_before_anything_is_asked_for_it_says_how_to_ask(api: Stage) -> None:
    html = await page(api, "")
    assert "money back" in html
    assert "<code>cancel*</code>" in html
    assert "wrong" not in html
    assert "money back" in await page(api, "?user=x")


async def test_where_nothing_is_found_it_says_how_to_find_more(api: Stage) -> None:
    html = await page(api, "?q=nothing&user=user+0&since=7d")
    assert "Nothing was found." in html
    assert links(html, "Search without the other filters") == ["/search?q=nothing"]


@pytest.mark.parametrize(
    ("query", "words"),
    [("?q=%3F", "Must be words to look for"), ("?q=refund&since=soon", "Must be a time")],
)
async def test_what_is_wrong_is_said_in_place(api: Stage, query: str, words: str) -> None:
    answer = await api.get(f"/search{query}")
    assert answer.status == 400
    html = answer.body.decode()
    assert words in html
    assert "aria-invalid" in html
    assert "<mark>" not in html


async def test_a_word_of_ten_thousand_letters_is_cut_around_what_was_found(api: Stage) -> None:
    long = "x" * 10_000
    api.insert(tables.call, call("rtc_9", started_at=START + 9 * SECOND))
    api.insert(tables.item, item("rtc_9", 1, f"{long} parcel {long}", START + 9 * SECOND))
    html = await page(api, "?q=parcel")
    assert "<mark>parcel</mark>" in html
    assert "x" * LONGEST_PIECE not in html.replace(f"…{'x' * (LONGEST_PIECE - 1)} <mark>", "").replace(
        f"</mark> {'x' * (LONGEST_PIECE - 1)}…", ""
    )


def test_a_snippet_is_taken_apart_at_its_marks() -> None:
    assert list(pieces("\u27e6a\u27e7 b \u27e6c\u27e7")) == [("a", True), (" b ", False), ("c", True)]
    assert list(pieces("none")) == [("none", False)]


def test_what_cannot_be_seen_in_a_text_is_shown() -> None:
    assert visible("a\u202eb\u202c\x00\x7f\x9b\u200b\n\tc") == "a[RLO]b[PDF]\u2400\u2421[U+009B][ZWSP]\n\tc"
    assert visible(None) == ""
    assert visible("👩\u200d👩\u200d👧 שלום") == "👩\u200d👩\u200d👧 שלום"
