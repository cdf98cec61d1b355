import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtobserver.config import values
from rtobserver.config.sections import Bytes, Seconds, Secret
from rtobserver.config.values import Wrong


@given(st.integers(0, 10**5), st.integers(0, 999), st.sampled_from(["ms", "s", "m", "h"]))
def test_a_duration_survives_being_written_and_read_again(whole: int, thousandths: int, unit: str) -> None:
    seconds = values.parse_duration(f"{whole}.{thousandths:03}{unit}")
    assert values.parse_duration(values.format_duration(seconds)) == seconds


@given(st.integers(0, 1024**4))
def test_a_size_survives_being_written_and_read_again(size: int) -> None:
    assert values.parse_size(values.format_size(Bytes(size))) == size


@pytest.mark.parametrize(
    ("text", "seconds"), [("250ms", 0.25), ("20s", 20), ("30m", 1800), ("1.5h", 5400), ("7d", 604800), ("0s", 0)]
)
def test_durations_are_read_in_their_units(text: str, seconds: float) -> None:
    assert values.parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.25, "250ms"), (90, "90s"), (3600, "1h"), (86400 * 30, "30d"), (1e-6, "0.000001s")],
)
def test_durations_are_written_in_the_largest_unit_that_keeps_them_whole(seconds: float, text: str) -> None:
    assert values.format_duration(Seconds(seconds)) == text


@pytest.mark.parametrize(
    "text", ["", "5", "s", "5 s", "-5s", "+5s", "1h30m", "5S", "\u0665s", "1e3s", "99999999999d", ".5s"]
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(Wrong):
        values.parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"), [("0B", 0), ("64KiB", 65536), ("1.5MiB", 1572864), ("2kB", 2000), ("1GiB", 2**30)]
)
def test_sizes_are_read_in_their_units(text: str, size: int) -> None:
    assert values.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "64", "64K", "64kib", "-1B", "0.5B", "2000GiB", "1 MiB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(Wrong):
        values.parse_size(text)


def test_a_sealing_key_is_32_bytes_in_base64url() -> None:
    key = base64.urlsafe_b64encode(bytes(range(220, 252))).decode()
    assert values.sealing_key(Secret(key)) == Secret(key)
    assert values.sealing_key(Secret(key.rstrip("="))) == Secret(key.rstrip("="))
    assert values.sealing_key(None) is None


@pytest.mark.parametrize("key", ["", "é" * 43, "A" * 42, "A" * 45, "+" * 43, "A" * 20 + "\n" + "A" * 23])
def test_another_sealing_key_is_refused_without_being_repeated(key: str) -> None:
    with pytest.raises(Wrong) as caught:
        values.sealing_key(Secret(key))
    assert not key or key not in caught.value.problem


def test_a_browser_may_be_given_part_of_the_session_but_not_the_model() -> None:
    assert values.session_key("audio.output.voice") == "audio.output.voice"
    assert values.session_key("audio.input.transcription.model")
    for key in ("model", "type", "model.x", "", "a.", "a-b", "a b"):
        with pytest.raises(Wrong):
            values.session_key(key)


def test_what_a_message_repeats_is_short_and_printable() -> None:
    assert values.quoted("a\x1b[31m\n") == '"a\\u001b[31m\\u000a"'
    assert len(values.quoted("a" * 1000)) == 82
