import asyncio
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai import APIStatusError, AsyncOpenAI, AuthenticationError
from structlog.testing import capture_logs

from rtobserver.config.sections import Bytes, FilePath, Public, PublicAuth
from rtobserver.errors import RequestError, UpstreamRefused
from rtobserver.negotiation import Answered
from rtobserver.web.connection import Patience
from tests.web.browsers import ANSWER, DEFAULT, MULTIPART, OFFER, SALES, form, json_of, serving
from tests.web.wire import connected, drip, exchange, parse, request, rest, until

PREFIXES = ["/openai/v1", "/v1"]
CALLS = [f"{prefix}/realtime/calls" for prefix in PREFIXES]
FORWARDED = Public(auth=PublicAuth(mode="forwarded", trusted_proxies=("127.0.0.0/8",), user_header="X-User"))
LABELS = '{"team":"blue"}'


# --- offers ----------------------------------------------------------------------------------------


async def test_the_articles_page_gets_its_answer() -> None:
    async with serving() as site:
        reply = await site.ask("POST", "/connect", form(('name="sdp"', OFFER)), Content_Type=MULTIPART)
        assert (reply.status, reply.body) == (201, ANSWER)
        assert reply.headers["content-type"] == "application/sdp"
        assert reply.headers["location"] == "/openai/v1/realtime/calls/rtc_1"
        assert site.ledger.offers[0].sdp == OFFER
        assert site.ledger.callers[0].profile is DEFAULT


@pytest.mark.parametrize("path", ["/connect", *CALLS])
async def test_a_raw_offer_gets_its_answer_and_the_place_of_its_call(path: str) -> None:
    async with serving() as site:
        reply = await site.call(path)
        assert (reply.status, reply.body) == (201, ANSWER)
        expected = CALLS[0] if path == "/connect" else path
        assert reply.headers["location"] == f"{expected}/rtc_1"
        assert reply.headers["cache-control"] == "no-store"
        assert site.ledger.offers[0].sdp == OFFER


async def test_a_call_without_an_id_is_answered_without_a_place() -> None:
    async with serving() as site:
        site.ledger.answer = Answered(sdp=ANSWER, call_id=None)
        reply = await site.call()
        assert (reply.status, reply.body) == (201, ANSWER)
        assert "location" not in reply.headers


async def test_an_allowed_origin_may_read_where_its_call_is() -> None:
    async with serving(Public(allowed_origins=("https://app.example.com",))) as site:
        reply = await site.call(Origin="https://app.example.com")
        assert reply.status == 201
        assert reply.headers["access-control-allow-origin"] == "https://app.example.com"
        assert "Location" in reply.headers["access-control-expose-headers"]


@pytest.mark.parametrize("content_type", [MULTIPART, "application/x-www-form-urlencoded", "text/plain"])
@pytest.mark.parametrize("origin", ["https://evil.test", "null"])
async def test_a_form_that_another_page_forges_opens_no_call(content_type: str, origin: str) -> None:
    async with serving() as site:
        body = form(('name="sdp"', OFFER))
        reply = await site.ask("POST", "/connect", body, Content_Type=content_type, Origin=origin)
        assert reply.status == 403
        assert site.ledger.offers == []


async def test_profile_labels_session_and_filter_are_taken_along() -> None:
    body = form(
        ('name="sdp"', OFFER),
        ('name="profile"', b"sales"),
        ('name="labels"', LABELS.encode()),
        ('name="session"', b'{"type": "realtime"}'),
    )
    async with serving() as site:
        assert (await site.ask("POST", "/connect?webrtcfilter=on", body, Content_Type=MULTIPART)).status == 201
        assert (await site.call(f"/connect?profile=sales&labels={LABELS}")).status == 201
        assert (await site.call(f"{CALLS[0]}?profile=sales&labels={LABELS}")).status == 201
        assert (site.ledger.offers[0].session, site.ledger.offers[0].webrtcfilter) == ({"type": "realtime"}, "on")
        for caller in site.ledger.callers:
            assert (caller.profile, caller.labels) == (SALES, {"team": "blue"})
            assert (caller.user, caller.token_id, caller.session) == (None, None, None)


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("?profile=nothing", "unknown_profile"),
        ("?profile=", "unknown_profile"),
        ("?labels=[]", "invalid_labels"),
        ("?labels={%22a%20b%22:%22c%22}", "invalid_labels"),
    ],
)
@pytest.mark.parametrize("path", ["/connect", CALLS[0]])
async def test_an_unknown_profile_and_bad_labels_are_a_400(path: str, query: str, code: str) -> None:
    async with serving() as site:
        reply = await site.call(path + query)
        assert (reply.status, reply.code) == (400, code)
        assert site.ledger.offers == []


async def test_a_profile_that_is_asked_for_twice_must_be_the_same() -> None:
    body = form(('name="sdp"', OFFER), ('name="profile"', b"sales"))
    async with serving() as site:
        assert (await site.ask("POST", "/connect?profile=sales", body, Content_Type=MULTIPART)).status == 201
        assert (await site.ask("POST", "/connect?profile=default", body, Content_Type=MULTIPART)).status == 400


@pytest.mark.parametrize("path", ["/connect", *CALLS])
@pytest.mark.parametrize(
    ("content_type", "body", "status", "code"),
    [
        ("application/sdp", b"", 400, "invalid_offer"),
        ("application/sdp", b"x" * 1_000_000, 413, "too_large"),
        ("application/sdp", OFFER * 1_000, 413, "too_large"),
        ("application/sdp", json.dumps(OFFER.decode()).encode(), 400, "invalid_offer"),
        ("application/sdp", b"<html>", 400, "invalid_offer"),
        ("application/json", OFFER, 415, "wrong_content_type"),
        ("text/plain", OFFER, 415, "wrong_content_type"),
        (MULTIPART, b"x" * 60_000, 400, "bad_form"),
        (MULTIPART, b"x" * 300_000, 413, "too_large"),
        (MULTIPART, form(('name="offer"', OFFER)), 400, "invalid_offer"),
    ],
)
async def test_a_bad_offer_is_refused_without_a_word_to_upstream(
    path: str, content_type: str, body: bytes, status: int, code: str
) -> None:
    async with serving() as site:
        reply = await site.ask("POST", path, body, Content_Type=content_type)
        assert (reply.status, reply.code) == (status, code)
        assert site.ledger.offers == []


async def test_a_chunked_body_has_the_same_limit() -> None:
    async with serving() as site:
        head = request("POST", "/connect", Transfer_Encoding="chunked", Content_Type=MULTIPART)
        head = head.replace(b"Content-Length: 0\r\n", b"")
        reply = await exchange(site.port, head + b"1000\r\n%b\r\n" % (b"x" * 4096) * 20)
        assert (reply.status, reply.code) == (413, "too_large")


async def test_a_compressed_body_is_a_415_whatever_it_says() -> None:
    async with serving() as site:
        for encoding in ("gzip", "br", "identity", "x"):
            reply = await site.call(Content_Encoding=encoding)
            assert (reply.status, reply.code) == (415, "encoded_body")
        assert site.ledger.offers == []


async def test_an_endless_preamble_is_cut_at_the_limit() -> None:
    async with serving(patience=Patience(linger=0.1)) as site, connected(site.port) as (reader, writer):
        writer.write(request("POST", "/connect", Content_Type=MULTIPART, Content_Length="100000000000"))
        async with asyncio.TaskGroup() as group:
            answer = group.create_task(reader.readuntil(b"\r\n\r\n"), name="read the answer")
            while not answer.done():
                writer.write(b"x" * 1024)
                await asyncio.sleep(0)
        assert parse(answer.result()).status == 413
        assert site.ledger.offers == []


async def test_one_byte_per_moment_is_a_408() -> None:
    async with serving(patience=Patience(head=5, body=0.3)) as site:
        async with connected(site.port) as (reader, writer):
            writer.write(request("POST", "/connect", Content_Type="application/sdp", Content_Length=str(len(OFFER))))
            async with asyncio.TaskGroup() as group:
                answer = group.create_task(rest(reader), name="read the answer")
                for at in range(len(OFFER) - 1):
                    if (await asyncio.wait({answer}, timeout=0.02))[0]:
                        break
                    writer.write(OFFER[at : at + 1])
        reply = parse(answer.result())
        assert (reply.status, reply.code) == (408, "too_slow")
        assert site.ledger.offers == []


async def test_a_request_that_drips_from_its_first_byte_is_a_408() -> None:
    async with serving(patience=Patience(head=0.2)) as site:
        reply = await drip(site.port, request("POST", "/connect", OFFER, Content_Type="application/sdp"), every=0.02)
        assert (reply.status, reply.code) == (408, "too_slow")


async def test_upstreams_errors_are_problem_documents() -> None:
    async with serving() as site:
        site.ledger.error = UpstreamRefused(400, "invalid_offer", "line 3 is bad")
        reply = await site.call()
        assert (reply.status, reply.code, reply.problem["detail"]) == (400, "invalid_offer", "line 3 is bad")
        site.ledger.error = RequestError(429, "too_many_calls", "Later.", retry_after=3)
        reply = await site.call()
        assert (reply.status, reply.headers["retry-after"]) == (429, "3")


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["/connect", "/token", *CALLS, "/v1/realtime/client_secrets", "/v1/realtime/calls/x/hangup"]),
    st.sampled_from(["GET", "POST", "OPTIONS", "PUT"]),
    st.sampled_from(["application/sdp", MULTIPART, "application/json", ""]),
    st.binary(max_size=100),
    st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=20),
)
def test_no_bytes_are_a_500(path: str, method: str, content_type: str, body: bytes, text: str) -> None:
    async def ask() -> int:
        async with serving() as site:
            headers = {
                "Content_Type": content_type,
                "Authorization": f"Bearer {text}",
                "Content_Length": str(len(body)),
            }
            raw = request(method, f"{path}?profile={text}&labels={text}".replace(" ", "+"), body, **headers)
            return (await exchange(site.port, raw)).status

    assert asyncio.run(ask()) < 500


# --- browsers that leave -----------------------------------------------------------------------------


async def test_a_call_whose_browser_left_before_the_answer_came_is_given_up() -> None:
    async with serving() as site:
        site.ledger.go_on.clear()
        async with connected(site.port) as (_, writer):
            writer.write(request("POST", "/connect", OFFER, Content_Type="application/sdp"))
            await until(lambda: bool(site.ledger.offers))
        # Another request's answer shows that the server has had its chance to see the other leave.
        assert (await site.ask("GET", "/nowhere")).status == 404
        assert site.ledger.lost == []
        site.ledger.go_on.set()
        await until(lambda: site.ledger.lost == [site.ledger.answer])


async def test_a_call_whose_answer_nobody_takes_is_given_up() -> None:
    async with serving(patience=Patience(write=0.1)) as site, connected(site.port) as (_, writer):
        site.ledger.answer = Answered(sdp=ANSWER + b"a=" + b"x" * 50_000_000, call_id="rtc_1")
        writer.write(request("POST", "/connect", OFFER, Content_Type="application/sdp"))
        await until(lambda: site.ledger.lost == [site.ledger.answer])


async def test_a_call_whose_answer_was_written_is_not_given_up() -> None:
    async with serving() as site:
        for _ in range(5):
            assert (await site.call()).status == 201
    assert site.ledger.lost == []


# --- addresses ---------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Public:
    for name in ("index.html", "token", "connect"):
        (tmp_path / name).write_text(f"the file {name}")
    (tmp_path / "v1").mkdir()
    (tmp_path / "v1" / "file").write_text("a file")
    return Public(static_dir=FilePath(str(tmp_path)))


@pytest.mark.parametrize("with_folder", [False, True])
@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/connect", 405, "POST"),
        ("PUT", "/token", 405, "GET"),
        ("HEAD", "/token", 405, "GET"),
        ("GET", "/v1/realtime/calls", 405, "POST"),
        ("DELETE", "/openai/v1/realtime/client_secrets", 405, "POST"),
        ("GET", "/v1/realtime/calls/rtc_1/hangup", 405, "POST"),
        ("GET", "/v1/file", 404, None),
        ("POST", "/v1/realtime/sessions", 404, None),
        ("GET", "/openai/deployments", 404, None),
    ],
)
async def test_what_no_route_takes_is_a_problem_document(
    folder: Public, method: str, path: str, status: int, allow: str | None, *, with_folder: bool
) -> None:
    async with serving(folder if with_folder else None) as site:
        reply = await site.ask(method, path)
        assert reply.status == status
        assert reply.headers["content-type"] == "application/problem+json"
        assert reply.headers.get("allow") == allow


async def test_routes_win_over_files(folder: Public) -> None:
    async with serving(folder) as site:
        assert (await site.ask("GET", "/")).body == b"the file index.html"
        assert "token" in json_of(await site.ask("GET", "/token"))
        assert (await site.call("/connect")).status == 201


async def test_without_a_folder_there_are_no_files() -> None:
    async with serving() as site:
        assert (await site.ask("GET", "/")).code == "not_found"


async def test_the_limit_on_bodies_is_the_sections() -> None:
    async with serving(Public(max_body=Bytes(50))) as site:
        assert (await site.call()).status == 413


# --- the vendor's SDK --------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_the_openai_sdk_works_by_its_base_url_alone(prefix: str) -> None:
    async with (
        serving() as site,
        AsyncOpenAI(base_url=f"http://127.0.0.1:{site.port}{prefix}", api_key="any", max_retries=0) as any_client,
    ):
        secret = await any_client.realtime.client_secrets.create(session={"type": "realtime", "model": "gpt-realtime"})
        assert secret.value.startswith("ek_")
        client = any_client.with_options(api_key=secret.value)
        raw = await client.realtime.calls.create(sdp=OFFER.decode())
        assert (raw.response.status_code, raw.content) == (201, ANSWER)
        assert raw.response.headers["location"] == f"{prefix}/realtime/calls/rtc_1"
        await client.realtime.calls.create(sdp=OFFER.decode(), session={"type": "realtime"})
        await client.realtime.calls.hangup("rtc_1")
        assert [offer.sdp for offer in site.ledger.offers] == [OFFER, OFFER]
        assert site.ledger.offers[1].session == {"type": "realtime"}
        assert site.ledger.hang_ups == [("rtc_1", site.ledger.callers[0].token_id, None)]


async def test_the_openai_sdk_shows_what_is_wrong() -> None:
    async with (
        serving() as site,
        AsyncOpenAI(base_url=f"http://127.0.0.1:{site.port}/v1", api_key="ek_stale", max_retries=0) as client,
    ):
        with pytest.raises(AuthenticationError, match="not one of this server's"):
            await client.realtime.calls.create(sdp=OFFER.decode())
        with pytest.raises(APIStatusError) as caught:
            await client.with_options(api_key="any").realtime.calls.create(sdp="nonsense")
        assert caught.value.code == "invalid_offer"
        assert caught.value.request_id == caught.value.response.headers["x-request-id"]


async def test_what_happened_is_never_logged_with_what_was_said() -> None:
    with capture_logs() as logs:
        async with serving() as site:
            await site.call("/connect?profile=canary", Authorization=site.token(token_id="canary"))
            await site.ask("POST", "/connect?x=canary", b"canary", Content_Type="application/sdp")
            await site.ask("GET", "/canary")
    assert len(logs) == 3
    assert "canary" not in str(logs)
