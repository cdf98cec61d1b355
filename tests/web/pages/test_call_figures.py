"""The figures of a call's page agree with each other, also while the call goes on and where only the model spoke."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rtobserver.store import tables
from tests.store.stored import call, entry
from tests.web.operator_stage import Stage, stage
from tests.web.pages.test_call import gap, item, read, response, texts


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Stage]:
    async with stage(tmp_path) as opened:
        yield opened


async def facts(api: Stage) -> dict[str, str]:
    page = await read(api, "/parts/summary")
    return dict(zip(texts(page, "dt"), texts(page, "dd"), strict=True))


async def test_the_summary_of_a_live_call_tells_no_figure_that_the_page_itself_knows_better(api: Stage) -> None:
    api.insert(tables.call, call("rtc_1", entry_count=0, gap_count=0))
    api.insert(tables.entry, *[entry("rtc_1", seq) for seq in range(1, 402)])
    api.insert(
        tables.gap,
        gap(402, "before_attach", counted=False), gap(403, "paused"), gap(404, "reattach", state="open", counted=False),
    )  # fmt: skip
    found = await facts(api)
    assert (found["Entries"], found["Gaps"]) == ("as listed below", "2")
    assert "those of when the last response ended" in await read(api, "/parts/summary")


async def test_the_summary_of_a_call_that_ended_has_its_own_figures(api: Stage) -> None:
    api.insert(
        tables.call, call("rtc_1", status="ended", ended_at=call("x")["started_at"] + 1, entry_count=3, gap_count=1)
    )
    api.insert(tables.gap, gap(2, "paused"), gap(3, "before_attach", counted=False))
    found = await facts(api)
    assert (found["Entries"], found["Gaps"]) == ("3", "1")
    assert "The call goes on" not in await read(api, "/parts/summary")


async def test_what_the_model_began_is_no_turn_of_the_user(api: Stage) -> None:
    api.insert(tables.call, call("rtc_1", turn_count=1))
    api.insert(tables.item, item(1, role="assistant", response_id="resp_1"), item(2))
    api.insert(
        tables.response, response(1, generation_latency_ms=40), response(3, user_item_id="item_2", heard_latency_ms=900)
    )
    page = await read(api, "/parts/latency")
    rows = [texts(row, "t[dh]")[0] for row in re.findall(r"<tr data-key=.*?</tr>", page, re.DOTALL)]
    assert rows == ["model began", "1"]
    assert re.findall(r'data-x="(\d+)"', page) == ["1"]
    found = (await api.get("/api/v1/calls/rtc_1/timeline")).json["turns"]
    assert [each["number"] for each in found] == [None, 1]
    assert (await facts(api))["Turns"] == "1"
