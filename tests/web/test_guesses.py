"""Who tries keys, and who has one beside him."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlencode

import aiohttp
import pytest

from rtobserver.errors import RequestError
from rtobserver.store import keys
from rtobserver.web.guesses import COUNTED, KNOWN, WRONG_PER_MINUTE, Guesses
from rtobserver.web.pages.login import FORM
from tests.web.browsers import HandClock
from tests.web.operator_stage import Stage, stage


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Stage]:
    async with stage(tmp_path) as opened:
        yield opened


def forged(key: str, number: int) -> str:
    """Make a key of the same id that only the database can tell from the right one."""
    return keys._with_checksum(f"{key[:14]}_{number:043d}")


async def guess(api: Stage, times: int = WRONG_PER_MINUTE) -> list[int]:
    return [(await api.get("/api/v1/calls", key=forged(api.key, n))).status for n in range(times)]


async def test_after_too_many_wrong_keys_none_is_looked_at_until_the_minute_is_over(api: Stage) -> None:
    assert set(await guess(api)) == {401}
    unused = api.make_key("read")
    for key in (forged(api.key, 7), unused, "nothing like a key"):
        answer = await api.get("/api/v1/calls", key=key)
        assert (answer.status, answer.code) == (429, "too_many_wrong_keys")
        assert 0 < int(answer.headers["Retry-After"]) <= 60
    api.clock.ahead += 61
    assert (await api.get("/api/v1/calls", key=unused)).status == 200


async def test_a_key_that_was_good_stays_good_beside_a_guesser(api: Stage) -> None:
    assert (await api.get("/api/v1/calls")).status == 200
    await guess(api)
    assert (await api.get("/api/v1/calls")).status == 200
    assert keys.revoke(api.path, api.key[4:14], now_us=api.clock.now_us())
    assert (await api.get("/api/v1/calls")).status == 401
    assert (await api.get("/api/v1/calls")).status == 429


async def test_nobody_elsewhere_notices(api: Stage) -> None:
    await guess(api)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(local_addr=("127.0.0.2", 0))) as elsewhere:
        headers = {"Authorization": f"Bearer {api.key}"}
        async with elsewhere.get(f"{api.url}/api/v1/calls", headers=headers) as answer:
            assert answer.status == 200


async def test_the_form_for_signing_in_is_no_way_around(api: Stage) -> None:
    await guess(api)
    body = urlencode({"key": forged(api.key, 1), "next": "/"}).encode()
    answer = await api.send("POST", "/login", body, Origin=api.url, Content_Type=FORM)
    assert answer.status == 429


async def test_who_shows_nothing_guesses_nothing(api: Stage) -> None:
    for _ in range(WRONG_PER_MINUTE + 1):
        assert (await api.get("/api/v1/calls", key="")).status == 401
    assert (await api.get("/api/v1/calls")).status == 200


def refused(guesses: Guesses, address: str, text: str = "x") -> bool:
    try:
        guesses.check(address, text)
    except RequestError:
        return True
    return False


def test_many_addresses_share_a_count_and_take_no_more_room() -> None:
    clock = HandClock()
    guesses = Guesses(clock)
    for number in range(COUNTED + WRONG_PER_MINUTE):
        guesses.was_wrong(f"a{number}", "x")
    assert refused(guesses, "somebody new")
    assert not refused(guesses, "a1")
    clock.seconds += 61
    assert not refused(guesses, "somebody new")
    guesses.was_wrong("somebody new", "x")
    assert not refused(guesses, "somebody new")


def test_so_many_keys_are_remembered_as_good_and_those_that_are_used_longest() -> None:
    guesses = Guesses(HandClock())
    for number in range(KNOWN):
        guesses.was_good(f"k{number}")
    guesses.was_good("k0")
    guesses.was_good("one more")
    for _ in range(WRONG_PER_MINUTE):
        guesses.was_wrong("a", "x")
    assert not refused(guesses, "a", "k0")
    assert not refused(guesses, "a", "one more")
    assert refused(guesses, "a", "k1")
