"""An issuer's keys: how seldom they are fetched, and what an issuer in trouble does to callers."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from jwt.algorithms import RSAAlgorithm
from structlog.testing import capture_logs

from rtobserver.errors import RequestError
from rtobserver.web.issuer_keys import (
    COOLDOWN_SECONDS,
    DOCUMENT_CAP,
    EMPTY_COOLDOWN_SECONDS,
    FRESH_SECONDS,
    KEPT_SECONDS,
    KEYS_CAP,
    WAITING,
    IssuerKeys,
)
from tests.web.browsers import HandClock
from tests.web.issuer import Issuer, issuing, private_key, public_jwk
from tests.web.wire import until

CODING = "it answered with a coding that was not asked for"


@asynccontextmanager
async def known(issuer: Issuer, clock: HandClock, *algorithms: str) -> AsyncIterator[IssuerKeys]:
    keys = IssuerKeys(f"{issuer.url}/keys", algorithms=algorithms or ("RS256",), clock=clock)
    app = web.Application()
    keys.install(app)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        yield keys
    finally:
        await runner.cleanup()


async def unavailable(keys: IssuerKeys, kid: str = "k1") -> RequestError:
    with pytest.raises(RequestError) as caught:
        await keys.find(kid, "RS256")
    assert (caught.value.status, caught.value.code) == (503, "issuer_unavailable")
    return caught.value


async def test_keys_are_fetched_once_and_known_from_then_on() -> None:
    async with issuing() as issuer, known(issuer, HandClock()) as keys:
        for _ in range(20):
            assert await keys.find("k1", "RS256") is not None
        assert issuer.fetches == ["/keys"]


async def test_who_comes_first_waits_for_the_keys() -> None:
    async with issuing() as issuer:
        issuer.open.clear()
        async with known(issuer, HandClock()) as keys, asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(keys.find("k1", "RS256"), name=f"asks {n}") for n in range(5)]
            await until(lambda: bool(issuer.fetches))
            assert not any(task.done() for task in asked)
            issuer.open.set()
        assert all(task.result() is not None for task in asked)
        assert len(issuer.fetches) == 1


async def test_a_key_that_the_issuer_has_begun_to_use_is_found() -> None:
    clock = HandClock()
    async with issuing() as issuer, known(issuer, clock) as keys:
        assert await keys.find("k1", "RS256")
        clock.seconds += round(COOLDOWN_SECONDS)
        issuer.keys = [public_jwk("k2")]
        assert await keys.find("k2", "RS256")
        assert await keys.find("k1", "RS256") is None


async def test_thousands_of_unknown_keys_cause_one_fetch_in_half_a_minute() -> None:
    clock = HandClock()
    async with issuing() as issuer, known(issuer, clock) as keys:
        assert await keys.find("k1", "RS256")
        began = time.monotonic()
        for second in range(10):
            for n in range(500):
                assert await keys.find(f"random-{second}-{n}", "RS256") is None
            clock.seconds += 1
            assert await keys.find("k1", "RS256")
        assert len(issuer.fetches) == 1
        assert time.monotonic() - began < 5
        clock.seconds += 30
        for n in range(500):
            assert await keys.find(f"later-{n}", "RS256") is None
        assert len(issuer.fetches) == 2


async def test_an_issuer_that_hangs_holds_up_few_and_none_whose_key_is_known() -> None:
    clock = HandClock()
    async with issuing() as issuer, known(issuer, clock) as keys:
        assert await keys.find("k1", "RS256")
        clock.seconds += round(COOLDOWN_SECONDS)
        issuer.open.clear()
        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(keys.find(f"random-{n}", "RS256"), name=f"asks {n}") for n in range(1000)]
            await until(lambda: len(issuer.fetches) == 2)
            assert sum(not task.done() for task in asked) == WAITING
            assert await keys.find("k1", "RS256")
            issuer.open.set()
        assert len(issuer.fetches) == 2
        assert all(task.result() is None for task in asked)


@pytest.mark.parametrize(
    ("trouble", "problem"),
    [
        ({"status": 500}, "it answered 500"),
        ({"status": 302, "headers": {"Location": "/elsewhere"}}, "it answered 302"),
        ({"status": 404}, "it answered 404"),
        ({"body": b"x" * (DOCUMENT_CAP + 1)}, f"its document is larger than {DOCUMENT_CAP} bytes"),
        (
            {"body": b"\x1f\x8b", "headers": {"Content-Encoding": "gzip"}},
            "it answered with a coding that was not asked for",
        ),
        ({"body": b"<html>"}, "its document is no JSON"),
        ({"body": b"[" * 100_000}, "its document is no JSON"),
        ({"body": b"[]"}, "its document has no key that signs with one of `algorithms`"),
        ({"body": b'{"keys": {}}'}, "its document has no key that signs with one of `algorithms`"),
        ({"body": b'{"keys": []}'}, "its document has no key that signs with one of `algorithms`"),
    ],
)
async def test_an_issuer_in_trouble_takes_no_known_key_away(trouble: dict[str, Any], problem: str) -> None:
    clock = HandClock()
    async with issuing() as issuer, known(issuer, clock) as keys:
        assert await keys.find("k1", "RS256")
        for name, value in trouble.items():
            setattr(issuer, name, value)
        clock.seconds += round(FRESH_SECONDS) + 1
        with capture_logs() as logged:
            assert await keys.find("k1", "RS256")
            refused = await unavailable(keys, "k2")
        assert refused.retry_after == COOLDOWN_SECONDS
        assert logged == [{"event": "issuer_keys_not_fetched", "problem": problem, "kept": 1, "log_level": "warning"}]
        assert issuer.fetches == ["/keys", "/keys"]
        assert await keys.find("k1", "RS256")


async def test_without_any_key_nobody_can_be_told_from_anybody_for_a_few_seconds() -> None:
    clock = HandClock()
    async with issuing() as issuer:
        issuer.status = 503
        async with known(issuer, clock) as keys:
            assert (await unavailable(keys)).retry_after == EMPTY_COOLDOWN_SECONDS
            issuer.status = 200
            await unavailable(keys)
            assert len(issuer.fetches) == 1
            clock.seconds += round(EMPTY_COOLDOWN_SECONDS)
            assert await keys.find("k1", "RS256")


async def test_nobody_there_is_said_like_any_other_trouble() -> None:
    async with issuing() as issuer:
        gone = Issuer(url=issuer.url)
    async with known(gone, HandClock()) as keys:
        await unavailable(keys)


async def test_keys_are_fetched_again_in_time_and_a_withdrawn_one_is_believed_no_more() -> None:
    clock = HandClock()
    async with issuing() as issuer, known(issuer, clock) as keys:
        assert await keys.find("k1", "RS256")
        issuer.keys = [public_jwk("k2")]
        clock.seconds += round(FRESH_SECONDS) + 1
        # nobody waits for the fetch that this begins
        assert await keys.find("k1", "RS256")
        await until(lambda: len(issuer.fetches) == 2)
        assert await keys.find("k2", "RS256")
        assert await keys.find("k1", "RS256") is None


async def test_keys_of_an_issuer_that_is_gone_are_believed_for_a_day() -> None:
    clock = HandClock()
    async with issuing() as issuer, known(issuer, clock) as keys:
        assert await keys.find("k1", "RS256")
        issuer.status = 500
        clock.seconds += round(KEPT_SECONDS)
        assert await keys.find("k1", "RS256")
        clock.seconds += 1
        await unavailable(keys)


@pytest.mark.parametrize(
    "written",
    [
        public_jwk("k1") | {"use": "enc"},
        public_jwk("k1") | {"key_ops": ["encrypt"]},
        public_jwk("k1") | {"alg": "RS512"},
        public_jwk("k1") | {"kid": 1},
        public_jwk("k1") | {"n": "!"},
        public_jwk("k1") | {"n": 1},
        public_jwk("k1") | {"kty": "oct", "k": "c2VjcmV0"},
        public_jwk("k1") | {"kty": "EC"},
        public_jwk("k1", "P-256"),
        {name: value for name, value in public_jwk("k1").items() if name != "n"},
        {name: value for name, value in public_jwk("k1").items() if name != "kid"},
        "k1",
        None,
    ],
)
async def test_what_is_no_key_for_signatures_is_passed_over(written: Any) -> None:
    async with issuing() as issuer:
        issuer.keys = [written, public_jwk("k2")]
        async with known(issuer, HandClock()) as keys:
            assert await keys.find("k2", "RS256")
            assert await keys.find("k1", "RS256") is None


async def test_a_curve_belongs_to_one_algorithm() -> None:
    async with issuing() as issuer:
        issuer.keys = [public_jwk("k1", "P-256"), public_jwk("k2", "P-384")]
        async with known(issuer, HandClock(), "ES256", "ES384") as keys:
            assert await keys.find("k1", "ES256")
            assert await keys.find("k2", "ES384")
            assert await keys.find("k1", "ES384") is None


async def test_a_private_key_that_somebody_published_is_not_used() -> None:
    async with issuing() as issuer:
        leaked = json.loads(RSAAlgorithm.to_jwk(private_key("k1")))
        issuer.keys = [{**leaked, "kid": "k1", "key_ops": ["verify"]}, public_jwk("k2")]
        async with known(issuer, HandClock()) as keys:
            assert await keys.find("k2", "RS256")
            assert await keys.find("k1", "RS256") is None


async def test_only_so_many_keys_are_looked_at() -> None:
    async with issuing() as issuer:
        same = public_jwk("k1")
        issuer.keys = [same | {"kid": f"n{n}"} for n in range(KEYS_CAP + 1)]
        async with known(issuer, HandClock()) as keys:
            assert await keys.find(f"n{KEYS_CAP - 1}", "RS256")
            assert await keys.find(f"n{KEYS_CAP}", "RS256") is None


async def test_a_document_of_the_largest_size_does_not_stop_the_loop() -> None:
    same = public_jwk("k1")
    filling = "x" * (DOCUMENT_CAP // KEYS_CAP - 600)
    async with issuing() as issuer:
        issuer.keys = [same | {"kid": f"n{n}", "x5c": [filling]} for n in range(KEYS_CAP)]
        gaps: list[float] = []
        async with known(issuer, HandClock(), "RS256", "RS384", "RS512") as keys, asyncio.TaskGroup() as tasks:
            found = tasks.create_task(keys.find("n0", "RS256"), name="asks")
            last = time.monotonic()
            while not found.done():
                await asyncio.sleep(0)
                now = time.monotonic()
                gaps.append(now - last)
                last = now
        assert found.result() is not None
        assert max(gaps) < 0.25


async def test_an_application_ends_while_a_fetch_hangs() -> None:
    async with issuing() as issuer:
        issuer.open.clear()
        async with asyncio.timeout(5), known(issuer, HandClock()):
            await until(lambda: bool(issuer.fetches))
