import asyncio
import gc
import gzip
import json
import resource
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from rtobserver.config.sections import Secret, Upstream
from rtobserver.errors import (
    CredentialError,
    UpstreamBroken,
    UpstreamError,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from rtobserver.upstream.credentials import ApiKey
from rtobserver.upstream.endpoints import Endpoints
from rtobserver.upstream.rest import Answer, AnswerBroken, AnswerLate, ClientSecret, Rest
from tests.upstream.raw_peer import HandClock, Peer, Step, answer, cut, flood, peer, raw, silence

KEY = "canary-key-7f3a"
EK = Secret("ek_canary-9b1c")
OFFER = b"v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\na=ice-pwd:canary-ice\r\n"
SDP = b"v=0\r\no=- 3 4 IN IP4 127.0.0.1\r\n"
MINTED = json.dumps(
    {"value": "ek_new", "expires_at": 1795400060, "session": {"type": "realtime", "model": "m"}}
).encode()
LOCATION = ("Location", "/v1/realtime/calls/rtc_1")
REDIRECTS = (300, 301, 302, 303, 304, 307, 308)


class Renewed:
    """A credential that counts its refreshes and shows them in its header."""

    def __init__(self) -> None:
        self.refreshes = 0
        self.failures = 0

    async def headers(self) -> dict[str, str]:
        if self.failures:
            self.failures -= 1
            raise CredentialError("no token")
        return {"Authorization": f"Bearer token-{self.refreshes}"}

    async def refresh(self) -> None:
        self.refreshes += 1

    async def close(self) -> None:
        pass


@pytest.fixture
async def upstream() -> AsyncIterator[Peer]:
    async with peer() as made:
        yield made


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@asynccontextmanager
async def rest_to(
    url: str, clock: HandClock, credentials: Renewed | None = None, *, timeout: float = 10.0, proxy: str = ""
) -> AsyncIterator[Rest]:
    section = Upstream(provider="azure", base_url=url, auth="api-key", api_key=Secret(KEY), proxy=proxy)
    async with Rest(
        Endpoints(url, "azure"),
        credentials or ApiKey("azure", Secret(KEY)),
        section,
        clock,
        jitter=lambda: 0.0,
        connect_timeout=timeout,
        request_timeout=timeout,
    ) as rest:
        yield rest


@pytest.fixture
async def rest(upstream: Peer, clock: HandClock) -> AsyncIterator[Rest]:
    async with rest_to(upstream.url, clock) as made:
        yield made


def mint(rest: Rest) -> Awaitable[ClientSecret]:
    return rest.create_client_secret({"type": "realtime", "model": "m"}, 60)


def call(rest: Rest) -> Awaitable[Answer]:
    return rest.create_call(EK, OFFER, webrtcfilter=False)


def hang_up(rest: Rest) -> Awaitable[bool]:
    return rest.hang_up("rtc_1")


each_request = pytest.mark.parametrize("ask", [mint, call, hang_up])
Ask = Callable[[Rest], Awaitable[object]]


# --- what is sent and what is taken


async def test_minting_sends_the_session_and_our_own_time_to_live(rest: Rest, upstream: Peer) -> None:
    upstream.will(answer(200, MINTED, [("apim-request-id", "req-1"), ("x-request-id", "req-2")]))

    secret = await rest.create_client_secret({"type": "realtime", "instructions": "Grüße"}, 59.5)

    assert secret == ClientSecret(Secret("ek_new"), 1795400060, {"type": "realtime", "model": "m"}, "req-1")
    [asked] = upstream.asked
    assert asked.line == "POST /openai/v1/realtime/client_secrets HTTP/1.1"
    assert asked.headers["api-key"] == KEY
    assert asked.headers["content-type"] == "application/json"
    assert asked.headers["accept-encoding"] == "identity"
    assert asked.json == {
        "expires_after": {"anchor": "created_at", "seconds": 60},
        "session": {"type": "realtime", "instructions": "Grüße"},
    }


@pytest.mark.parametrize(("asked", "sent"), [(1.0, 10), (10.2, 11), (7200.0, 7200), (86400.0, 7200)])
async def test_a_time_to_live_is_brought_within_what_upstream_takes(
    rest: Rest, upstream: Peer, asked: float, sent: int
) -> None:
    upstream.will(answer(200, MINTED))

    await rest.create_client_secret({}, asked)

    assert upstream.asked[0].json["expires_after"]["seconds"] == sent


async def test_an_offer_is_sent_byte_for_byte_with_the_client_secret_alone(rest: Rest, upstream: Peer) -> None:
    offer = OFFER + b"\x00\xff\n\r"
    upstream.will(answer(201, SDP, [LOCATION, ("Content-Type", "text/plain; charset=utf-8")]))

    got = await rest.create_call(EK, offer, webrtcfilter=True)

    assert got == Answer(SDP, ("/v1/realtime/calls/rtc_1",), "")
    [asked] = upstream.asked
    assert asked.line == "POST /openai/v1/realtime/calls?webrtcfilter=on HTTP/1.1"
    assert asked.body == offer
    assert asked.headers["authorization"] == f"Bearer {EK.reveal()}"
    assert asked.headers["content-type"] == "application/sdp"
    assert "api-key" not in asked.headers


async def test_every_location_is_given(rest: Rest, upstream: Peer) -> None:
    upstream.will(answer(201, SDP, [LOCATION, ("location", "/v1/realtime/calls/rtc_2")]), answer(201, SDP))

    assert (await call(rest)).locations == ("/v1/realtime/calls/rtc_1", "/v1/realtime/calls/rtc_2")
    assert (await call(rest)).locations == ()


async def test_hanging_up_sends_nothing_but_the_id(rest: Rest, upstream: Peer) -> None:
    upstream.will(answer(200), answer(404, b'{"error":{"code":"call_id_not_found"}}'))

    assert await rest.hang_up("rtc_1") is True
    assert await rest.hang_up("rtc_1") is False
    assert [asked.line for asked in upstream.asked] == ["POST /openai/v1/realtime/calls/rtc_1/hangup HTTP/1.1"] * 2
    assert upstream.asked[0].headers["content-length"] == "0"
    assert "content-type" not in upstream.asked[0].headers


async def test_one_connection_serves_a_whole_negotiation(rest: Rest, upstream: Peer) -> None:
    upstream.will(answer(200, MINTED), answer(201, SDP), answer(200))

    await mint(rest)
    await call(rest)
    await hang_up(rest)

    assert upstream.opened == 1


async def test_cookies_are_neither_kept_nor_sent(rest: Rest, upstream: Peer) -> None:
    upstream.will(answer(200, MINTED, [("Set-Cookie", "a=b; Path=/")]), answer(200, MINTED))

    await mint(rest)
    await mint(rest)

    assert "cookie" not in upstream.asked[1].headers


# --- refusals


@each_request
@pytest.mark.parametrize("status", [400, 402, 409, 410, 422, 451])
async def test_a_4xx_is_a_refusal_with_upstreams_own_words(rest: Rest, upstream: Peer, ask: Ask, status: int) -> None:
    upstream.will(answer(status, b'{"error":{"code":"invalid_offer","message":"Cannot be read."}}'))

    with pytest.raises(UpstreamRefused) as caught:
        await ask(rest)

    assert (caught.value.status, caught.value.code, caught.value.message) == (
        status,
        "invalid_offer",
        "Cannot be read.",
    )
    assert len(upstream.asked) == 1


@each_request
@pytest.mark.parametrize("status", [401, 403])
async def test_what_upstream_says_of_a_credential_is_never_passed_on(
    upstream: Peer, clock: HandClock, ask: Ask, status: int
) -> None:
    body = f'{{"error":{{"code":"invalid_api_key","message":"Incorrect API key: {KEY[:6]}***{KEY[-4:]}"}}}}'.encode()
    upstream.will(*[answer(status, body)] * 2)

    async with rest_to(upstream.url, clock) as rest:
        with pytest.raises(UpstreamRefused) as caught:
            await ask(rest)

    assert (caught.value.status, caught.value.code, caught.value.message) == (status, "invalid_api_key", "")


@pytest.mark.parametrize("ask", [mint, hang_up])
@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_credential_is_refreshed_once_and_the_request_sent_once_more(
    upstream: Peer, clock: HandClock, ask: Ask, status: int
) -> None:
    credentials = Renewed()
    upstream.will(answer(status), answer(200, MINTED), answer(status), answer(status))

    async with rest_to(upstream.url, clock, credentials) as rest:
        await ask(rest)
        assert [asked.headers["authorization"] for asked in upstream.asked] == ["Bearer token-0", "Bearer token-1"]
        with pytest.raises(UpstreamRefused):
            await ask(rest)

    assert len(upstream.asked) == 4
    assert credentials.refreshes == 2


async def test_a_refused_client_secret_is_nothing_that_a_refresh_helps(upstream: Peer, clock: HandClock) -> None:
    credentials = Renewed()
    upstream.will(answer(401))

    async with rest_to(upstream.url, clock, credentials) as rest:
        with pytest.raises(UpstreamRefused):
            await call(rest)

    assert len(upstream.asked) == 1
    assert credentials.refreshes == 0


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("1000000000", 60.0),
        ("Mon, 23 Nov 2026 02:13:30 GMT", 10.0),
        ("Sun, 22 Nov 2026 00:00:00 GMT", 0.0),
        ("some day", None),
        ("-1", None),
    ],
)
@pytest.mark.parametrize("ask", [mint, call])
async def test_a_429_carries_upstreams_own_wait(
    rest: Rest, upstream: Peer, ask: Ask, header: str, seconds: float | None
) -> None:
    upstream.will(answer(429, b"{}", [("Retry-After", header)]))

    with pytest.raises(UpstreamRefused) as caught:
        await ask(rest)

    assert (caught.value.status, caught.value.retry_after) == (429, seconds)
    assert len(upstream.asked) == 1


async def test_a_refusal_that_quotes_the_client_secret_or_the_offer_loses_its_words(rest: Rest, upstream: Peer) -> None:
    for said in (EK.reveal(), "line 3: a=ice-pwd:canary-ice"):
        upstream.will(answer(400, json.dumps({"error": {"code": "invalid_offer", "message": said}}).encode()))
        with pytest.raises(UpstreamRefused) as caught:
            await call(rest)
        assert (caught.value.code, caught.value.message) == ("invalid_offer", "")


# --- failures


@pytest.mark.parametrize("ask", [mint, call])
@pytest.mark.parametrize("status", [500, 502, 503, 504, 599])
async def test_a_5xx_is_unavailable_and_not_tried_again(rest: Rest, upstream: Peer, ask: Ask, status: int) -> None:
    upstream.will(answer(status, b"<html>", [("Retry-After", "3")]))

    with pytest.raises(UpstreamUnavailable) as caught:
        await ask(rest)

    assert (caught.value.status, caught.value.retry_after) == (status, 3.0)
    assert len(upstream.asked) == 1


@each_request
@pytest.mark.parametrize("status", REDIRECTS)
async def test_no_redirect_is_followed(upstream: Peer, rest: Rest, ask: Ask, status: int) -> None:
    async with peer() as elsewhere:
        upstream.will(answer(status, b"", [("Location", f"{elsewhere.url}/realtime/calls")]))

        with pytest.raises(UpstreamUnavailable) as caught:
            await ask(rest)

        assert elsewhere.opened == 0
    assert caught.value.status == status
    assert len(upstream.asked) == 1


@each_request
async def test_a_port_where_nobody_listens_is_unavailable(clock: HandClock, ask: Ask) -> None:
    async with peer() as gone:
        url = gone.url

    async with rest_to(url, clock) as rest:
        with pytest.raises(UpstreamUnavailable, match="no connection"):
            await ask(rest)


async def test_a_name_that_does_not_resolve_is_unavailable(clock: HandClock) -> None:
    async with rest_to("http://nowhere.invalid/v1", clock) as rest:
        with pytest.raises(UpstreamUnavailable, match="no connection"):
            await call(rest)


@each_request
async def test_no_answer_in_time_is_a_time_out(upstream: Peer, clock: HandClock, ask: Ask) -> None:
    upstream.will(*[silence] * 3)

    async with rest_to(upstream.url, clock, timeout=0.05) as rest:
        with pytest.raises(UpstreamTimeout):
            await ask(rest)


async def test_a_connection_that_is_never_accepted_is_a_time_out(clock: HandClock) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        # A backlog of none takes one connection; the kernel leaves the next ones unanswered.
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
            fillers.append(filler)
        async with rest_to(f"http://127.0.0.1:{listener.getsockname()[1]}/v1", clock, timeout=0.2) as rest:
            with pytest.raises(UpstreamTimeout):
                await call(rest)
        for filler in fillers:
            filler.close()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'"ek_x"',
        b"<html>",
        b'{"value":""}',
        b'{"value":5}',
        b'{"value":"ek_\\r\\nX: y"}',
        b'{"value":"ek_ x"}',
        b'{"value":"ek_\\u00e9"}',
        b"[" * 100_000,
    ],
)
async def test_a_mint_without_a_usable_secret_is_broken(rest: Rest, upstream: Peer, body: bytes) -> None:
    upstream.will(answer(200, body))

    with pytest.raises(UpstreamBroken):
        await mint(rest)


@pytest.mark.parametrize("expires_at", ["null", '"soon"', "true", "-1", "1e300"])
async def test_an_expiry_that_makes_no_sense_is_reckoned_from_our_own(
    rest: Rest, upstream: Peer, expires_at: str
) -> None:
    upstream.will(answer(200, f'{{"value":"opaque","expires_at":{expires_at},"session":[]}}'.encode()))

    secret = await mint(rest)

    assert (secret.value.reveal(), secret.expires_at, secret.session) == ("opaque", 1795400060, {})


@pytest.mark.parametrize(
    "step",
    [
        answer(200, SDP, [LOCATION]),
        answer(202, SDP, [LOCATION]),
        answer(204, b"", [LOCATION]),
        answer(201, b"", [LOCATION]),
        answer(201, b"<html>", [LOCATION]),
        answer(201, b'"v=0"', [LOCATION]),
        answer(201, gzip.compress(SDP), [LOCATION, ("Content-Encoding", "gzip")]),
        answer(201, b"v=0" + b"x" * (64 * 1024), [LOCATION]),
        cut(b"HTTP/1.1 201 Created\r\nContent-Length: 900\r\nLocation: /v1/realtime/calls/rtc_1\r\n\r\nv=0"),
    ],
    ids=["200", "202", "204", "empty", "html", "quoted", "gzip", "long", "cut"],
)
async def test_only_a_201_with_a_description_passes_and_the_call_is_still_named(
    rest: Rest, upstream: Peer, step: Step
) -> None:
    upstream.will(step)

    with pytest.raises(AnswerBroken) as caught:
        await call(rest)

    assert caught.value.locations == ("/v1/realtime/calls/rtc_1",)
    assert len(upstream.asked) == 1


async def test_an_answer_of_exactly_the_bound_passes(rest: Rest, upstream: Peer) -> None:
    whole = b"v=0" + b"x" * (64 * 1024 - 3)
    upstream.will(answer(201, whole))

    assert (await call(rest)).sdp == whole


async def test_an_answer_that_begins_and_does_not_end_still_names_its_call(upstream: Peer, clock: HandClock) -> None:
    upstream.will(raw(b"HTTP/1.1 201 Created\r\nContent-Length: 900\r\nLocation: /x/rtc_1\r\n\r\nv=0"))

    async with rest_to(upstream.url, clock, timeout=0.1) as rest:
        with pytest.raises(AnswerLate) as caught:
            await call(rest)

    assert caught.value.locations == ("/x/rtc_1",)


@pytest.mark.parametrize("status", [201, 200, 400, 503])
async def test_an_endless_answer_costs_no_memory(rest: Rest, upstream: Peer, status: int) -> None:
    head = f"HTTP/1.1 {status} X\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    chunk = b"10000\r\n" + b"v=0 " * 16384 + b"\r\n"
    upstream.will(flood(head, chunk, 800))
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    with pytest.raises(UpstreamError):
        await call(rest)

    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 4096


async def test_a_bomb_is_not_inflated(rest: Rest, upstream: Peer) -> None:
    bomb = gzip.compress(b"v=0" + b"\0" * (50 << 20))
    upstream.will(answer(201, bomb, [("Content-Encoding", "gzip")]))
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    with pytest.raises(UpstreamBroken):
        await call(rest)

    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 4096


@each_request
async def test_an_answer_that_is_no_http_is_a_failure(rest: Rest, upstream: Peer, ask: Ask) -> None:
    upstream.will(*[cut(b"SSH-2.0-OpenSSH\r\n\r\n")] * 6)

    with pytest.raises(UpstreamUnavailable):
        await ask(rest)


# --- what may be sent twice


async def test_an_offer_that_was_sent_is_never_sent_again(rest: Rest, upstream: Peer) -> None:
    upstream.will(cut(), answer(201, SDP))

    with pytest.raises(UpstreamUnavailable):
        await call(rest)

    assert len(upstream.asked) == 1


@pytest.mark.parametrize("ask", [mint, hang_up])
async def test_what_creates_nothing_is_sent_again_when_its_connection_broke(
    rest: Rest, upstream: Peer, ask: Ask
) -> None:
    upstream.will(cut(), answer(200, MINTED))

    await ask(rest)

    assert len(upstream.asked) == 2


async def test_a_connection_that_could_not_be_opened_is_tried_once_more(clock: HandClock) -> None:
    opened = 0

    def turn_away(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal opened
        opened += 1
        writer.close()

    server = await asyncio.start_server(turn_away, "127.0.0.1", 0)
    # TLS is part of opening, so that closing before it is a failure to open.
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    async with server, rest_to(url, clock) as rest:
        with pytest.raises(UpstreamUnavailable, match="no connection"):
            await call(rest)

    assert opened == 2


# --- hanging up, again


async def test_hanging_up_tries_three_times_with_growing_waits(rest: Rest, upstream: Peer, clock: HandClock) -> None:
    upstream.will(answer(500), answer(503), answer(200))

    assert await hang_up(rest) is True
    assert clock.slept == [0.25, 0.5]


async def test_hanging_up_gives_in_after_three_tries(rest: Rest, upstream: Peer) -> None:
    upstream.will(*[answer(500)] * 4)

    with pytest.raises(UpstreamUnavailable):
        await hang_up(rest)

    assert len(upstream.asked) == 3


async def test_hanging_up_waits_as_long_as_it_is_told(rest: Rest, upstream: Peer, clock: HandClock) -> None:
    upstream.will(answer(429, b"", [("Retry-After", "7")]), answer(503, b"", [("Retry-After", "99999")]), answer(404))

    assert await hang_up(rest) is False
    assert clock.slept == [7.0, 60.0]


async def test_a_call_that_is_gone_on_the_second_try_was_over(rest: Rest, upstream: Peer) -> None:
    upstream.will(cut(), cut(), answer(404))

    assert await hang_up(rest) is False


async def test_hanging_up_outlives_a_missing_token(upstream: Peer, clock: HandClock) -> None:
    credentials = Renewed()
    credentials.failures = 2
    upstream.will(answer(200))

    async with rest_to(upstream.url, clock, credentials) as rest:
        assert await hang_up(rest) is True
        credentials.failures = 3
        with pytest.raises(CredentialError):
            await hang_up(rest)


# --- proxies and secrecy


@each_request
async def test_proxies_of_the_environment_are_not_used(
    upstream: Peer, clock: HandClock, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with peer() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "https_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        upstream.will(answer(400))
        async with rest_to(upstream.url, clock) as rest:
            with pytest.raises(UpstreamRefused):
                await ask(rest)
        assert proxy.opened == 0


async def test_a_configured_proxy_is_used(upstream: Peer, clock: HandClock) -> None:
    async with peer() as proxy:
        proxy.will(answer(201, SDP))
        async with rest_to(upstream.url, clock, proxy=f"http://127.0.0.1:{proxy.port}") as rest:
            await call(rest)
        assert proxy.asked[0].line == f"POST {upstream.url}/realtime/calls HTTP/1.1"
    assert upstream.opened == 0


async def test_a_proxy_that_refuses_is_unavailable_and_sees_no_credential(clock: HandClock) -> None:
    async with peer() as proxy:
        proxy.will(answer(407))
        address = f"http://user:canary@127.0.0.1:{proxy.port}"
        async with rest_to("https://127.0.0.1:1/v1", clock, proxy=address) as rest:
            with pytest.raises(UpstreamUnavailable, match="407") as caught:
                await call(rest)

        assert EK.reveal().encode() not in proxy.asked[0].raw
        assert "canary" not in str(caught.value)


@each_request
@pytest.mark.parametrize(
    "step",
    [
        answer(400, f'{{"error":{{"message":"{KEY} {EK.reveal()}"}}}}'.encode()),
        answer(401, KEY.encode()),
        answer(500, KEY.encode()),
        answer(302, b"", [("Location", f"http://x/{KEY}")]),
        answer(200, KEY.encode()),
        cut(),
    ],
    ids=["400", "401", "500", "302", "200", "cut"],
)
async def test_no_error_repeats_a_secret(rest: Rest, upstream: Peer, ask: Ask, step: Step) -> None:
    upstream.will(*[step] * 6)
    told = ""
    try:
        told = repr(await ask(rest))
    except UpstreamError as caught:
        chain: BaseException | None = caught
        while chain is not None:
            told += f"{chain!r} {chain} "
            chain = chain.__cause__ or (None if chain.__suppress_context__ else chain.__context__)

    assert KEY not in told
    assert EK.reveal() not in told
    assert "canary" not in told


async def test_values_do_not_show_what_they_hold() -> None:
    secret = ClientSecret(Secret("ek_x"), 1, {"instructions": "canary"}, "r")

    assert "ek_x" not in repr(secret)
    assert "canary" not in repr(secret)
    assert "canary" not in repr(Answer(b"canary", (), "r"))


async def test_it_must_be_entered_before_use(clock: HandClock) -> None:
    section = Upstream(provider="openai", base_url="http://127.0.0.1:1/v1", auth="api-key")
    rest = Rest(Endpoints(section.base_url, "openai"), Renewed(), section, clock)

    with pytest.raises(RuntimeError):
        await mint(rest)
