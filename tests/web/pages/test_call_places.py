"""The page of a call shows the place that it is asked for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from rtobserver.store import tables
from tests.store.stored import call, entry
from tests.web.operator_stage import Stage, stage
from tests.web.pages.test_call import add, item, lines, read

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Stage]:
    async with stage(tmp_path) as opened:
        yield opened


@pytest.mark.parametrize(
    ("query", "line"),
    [
        ("?item=item_300", "line 300"),
        ("?response=resp_2", "line 320"),
        ("?item=item_0&response=resp_2", "line 320"),
        ("?item=item_0&at=340000", "line 340"),
        ("?at=0", "line 1"),
        ("?item=item_1190", "line 1190"),
    ],
)
async def test_the_window_is_shown_that_has_what_is_asked_for(api: Stage, query: str, line: str) -> None:
    add(api)
    owned = {320: "resp_2", 321: "resp_2"}
    api.insert(
        tables.item,
        *[item(number, previous_item_id=None, response_id=owned.get(number)) for number in range(1, 1202)],
    )
    html = await read(api, query)
    assert len(lines(html)) == 500
    [found] = re.findall(r'<li class="line" id="line".*?</li>', html, re.DOTALL)
    assert f">{line}<" in found
    # it goes on to be asked for
    assert f'data-part="/calls/rtc_1/parts/transcript{query.replace("&", "&amp;")}"' in html
    assert 'id="line"' in await read(api, f"/parts/transcript{query}")
    assert "Lines 702 to 1,201" in html or line != "line 1190"
    assert 'id="line"' not in await read(api, "?item=item_0")


async def test_the_list_of_entries_is_told_how_many_there_are_and_which_is_the_last(api: Stage) -> None:
    # a live call's row counts later than entries come
    api.insert(tables.call, call("rtc_1", status="live", entry_count=0))
    api.insert(tables.entry, *[entry("rtc_1", seq) for seq in (1, 2, 7)], entry("rtc_1", 3, epoch=2))
    assert 'count="4" last="2:3"' in await read(api)
