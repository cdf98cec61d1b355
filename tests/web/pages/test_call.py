"""The page of one call, and its parts."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from rtobserver.realtime.rows import ItemRow, ResponseRow, Usage
from rtobserver.store import folds, tables
from tests.store.stored import START, call, entry, ref
from tests.web.operator_stage import Stage, stage

SECOND = 1_000_000
REF = ref("rtc_1")
OWN = {"call_key": REF.key, "day": REF.day}
PARTS = ("summary", "transcript", "decisions", "latency", "usage", "gaps")


def item(number: int, **values: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "item_id": f"item_{number}", "epoch": 1, "seq": number, "role": "user", "kind": "speech",
        "text": f"line {number}", "status": "completed", "started_at": START + number * SECOND,
        "ended_at": START + (number + 2) * SECOND, "previous_item_id": f"item_{number - 1}" if number > 1 else None,
    } | values  # fmt: skip
    return OWN | folds.item_values(ItemRow(**fields))


def response(number: int, **values: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {"response_id": f"resp_{number}", "epoch": 1, "seq": number, "status": "completed"}
    fields |= values
    return OWN | folds.response_values(ResponseRow(**fields))


def decision(seq: int = 1, **values: Any) -> dict[str, Any]:
    return OWN | {
        "epoch": 1, "seq": seq, "policy": "no-refunds", "policy_set": "s", "trigger": "phrase", "mode": "enforce",
        "acted": True, "actions": '["cancel", "say"]', "received_at": START + 61_000_000,
        "matched_at": START + 61_000_200, "sent_at": START + 61_001_500, "acknowledged_at": START + 61_040_000,
        "outcome": "done", "match": "a full refund", "played_ms": 320, "item_id": "item_1",
    } | values  # fmt: skip


def gap(seq: int, reason: str, **values: Any) -> dict[str, Any]:
    return OWN | {
        "epoch": 1, "seq": seq, "from_at": START + SECOND, "to_at": START + 2 * SECOND, "reason": reason,
        "after": "1:1", "state": "final", "lost": None, "lost_by_type": "{}", "counted": True,
    } | values  # fmt: skip


def texts(page: str, tag: str) -> list[str]:
    found = re.findall(rf"<{tag}\b[^>]*>(.*?)</{tag}>", page, re.DOTALL)
    return [re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", each)).strip() for each in found]


def lines(page: str) -> list[str]:
    found = re.findall(r'<li class="line".*?</li>', page, re.DOTALL)
    return [re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", each)).strip() for each in found]


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Stage]:
    async with stage(tmp_path) as opened:
        yield opened


def add(api: Stage, **values: Any) -> None:
    known: dict[str, Any] = {"status": "ended", "ended_at": START + 75 * SECOND, "entry_count": 1}
    api.insert(tables.call, call("rtc_1", **(known | values)))
    api.insert(tables.entry, entry("rtc_1", 1))


async def read(api: Stage, path: str = "", status: int = 200, key: str | None = None) -> str:
    answer = await api.get(f"/calls/rtc_1{path}", key=key)
    assert (answer.status, answer.headers["Content-Type"]) == (status, "text/html; charset=utf-8"), answer.body
    return answer.body.decode()


async def test_the_summary_says_what_the_api_says_of_the_call(api: Stage) -> None:
    add(
        api, outcome="policy", user="anna", labels={"tenant": "acme"}, tags=["vip"], profile="desk", turn_count=4,
        interruption_count=2, error_count=1, cost_usd="0.0123", completeness="complete", entry_count=1234,
    )  # fmt: skip
    page = await read(api, "/parts/summary")
    told = (await api.get("/api/v1/calls/rtc_1")).json
    facts = dict(zip(texts(page, "dt"), texts(page, "dd"), strict=True))
    assert facts["Duration"] == "1:15"
    assert facts["Began"] == "2026-01-01 00:00:00 UTC"
    assert (facts["User"], facts["tenant"], facts["Profile"], facts["Model"]) == ("anna", "acme", "desk", told["model"])
    assert (facts["Turns"], facts["Interruptions"], facts["Errors"]) == ("4", "2", "1")
    assert (facts["Entries"], facts["Cost"]) == ("1,234", "$0.0123")
    [states] = re.findall(r'<p class="states".*?</p>', page, re.DOTALL)
    assert texts(states, "span") == ["ended", "ended by a policy", "recorded completely"]
    assert texts(states, "bdi") == ["vip"]
    assert (
        texts(page, "li")
        == (await api.get("/api/v1/calls/rtc_1/verdict")).json["verdict"]
        == ["Everything since the beginning was received, and what was received agrees with itself."]
    )


async def test_the_verdict_says_why_a_record_is_not_whole(api: Stage) -> None:
    checks = (
        '{"counts": {"error": 1}, "broken_items": ["a"], "recovered_items": [], "unfinished_responses": ["r", "s"]}'
    )
    add(api, completeness="complete_with_gaps", gap_count=3, checks=checks)
    api.insert(
        tables.gap,
        gap(2, "shed", lost=7), gap(3, "reattach"), gap(4, "reattach"), gap(5, "before_attach", counted=False),
    )  # fmt: skip
    said = texts(await read(api, "/parts/summary"), "li")
    assert (
        said
        == (await api.get("/api/v1/calls/rtc_1/verdict")).json["verdict"]
        == [
            "Nothing was recorded because more came than the database could take (7 frames).",
            "2 times nothing was recorded while the connection to upstream was broken.",
            "1 text was not received as a whole: the streamed words differ from the final ones.",
            "The ends of 2 responses were not received.",
        ]
    )
    found = (await api.get("/api/v1/calls/rtc_1/verdict")).json["checks"]
    assert (found["broken_items"], found["unfinished_responses"]) == (["a"], ["r", "s"])


@pytest.mark.parametrize(
    ("status", "words", "rest"),
    [
        ("unobserved", "nobody could observe it", "No entry was recorded of this call."),
        ("failed", "The call never began", "There is nothing else to show."),
        ("lost", "The observer lost the call", "No entry was recorded of this call."),
    ],
)
async def test_a_call_that_was_not_recorded_says_why_there_is_nothing_else(
    api: Stage, status: str, words: str, rest: str
) -> None:
    api.insert(tables.call, call("rtc_1", status=status, outcome="refused", ended_at=START, completeness="incomplete"))
    page = await read(api)
    assert words in page
    assert rest in page
    for other in ("rto-timeline", "rto-entries", "Usage and cost", "Take it along"):
        assert other not in page


async def test_the_transcript_has_what_was_heard_and_marks_what_was_not(api: Stage) -> None:
    add(api)
    api.insert(
        tables.item,
        item(1, text="Tell me more."),
        item(
            2, role="assistant", text="Once upon a time there was", heard_text="Once upon",
            heard_confidence="estimated", interrupted=True, response_id="resp_1",
        ),
    )  # fmt: skip
    page = await read(api, "/parts/transcript")
    assert lines(page) == [
        "0:01.0 User Tell me more.",
        "0:02.0 Assistant cut off, about here Once upon Never heard: a time there was End of what was never heard.",
    ]
    assert re.search(r"Once upon<s class=\"unheard\">", page)
    [first, second] = re.findall(r'<li class="line"([^>]*)>', page)
    assert 'data-from-ms="1000.0" data-to-ms="3000.0" data-item-id="item_1"' in first
    assert 'data-position="1:1"' in first
    assert 'data-response-id="resp_1"' in second
    assert 'data-role="assistant"' in second


async def test_tools_are_shown_with_their_arguments_and_outputs(api: Stage) -> None:
    add(api)
    api.insert(
        tables.item,
        item(1, role="assistant", kind="tool_call", text='{"city":"Bern"}', tool_name="weather", tool_call_id="call_1"),
        item(2, role="tool", kind="tool_output", text="sunny", tool_call_id="call_1"),
        item(3, role="assistant", kind="tool_call", text="{}", tool_name="look", tool_output="[1]"),
    )
    page = await read(api, "/parts/transcript")
    assert lines(page) == [
        "0:01.0 Assistant called weather { &#34;city&#34;: &#34;Bern&#34; }",
        "0:02.0 Tool gave back for weather sunny",
        "0:03.0 Assistant called look {} It gave back: [ 1 ]",
    ]


async def test_lines_say_what_is_odd_about_them(api: Stage) -> None:
    add(api)
    api.insert(
        tables.item,
        item(1, text="", status="failed", error="audio_unintelligible"),
        item(2, text="", status="completed"),
        item(3, role="assistant", status="incomplete", recovered=True),
        item(4, status="in_progress", started_at=None, ended_at=None),
        item(5, status="deleted"),
        item(6, out_of_band=True),
    )
    page = await read(api, "/parts/transcript")
    assert lines(page) == [
        "0:01.0 User could not be transcribed: audio_unintelligible",
        "0:02.0 User no transcript",
        "0:03.0 Assistant not finished asked for after a gap line 3",
        "– User in progress line 4",  # noqa: RUF001 - as it is shown
        "0:05.0 User deleted from the conversation line 5",
    ]
    assert "1 item of responses outside the conversation is not shown" in re.sub(r"\s+", " ", page)


async def test_words_appear_while_they_are_said(api: Stage) -> None:
    add(api, status="live", ended_at=None)
    api.insert(
        tables.item,
        item(1, text=""),
        item(2, text="", role="assistant", status="in_progress", ended_at=None),
        item(3, text="", role="assistant", kind="text", status="in_progress", ended_at=None),
    )
    said = [
        ("response.output_audio_transcript.delta", "item_2", "Once upon"),
        ("conversation.item.input_audio_transcription.delta", "item_1", "Tell me"),
        ("response.audio_transcript.delta", "item_2", " a <i>time"),
        ("response.output_audio.delta", "item_2", "UklGRg=="),
        ("response.output_text.delta", "item_9", "nobody's"),
    ]
    for seq, (type_, item_id, delta) in enumerate(said, start=4):
        frame = json.dumps({"type": type_, "item_id": item_id, "delta": delta}).encode()
        api.insert(tables.entry, entry("rtc_1", seq, frame, type=type_))
    assert lines(await read(api, "/parts/transcript")) == [
        "0:01.0 User Tell me",
        "0:02.0 Assistant in progress Once upon a &lt;i&gt;time",
        "0:03.0 Assistant in progress",
    ]


async def test_a_speech_that_may_still_be_understood_is_not_called_lost(api: Stage) -> None:
    add(api, status="live", ended_at=None)
    api.insert(tables.item, item(1, text=""))
    assert lines(await read(api, "/parts/transcript")) == ["0:01.0 User no transcript yet"]


async def test_a_long_transcript_is_shown_in_windows_beginning_with_the_newest(api: Stage) -> None:
    add(api)
    api.insert(tables.item, *[item(number, previous_item_id=None) for number in range(1, 1202)])
    page = await read(api)
    assert (len(lines(page)), lines(page)[-1]) == (500, "20:01.0 User line 1201")
    assert 'data-part="/calls/rtc_1/parts/transcript"' in page
    assert "Lines 702 to 1,201 of 1,201" in page
    [earlier] = re.findall(r'href="(/calls/rtc_1\?line=\d+)#transcript">Earlier', page)
    before = await read(api, earlier.removeprefix("/calls/rtc_1"))
    assert (lines(before)[0], lines(before)[-1]) == ("3:22.0 User line 202", "11:41.0 User line 701")
    # lines that are over do not grow
    assert 'data-part="/calls/rtc_1/parts/transcript"' not in before
    assert len(lines(await read(api, "?line=999999"))) == 1
    assert len(lines(await read(api, "?line=nonsense"))) == 500


async def test_decisions_have_their_four_times(api: Stage) -> None:
    add(api)
    api.insert(
        tables.decision,
        decision(),
        decision(2, policy="shy", mode="observe", acted=False, outcome="observed", sent_at=None, acknowledged_at=None),
    )
    api.insert(tables.decision, decision(3, policy="broken", outcome="fault", detail="no such field", match=None))
    page = await read(api, "/parts/decisions")
    rows = [texts(row, "t[dh]") for row in re.findall(r"<tr data-key=.*?</tr>", page, re.DOTALL)]
    assert rows[0] == [
        "1:01.0", "no-refunds", "phrase", "a full refund", "cancel, say about 320 ms of it were heard", "done",
        "2026-01-01 00:01:01 UTC", "+0.2 ms", "+1.5 ms", "+40.0 ms",
    ]  # fmt: skip
    assert rows[1][4:6] == ["not acted: cancel, say", "only observed observe"]
    assert rows[1][8:] == ["–", "–"]  # noqa: RUF001 - as it is shown
    assert rows[2][5] == "fault no such field"
    assert 'href="#1:1"' in page


async def test_commands_have_their_states(api: Stage) -> None:
    add(api)
    sent = OWN | {
        "epoch": 1, "seq": 9, "event_id": "rto_1_9", "type": "response.cancel", "source": "policy",
        "policy": "no-refunds", "state": "failed", "sent_at": START + SECOND,
        "acknowledged_at": START + SECOND + 20_500, "error": "no response",
    }  # fmt: skip
    api.insert(tables.command, sent)
    page = await read(api, "/parts/decisions")
    [row] = [texts(row, "t[dh]") for row in re.findall(r"<tr data-key=.*?</tr>", page, re.DOTALL)]
    assert row == [
        "0:01.0", "response.cancel", "policy no-refunds", "failed no response", "2026-01-01 00:00:01 UTC", "+20.5 ms",
        "rto_1_9",
    ]  # fmt: skip
    assert "No policy decided anything in this call." in page


async def test_latencies_are_those_of_the_turns(api: Stage) -> None:
    add(api)
    for number in (1, 3, 5):
        api.insert(tables.item, item(number), item(number + 1, role="assistant", response_id=f"resp_{number}"))
    api.insert(
        tables.response,
        response(1, user_item_id="item_1", heard_latency_ms=900, generation_latency_ms=300),
        response(3, user_item_id="item_3", generation_latency_ms=250, interrupted=True),
        response(5, user_item_id="item_5"),
    )
    page = await read(api, "/parts/latency")
    rows = [texts(row, "t[dh]") for row in re.findall(r"<tr data-key=.*?</tr>", page, re.DOTALL)]
    assert rows == [
        ["1", "0:01.0", "900", "300", "–", "no"],  # noqa: RUF001 - as it is shown
        ["2", "0:03.0", "–", "250", "–", "yes"],  # noqa: RUF001 - as it is shown
    ]
    turns = await api.all_pages("/api/v1/calls/rtc_1/turns")
    assert [turn["heard_latency_ms"] for turn in turns] == [900, None, None]


async def test_usage_names_what_is_not_known(api: Stage) -> None:
    usage = (
        '{"input_tokens": 30, "output_tokens": 12, "total_tokens": 42, "cached_tokens": 4,'
        ' "input": {"text": 10, "audio": 20, "image": 0}, "output": {"text": 5, "audio": 7},'
        ' "cached": {"text": 4, "audio": 0, "image": 0},'
        ' "transcription": {"tokens": 3, "seconds": 1.5}, "responses_without_usage": 1}'
    )
    metrics = (
        '{"unpriced_models": ["my-model"], "costs": [{"meter": "transcription", "model": "w", "cost_usd": "0.001"}]}'
    )
    add(api, usage=usage, metrics=metrics)
    api.insert(
        tables.response,
        response(1, usage=Usage(input_tokens=30, output_tokens=12)),
        response(2, status="failed", reason="rate_limit"),
    )
    page = await read(api, "/parts/usage")
    rows = [texts(row, "t[dh]") for row in re.findall(r"<tr>.*?</tr>", page, re.DOTALL)]
    assert ["Input", "10", "20", "0", "30"] in rows
    assert ["of it cached", "4", "0", "0", "4"] in rows
    assert ["Output", "5", "7", "–", "12"] in rows  # noqa: RUF001 - as it is shown
    words = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", page))
    assert "Transcription of the user: 3 tokens and 1.5 seconds." in words
    assert "1 response did not say what it used: the sums lack it." in words
    assert "The cost is not known: there is no price for my-model." in words
    assert "rate_limit" in words


async def test_gaps_are_listed_with_their_reasons(api: Stage) -> None:
    add(api)
    api.insert(tables.gap, gap(2, "shed", lost=7, lost_by_type='{"error": 2, "response.done": 5}'), gap(3, "erased"))
    page = await read(api, "/parts/gaps")
    rows = [texts(row, "t[dh]") for row in re.findall(r"<tr data-key=.*?</tr>", page, re.DOTALL)]
    assert rows[0][1] == "because more came than the database could take"
    assert rows[0][5] == "7 response.done 5 error 2"
    assert rows[1][5] == "not known"


async def test_a_gap_in_which_nothing_is_known_to_have_happened_says_so(api: Stage) -> None:
    add(api, completeness="complete")
    api.insert(tables.gap, gap(1, "before_attach", counted=False))
    page = await read(api, "/parts/gaps")
    [row] = [texts(row, "t[dh]") for row in re.findall(r"<tr data-key=.*?</tr>", page, re.DOTALL)]
    assert row[1] == "before the observer was connected nothing is known to have happened"


async def test_the_page_has_every_part_and_holds_no_entries(api: Stage) -> None:
    add(api)
    api.insert(tables.item, item(1))
    api.insert(tables.entry, *[entry("rtc_1", seq, b'{"type":"of.page"}') for seq in range(2, 500)])
    page = await read(api)
    for part in PARTS:
        assert f'data-part="/calls/rtc_1/parts/{part}"' in page
        body = await read(api, f"/parts/{part}")
        assert "<html" not in body
        assert body.strip() in page
    assert '<rto-timeline call-id="rtc_1"></rto-timeline>' in page
    assert "of.page" not in page


async def test_a_live_call_can_be_controlled_by_who_may(api: Stage) -> None:
    add(api, status="live", ended_at=None)
    api.insert(tables.gap, gap(2, "paused", state="open", to_at=None))
    page = await read(api)
    assert "data-controls" not in page
    assert '<rto-timeline call-id="rtc_1" live></rto-timeline>' in page
    page = await read(api, key=api.make_key("read", "control"))
    assert re.search(r'data-controls data-call="rtc_1" data-status="live" data-paused', page)
    assert "recording paused" in page


async def test_an_ended_call_has_no_controls(api: Stage) -> None:
    add(api)
    assert "data-controls" not in await read(api, key=api.make_key("read", "control"))


async def test_what_can_be_taken_along_is_what_the_key_allows(api: Stage) -> None:
    add(api)
    api.insert(tables.item, item(1))
    assert "/api/v1/export" not in await read(api)
    key = api.make_key("read", "export")
    page = await read(api, key=key)
    [links] = re.findall(r'<dl class="facts links">.*?</dl>', page, re.DOTALL)
    addresses = [address.replace("&amp;", "&") for address in re.findall(r'href="([^"]+)"', links)]
    assert len(addresses) == 18
    api.insert(tables.call, call("rtc_other", started_at=START + 1))
    for address in addresses:
        answer = await api.get(address, key=key)
        assert answer.status == 200, address
        assert b"rtc_other" not in answer.body, address
    [exported] = [each for each in addresses if "what=items" in each]
    assert b"line 1" in (await api.get(exported, key=key)).body


async def test_all_entries_come_as_a_file(api: Stage) -> None:
    add(api)
    api.insert(tables.entry, entry("rtc_1", 2, b"\xff"))
    answer = await api.get("/calls/rtc_1/entries.ndjson")
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    direct = await api.get("/api/v1/calls/rtc_1/entries", Accept="application/x-ndjson")
    assert answer.body == direct.body
    assert answer.body.count(b"\n") == 2


async def test_hostile_texts_are_texts(api: Stage) -> None:
    evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7*7 }}\u202e" + "w" * 10_000 + "🧨"
    add(api, user=evil, labels={"a": evil}, tags=[evil], profile=evil, model=evil)
    api.insert(
        tables.item,
        item(1, text=evil, item_id=evil[:500]),
        item(2, role="assistant", kind="tool_call", text=evil, tool_name=evil, tool_output=evil),
        item(3, role="assistant", text=evil, heard_text=evil[:50], error=evil),
    )
    api.insert(tables.response, response(1, response_id=evil[:500], reason=evil))
    api.insert(tables.decision, decision(policy=evil[:100], match=evil, detail=evil, trigger=evil))
    api.insert(tables.gap, gap(2, "shed", lost_by_type='{"<img src=x>": 1}'))
    page = await read(api)
    assert "<script>alert" not in page
    assert "<img" not in page
    assert "49w" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "🧨" in page
    # what turns the direction of writing is told instead of done
    assert "\u202e" not in texts(page, "ol")[0]


async def test_very_long_texts_are_cut_and_say_so(api: Stage) -> None:
    add(api)
    api.insert(tables.item, item(1, text="x" * 50_000))
    page = await read(api, "/parts/transcript")
    assert "30,000 more characters are not shown here" in page
    assert len(page) < 25_000


async def test_a_purged_call_says_so_and_keeps_its_figures(api: Stage) -> None:
    add(api, purged_at=START + 80 * SECOND, completeness="complete_with_gaps")
    api.insert(tables.response, response(1, usage=Usage(input_tokens=30)))
    api.insert(tables.decision, decision(match=None, detail=None))
    api.insert(tables.gap, gap(2, "erased", lost=812))
    page = await read(api)
    assert texts(page.partition("verdict")[2].partition("</ul>")[0], "li") == [
        "Retention took its entries and its transcript away; sums and figures stay."
    ]
    assert "Retention took the entries and the transcript of this call away." in page
    assert "rto-timeline" not in page
    assert "no-refunds" in page
    assert "resp_1" in page


async def test_calls_that_are_not_there_are_told_apart(api: Stage) -> None:
    assert "There is no call of this id." in await read(api, status=404)
    add(api)
    assert "not_found" not in await read(api, "/parts/nonsense", status=404)
    gone = await api.delete("/api/v1/calls/rtc_1", key=api.make_key("admin"))
    assert gone.status == 204
    assert "erased" in await read(api, status=410)
    assert "erased" in await read(api, "/parts/transcript", status=410)


async def test_who_may_not_read_sees_nothing(api: Stage) -> None:
    add(api, user="anna")
    assert "anna" not in await read(api, status=403, key=api.make_key("metrics"))
    assert "anna" not in await read(api, "/parts/summary", status=403, key=api.make_key("metrics"))


async def test_an_open_page_is_one_row_a_minute_in_the_audit(api: Stage) -> None:
    add(api)
    admin = api.make_key("admin")

    async def deeds() -> list[str]:
        rows = (await api.get("/api/v1/audit?object=rtc_1", key=admin)).json["data"]
        return [row["action"] for row in rows]

    await read(api)
    for part in PARTS:
        await read(api, f"/parts/{part}")
    assert await deeds() == ["pages.call"]
    api.clock.ahead = 61.0
    await read(api, "/parts/summary")
    await read(api, "/parts/usage")
    assert await deeds() == ["pages.call_part", "pages.call"]
    await read(api, "/parts/summary", key=api.make_key("read"))
    assert await deeds() == ["pages.call_part", "pages.call_part", "pages.call"]
