import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from rtobserver.config.sections import Secret, Upstream
from rtobserver.upstream.credentials import ApiKey
from rtobserver.upstream.endpoints import Endpoints
from rtobserver.upstream.pool import FRESH_SECONDS, KEEP_ALIVE_SECONDS
from rtobserver.upstream.rest import Rest
from tests.upstream.raw_peer import HandClock, Peer, answer, peer

MINTED = json.dumps({"value": "ek_new", "expires_at": 1795400060, "session": {}}).encode()
SDP = b"v=0\r\n"
Ask = Callable[[Rest], Awaitable[object]]


@pytest.fixture
async def upstream() -> AsyncIterator[Peer]:
    async with peer() as made:
        yield made


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
async def rest(upstream: Peer, clock: HandClock) -> AsyncIterator[Rest]:
    section = Upstream(provider="azure", base_url=upstream.url, auth="api-key")
    async with Rest(Endpoints(upstream.url, "azure"), ApiKey("azure", Secret("k")), section, clock) as made:
        yield made


async def mint(rest: Rest) -> object:
    return await rest.create_client_secret({}, 60)


async def call(rest: Rest) -> object:
    return await rest.create_call(Secret("ek_x"), b"v=0", webrtcfilter=True)


async def hang_up(rest: Rest) -> object:
    return await rest.hang_up("rtc_1")


async def test_an_offer_never_rides_on_a_connection_that_idled(rest: Rest, upstream: Peer, clock: HandClock) -> None:
    upstream.will(answer(200, MINTED), answer(201, SDP), answer(200, MINTED), answer(200, MINTED))

    await mint(rest)
    clock.elapsed += FRESH_SECONDS * 1.1
    await call(rest)
    clock.elapsed += FRESH_SECONDS * 1.1
    await mint(rest)

    assert [asked.connection for asked in upstream.asked] == [1, 2, 2]


async def test_of_many_idle_connections_an_offer_takes_the_one_just_used(
    rest: Rest, upstream: Peer, clock: HandClock
) -> None:
    upstream.will(*[answer(200, MINTED)] * 9, answer(201, SDP))
    await asyncio.gather(*(mint(rest) for _ in range(8)))
    clock.elapsed += FRESH_SECONDS * 1.1

    await mint(rest)
    await call(rest)

    assert upstream.opened == 8
    assert upstream.asked[-1].connection == upstream.asked[-2].connection


@pytest.mark.parametrize("ask", [mint, call, hang_up])
async def test_a_connection_that_upstream_closed_while_idle_is_not_used(
    rest: Rest, upstream: Peer, ask: Callable[[Rest], Awaitable[object]]
) -> None:
    upstream.will(answer(200, MINTED), answer(201, SDP) if ask is call else answer(200, MINTED))
    await mint(rest)
    upstream.writers[0].close()
    await upstream.writers[0].wait_closed()

    await ask(rest)

    assert len(upstream.asked) == upstream.opened == 2


async def test_no_connection_is_kept_for_more_than_a_minute(rest: Rest, upstream: Peer, clock: HandClock) -> None:
    upstream.will(*[answer(200, MINTED)] * 3)

    await mint(rest)
    clock.elapsed += KEEP_ALIVE_SECONDS - 1
    await mint(rest)
    clock.elapsed += KEEP_ALIVE_SECONDS + 1
    await mint(rest)

    assert [asked.connection for asked in upstream.asked] == [1, 1, 2]
