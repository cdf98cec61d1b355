from __future__ import annotations

import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rtobserver.realtime.transcript import Line
from rtobserver.web.transcript_texts import as_markdown, as_subrip, as_text, as_webvtt

BEGAN = 1_795_000_000_000_000
SECOND = 1_000_000


def line(text: str, second: float | None = 1, *, until: float | None = None, **values: Any) -> Line:
    fields: dict[str, Any] = {
        "item_id": "i1", "response_id": None, "role": "user", "heard_text": None, "heard_confidence": None,
        "status": "completed", "interrupted": False, "kind": "speech", "tool_name": None,
    } | values  # fmt: skip
    end = until if until is not None else second
    return Line(
        text=text,
        started_at=None if second is None else BEGAN + round(second * SECOND),
        ended_at=None if end is None else BEGAN + round(end * SECOND),
        **fields,
    )


TALK = [
    line("Weather in\nOslo?", 1, until=3.25),
    line('{"city":"Oslo"}', 4, kind="tool_call", role="assistant", tool_name="get_weather"),
    line("rain", 4.5, kind="tool_output", role="tool", tool_name="get_weather"),
    line("It rains <b>a lot</b> & more", 3700, until=3702, role="assistant", heard_text="It rains", interrupted=True),
    line("Never heard", 3703, role="assistant", heard_text="", interrupted=True),
    line("", 3704, status="failed"),
]


def test_plain_text_has_a_paragraph_for_each_line() -> None:
    assert as_text(TALK, BEGAN) == (
        "[00:00:01.000] User: Weather in\n    Oslo?\n"
        '[00:00:04.000] Tool call get_weather: {"city":"Oslo"}\n'
        "[00:00:04.500] Tool output get_weather: rain\n"
        "[01:01:40.000] Assistant: It rains [cut off]\n"
        "[01:01:43.000] Assistant: [cut off before it was heard]\n"
        "[01:01:44.000] User: [not transcribed]\n"
    )


def test_markdown_escapes_what_people_say_and_fences_what_tools_say() -> None:
    written = as_markdown([line("*No* <script> [x](y)"), line("a ``` b", kind="tool_output", role="tool")], BEGAN)
    assert written == (
        "**User** (00:00:01.000): \\*No\\* \\<script\\> \\[x\\]\\(y\\)\n\n"
        "**Tool output ?** (00:00:01.000)\n\n````\na ``` b\n````\n"
    )


def test_webvtt_has_cues_of_what_was_said_and_heard() -> None:
    assert as_webvtt(TALK, BEGAN) == (
        "WEBVTT\n\n"
        "1\n00:00:01.000 --> 00:00:03.250\n<v User>Weather in\nOslo?</v>\n\n"
        "2\n01:01:40.000 --> 01:01:42.000\n<v Assistant>It rains [cut off]</v>\n"
    )


def test_subrip_has_the_same_cues() -> None:
    assert as_subrip(TALK, BEGAN) == (
        "1\n00:00:01,000 --> 00:00:03,250\nUser: Weather in\nOslo?\n\n"
        "2\n01:01:40,000 --> 01:01:42,000\nAssistant: It rains [cut off]\n"
    )


def test_cues_begin_in_order_and_last_a_while() -> None:
    written = as_webvtt([line("late", 5), line("early", 2), line("before the call", -9), line("never", None)], BEGAN)
    assert re.findall(r"(\S+) --> (\S+)\n<v User>([^<]*)", written) == [
        ("00:00:00.000", "00:00:01.000", "before the call"),
        ("00:00:02.000", "00:00:03.000", "early"),
        ("00:00:05.000", "00:00:06.000", "late"),
    ]


said = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("<>&-{}\n\r\x0b\x85\u2028"), max_size=40)
spans = st.integers(-5_000, 9_000_000_000)
talks = st.lists(
    st.builds(
        lambda text, start, length, role: line(text, start / 1000, until=(start + length) / 1000, role=role),
        said, spans, st.integers(-1000, 60_000), st.sampled_from(["user", "assistant"]),
    ),
    max_size=6,
)  # fmt: skip
STAMP = r"\d{2,}:[0-5]\d:[0-5]\d[.,]\d{3}"


def ms(stamp: str) -> int:
    hours, minutes, rest = stamp.replace(",", ".").split(":")
    seconds, thousandths = rest.split(".")
    return ((int(hours) * 60 + int(minutes)) * 60 + int(seconds)) * 1000 + int(thousandths)


@given(talks)
def test_whatever_is_said_the_cues_stay_valid(lines: list[Line]) -> None:
    for written, header in ((as_webvtt(lines, BEGAN), "WEBVTT\n"), (as_subrip(lines, BEGAN), "")):
        assert written.startswith(header)
        assert not re.search(r"[\r\x00-\x08\x0b\x0c\x0e-\x1f]", written)
        blocks = [block for block in written.removeprefix(header).strip("\n").split("\n\n") if block]
        assert written.count("-->") == len(blocks)
        latest = 0
        for number, block in enumerate(blocks, start=1):
            name, times, *rows = block.split("\n")
            assert name == str(number)
            match = re.fullmatch(f"({STAMP}) --> ({STAMP})", times)
            assert match is not None
            assert latest <= ms(match[1]) < ms(match[2])
            latest = ms(match[1])
            assert rows
            assert all(rows)
            text = "\n".join(rows)
            if header:
                spoken = re.fullmatch(r"<v (User|Assistant)>([^<>]*)</v>", text)
                assert spoken is not None
                assert not re.search(r"&(?!amp;|lt;|gt;)", spoken[2])
            else:
                assert not re.search(r"[<>{}]", text)


@given(talks)
def test_plain_text_moves_no_terminals_cursor(lines: list[Line]) -> None:
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", as_text(lines, BEGAN) + as_markdown(lines, BEGAN))
