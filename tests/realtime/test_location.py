import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rtobserver.realtime.location import call_id_from

ID = "rtc_u2_0aZ9bY8cX7dW6eV5fU4gT"
ids = st.from_regex(r"rtc_[A-Za-z0-9_-]{1,252}", fullmatch=True)


@pytest.mark.parametrize(
    "location",
    [
        f"/v1/realtime/calls/{ID}",
        f"/v1/realtime/calls/calls/{ID}",
        f"/openai/v1/realtime/calls/{ID}",
        f"https://res.openai.azure.com/openai/v1/realtime/calls/{ID}",
        f"https://res.openai.azure.com:443/v1/realtime/calls/{ID}?api-version=2025-08-28",
        f"//api.openai.com/v1/realtime/calls/{ID}#part",
        f"/v1/realtime/calls/{ID}/",
        f"{ID}",
        f" \t/v1/realtime/calls/{ID} ",
        f"/v1/realtime?call_id={ID}",
        f"wss://host/v1/realtime?model=m&call_id={ID}#part",
        f"/v1/realtime/calls/{ID}?call_id=rtc_other",
    ],
)
def test_every_form_that_vendors_and_gateways_send_gives_the_id(location: str) -> None:
    assert call_id_from([location]) == ID


@pytest.mark.parametrize(
    "location",
    [
        "",
        "/",
        "/v1/realtime/calls/",
        "/v1/realtime/calls/sess_1",
        "/v1/realtime/calls/rtc_",
        "/v1/realtime/calls/RTC_1",
        f"/v1/realtime/calls/{ID}&model=gpt-realtime",
        f"/v1/realtime/calls/{ID}%2F..",
        f"/v1/realtime/calls/{ID};a=b",
        f"/v1/realtime/calls/{ID}\\..\\x",
        f"/v1/realtime/calls/{ID}\n",
        f"/v1/realtime/calls/rtc_\t{ID}",
        f"/v1/realtime/calls/{ID}, /v1/realtime/calls/rtc_other",
        f"/v1/realtime/calls/{ID},/v1/realtime/calls/rtc_other",
        "/v1/realtime/calls/rtc_é",
        "/v1/realtime/calls/rtc_\udcff",
        "/v1/realtime/calls/rtc_\u0661",
        "/v1/realtime/calls/rtc_" + "a" * 253,
        "https://rtc_host/v1/realtime/calls/",
        "//rtc_host",
        f"https://[::1/{ID} x",
        f"/v1/realtime?call_id={ID}&call_id=rtc_other",
        "/v1/realtime?call_id=rtc_a%26model%3Dm",
        "/v1/realtime?" + "&".join(f"x{number}=1" for number in range(1000)),
    ],
)
def test_what_does_not_name_exactly_one_call_gives_none(location: str) -> None:
    assert call_id_from([location]) is None


@pytest.mark.parametrize("count", [0, 2, 3])
def test_any_number_of_headers_but_one_gives_none(count: int) -> None:
    assert call_id_from([f"/v1/realtime/calls/{ID}"] * count) is None


def test_the_longest_id_is_256_characters() -> None:
    longest = "rtc_" + "a" * 252

    assert call_id_from([f"/v1/realtime/calls/{longest}"]) == longest


@given(st.lists(st.text(), max_size=3))
@example(["http://[/rtc_a"])
@example(["/?" + "call_id=rtc_a&" * 50])
def test_no_header_raises_and_what_is_given_is_always_an_id(locations: list[str]) -> None:
    found = call_id_from(locations)

    assert found is None or re.fullmatch(r"rtc_[A-Za-z0-9_-]{1,252}", found)


@given(ids, st.sampled_from(["/v1/realtime/calls/", "https://h/openai/v1/realtime/calls/", "/v1/realtime?call_id="]))
def test_every_well_formed_id_is_found(call_id: str, prefix: str) -> None:
    assert call_id_from([prefix + call_id]) == call_id


@given(ids, st.text(st.characters(exclude_characters="?#/ \t"), min_size=1, max_size=4))
def test_nothing_that_is_stuck_to_an_id_is_dropped_from_it(call_id: str, tail: str) -> None:
    found = call_id_from([f"/v1/realtime/calls/{call_id}{tail}"])

    assert found in (None, call_id + tail)
