import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai import APIStatusError, AsyncOpenAI, AuthenticationError
from structlog.testing import capture_logs

from rtobserver.config.sections import Bytes, FilePath, Public, PublicAuth, Seconds
from rtobserver.errors import RequestError, UpstreamRefused
from rtobserver.negotiation import Answered
from rtobserver.web.connection import Patience
from tests.web.browsers import ANSWER, DEFAULT, MULTIPART, OFFER, SALES, form, serving
from tests.web.wire import connected, drip, exchange, parse, request, until

PREFIXES = ["/openai/v1", "/v1"]
CALLS = [f"{prefix}/realtime/calls" for prefix in PREFIXES]
FORWARDED = Public(auth=PublicAuth(mode="forwarded", trusted_proxies=("127.0.0.0/8",), user_header="X-User"))
LABELS = json.dumps({"team": "blue"})


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
        assert (await site.call(f"/connect?profile=sales&labels={LABELS.replace(' ', '')}")).status == 201
        assert (await site.call(f"{CALLS[0]}?profile=sales&labels={LABELS.replace(' ', '')}")).status == 201
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
                answer = group.create_task(reader.read(), name="read the answer")
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


# --- tokens ------------------------------------------------------------------------------------------


def json_of(reply: Any) -> dict[str, Any]:
    assert reply.status == 200, reply.raw
    assert reply.headers["cache-control"] == "no-store"
    document = json.loads(reply.body)
    assert isinstance(document, dict)
    return document


async def test_a_token_names_our_origin_and_the_model() -> None:
    async with serving() as site:
        token = json_of(await site.ask("GET", "/token", host="localhost:8080"))
        assert token.pop("token").startswith("ek_")
        expires_at = site.clock.seconds + 600
        assert token == {"endpoint": "http://localhost:8080", "deployment": "gpt-realtime", "expires_at": expires_at}


async def test_behind_a_proxy_a_token_names_the_base_url() -> None:
    async with serving(Public(base_url="https://voice.example.com")) as site:
        token = json_of(await site.ask("GET", "/token?profile=sales"))
        assert (token["endpoint"], token["deployment"]) == ("https://voice.example.com", "gpt-realtime-mini")


async def test_a_token_opens_calls_as_it_was_asked_for() -> None:
    async with serving() as site:
        token = json_of(await site.ask("GET", f"/token?profile=sales&labels={LABELS.replace(' ', '')}"))["token"]
        for path in [*CALLS, "/connect"]:
            assert (await site.call(path, Authorization=f"Bearer {token}")).status == 201
        callers = site.ledger.callers
        assert {caller.profile.name for caller in callers} == {"sales"}
        assert len({caller.token_id for caller in callers}) == 1
        assert callers[0].token_id is not None
        assert callers[0].labels == {"team": "blue"}


async def test_the_tokens_labels_win_and_its_profile_is_not_to_be_changed() -> None:
    async with serving() as site:
        bearer = site.token(labels={"team": "blue"}, user="ann")
        assert (
            await site.call(f'{CALLS[0]}?profile=sales&labels={{"team":"red"}}', Authorization=bearer)
        ).status == 201
        assert (site.ledger.callers[0].labels, site.ledger.callers[0].user) == ({"team": "blue"}, "ann")
        reply = await site.call(f"{CALLS[0]}?profile=default", Authorization=bearer)
        assert (reply.status, reply.code) == (400, "profile_not_of_token")


@pytest.mark.parametrize("section", [Public(), FORWARDED])
@pytest.mark.parametrize("path", ["/connect", *CALLS])
async def test_a_token_that_is_not_ours_or_has_expired_is_a_401(path: str, section: Public) -> None:
    async with serving(section) as site:
        expired = site.token(expires_at=site.clock.seconds)
        for bearer in ("Bearer ek_upstream", "bearer ek_", expired, "Bearer rto_key", site.token(profile="gone")):
            reply = await site.call(path, Authorization=bearer, X_User="ann")
            assert (reply.status, reply.headers["www-authenticate"]) == (401, "Bearer"), bearer
        assert site.ledger.offers == []


@pytest.mark.parametrize("header", ["Bearer sk-anything", "Bearer", "Bearer ", "Basic ek_x", "nonsense", ""])
async def test_without_identities_any_other_bearer_is_anybody(header: str) -> None:
    async with serving() as site:
        assert (await site.call(Authorization=header)).status == 201
        assert (site.ledger.callers[0].profile, site.ledger.callers[0].token_id) == (DEFAULT, None)


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_a_client_secret_has_the_vendors_shape_and_hides_what_browsers_need_not_know(prefix: str) -> None:
    async with serving() as site:
        reply = await site.ask("POST", f"{prefix}/realtime/client_secrets", b"{}", Content_Type="application/json")
        secret = json_of(reply)
        assert secret["value"].startswith("ek_")
        assert secret["expires_at"] == site.clock.seconds + 600
        assert secret["session"]["model"] == "gpt-realtime"
        assert b"canary" not in reply.body


@pytest.mark.parametrize(("asked", "life"), [(60, 60), (600, 600), (7200, 600)])
async def test_the_life_of_a_secret_can_only_be_shortened(asked: int, life: int) -> None:
    body = json.dumps({"expires_after": {"anchor": "created_at", "seconds": asked}}).encode()
    async with serving() as site:
        secret = json_of(await site.ask("POST", "/v1/realtime/client_secrets", body, Content_Type="application/json"))
        assert secret["expires_at"] == site.clock.seconds + life


async def test_the_session_of_a_secret_is_sealed_in_as_far_as_the_profile_lets_it() -> None:
    session = {"model": "gpt-9", "instructions": "x" * 20_000, "audio": {"output": {"voice": "ash"}}}
    body = json.dumps({"session": session}).encode()
    async with serving() as site:
        with capture_logs() as logs:
            for _ in range(2):
                reply = await site.ask("POST", "/v1/realtime/client_secrets", body, Content_Type="application/json")
        secret = json_of(reply)
        assert secret["session"]["audio"]["output"]["voice"] == "ash"
        assert (await site.call(Authorization=f"Bearer {secret['value']}")).status == 201
        assert site.ledger.callers[0].session == {"audio": {"output": {"voice": "ash"}}}
    assert sorted(line["key"] for line in logs if line["event"] == "session_key_dropped") == ["instructions", "model"]


async def test_a_session_that_fits_no_token_is_a_400() -> None:
    body = json.dumps({"session": {"audio": {"output": {"voice": "x" * 20_000}}}}).encode()
    async with serving() as site:
        reply = await site.ask("POST", "/v1/realtime/client_secrets", body, Content_Type="application/json")
        assert (reply.status, reply.code) == (400, "too_much_for_a_token")


async def test_a_token_lives_as_long_as_the_section_says() -> None:
    async with serving(Public(token_ttl=Seconds(30.0))) as site:
        token = json_of(await site.ask("GET", "/token"))
        bearer = f"Bearer {token['token']}"
        site.clock.seconds += 29
        assert (await site.call(Authorization=bearer)).status == 201
        site.clock.seconds += 1
        assert (await site.call(Authorization=bearer)).code == "expired_token"


async def test_with_tokens_off_only_their_two_routes_are_gone() -> None:
    async with serving(Public(token_mode="off")) as site:
        assert (await site.ask("GET", "/token")).status == 404
        for prefix in PREFIXES:
            assert (await site.ask("POST", f"{prefix}/realtime/client_secrets")).status == 404
        assert (await site.call("/connect")).status == 201
        assert (await site.call(Authorization=site.token())).status == 201


async def test_with_passthrough_upstreams_own_secrets_are_given_out() -> None:
    with capture_logs() as logs:
        async with serving(Public(token_mode="passthrough")) as site:
            token = json_of(await site.ask("GET", "/token"))
            assert token == {
                "token": "ek_upstream",
                "endpoint": "https://api.openai.com",
                "deployment": "gpt-realtime",
                "expires_at": 1_795_400_060,
            }
            body = b'{"session": {"type": "realtime"}}'
            reply = await site.ask("POST", "/v1/realtime/client_secrets", body, Content_Type="application/json")
            assert json_of(reply)["value"] == "ek_upstream"
            assert b"canary" not in reply.body
            assert site.ledger.callers[1].session == {"type": "realtime"}
    assert [line["event"] for line in logs].count("passed_through_calls_are_not_observed") == 1


# --- identities --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/connect"), ("GET", "/token"), ("POST", "/v1/realtime/client_secrets"), ("POST", "/v1/realtime/calls")],
)
async def test_with_identities_the_proxys_word_is_needed(method: str, path: str) -> None:
    async with serving(FORWARDED) as site:
        # An offer that never comes shows that nobody waited for it.
        reply = await site.ask(method, path, Content_Type="application/sdp", Content_Length="1000")
        assert (reply.status, reply.code) == (401, "no_identity")


async def test_with_identities_calls_and_tokens_carry_the_user() -> None:
    async with serving(FORWARDED) as site:
        assert (await site.call("/connect", X_User="ann")).status == 201
        token = json_of(await site.ask("GET", "/token", X_User="bob"))["token"]
        assert (await site.call(Authorization=f"Bearer {token}")).status == 201
        assert [caller.user for caller in site.ledger.callers] == ["ann", "bob"]
        assert (await site.call("/connect", Authorization=f"Bearer {token}")).status == 401


async def test_a_browser_cannot_choose_its_user() -> None:
    async with serving() as site:
        body = form(('name="sdp"', OFFER), ('name="user"', b"ann"))
        reply = await site.ask("POST", "/connect?user=ann", body, Content_Type=MULTIPART, X_Forwarded_User="ann")
        assert reply.status == 201
        assert site.ledger.callers[0].user is None


# --- hanging up --------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_a_call_is_hung_up_for_its_token_even_when_that_has_expired(prefix: str) -> None:
    async with serving() as site:
        bearer = site.token(expires_at=site.clock.seconds - 1000)
        reply = await site.ask("POST", f"{prefix}/realtime/calls/rtc_1/hangup", Authorization=bearer)
        assert (reply.status, reply.body) == (200, b"")
        assert site.ledger.hang_ups == [("rtc_1", "t1", None)]


async def test_a_call_is_hung_up_for_its_user() -> None:
    async with serving(FORWARDED) as site:
        assert (await site.ask("POST", "/v1/realtime/calls/rtc_1/hangup", X_User="ann")).status == 200
        assert site.ledger.hang_ups == [("rtc_1", None, "ann")]


@pytest.mark.parametrize("header", ["", "Bearer sk-x", "Bearer rto_key", "Bearer ek_upstream"])
@pytest.mark.parametrize("section", [Public(), FORWARDED])
async def test_a_call_is_not_hung_up_for_anybody(header: str, section: Public) -> None:
    async with serving(section) as site:
        reply = await site.ask("POST", "/v1/realtime/calls/rtc_1/hangup", Authorization=header)
        assert (reply.status, reply.code) == (404, "call_not_found")
        assert site.ledger.hang_ups == []


async def test_a_call_of_somebody_else_is_not_there() -> None:
    async with serving() as site:
        site.ledger.is_owner = False
        reply = await site.ask("POST", "/v1/realtime/calls/rtc_1/hangup", Authorization=site.token())
        assert (reply.status, reply.code) == (404, "call_not_found")


@pytest.mark.parametrize("call_id", ["x", "rtc_", "rtc_a.b", "rtc_" + "x" * 300, "neg_1", "rtc_%0a", "rtc_a%2fb"])
async def test_what_is_no_call_id_is_not_looked_for(call_id: str) -> None:
    async with serving() as site:
        reply = await site.ask("POST", f"/v1/realtime/calls/{call_id}/hangup", Authorization=site.token())
        assert reply.status == 404
        assert site.ledger.hang_ups == []


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
