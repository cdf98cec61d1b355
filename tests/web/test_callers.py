import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from rtobserver.config.sections import Public, PublicAuth, Seconds
from rtobserver.errors import RequestError
from rtobserver.web.callers import read_labels
from tests.web.browsers import DEFAULT, MULTIPART, OFFER, form, json_of, serving

PREFIXES = ["/openai/v1", "/v1"]
CALLS = [f"{prefix}/realtime/calls" for prefix in PREFIXES]
FORWARDED = Public(auth=PublicAuth(mode="forwarded", trusted_proxies=("127.0.0.0/8",), user_header="X-User"))
LABELS = '{"team":"blue"}'


# --- labels ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "labels",
    [
        {},
        {"team": "blue"},
        {"a" * 64: "x" * 256},
        {"A-b_9": "Größe 😀"},
        {"empty": ""},
        {f"k{n}": "v" for n in range(16)},
    ],
)
def test_good_labels_are_taken_as_they_are(labels: dict[str, str]) -> None:
    assert read_labels(json.dumps(labels)) == labels


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "JSON object"),
        ("[]", "JSON object"),
        ("null", "JSON object"),
        ('{"a": 1}', "strings"),
        ('{"a": null}', "strings"),
        ('{"a": {"b": "c"}}', "strings"),
        ('{"": "x"}', "key"),
        ('{"a b": "x"}', "key"),
        ('{"a\\n": "x"}', "key"),
        ('{"ä": "x"}', "key"),
        (json.dumps({"a" * 65: "x"}), "key"),
        (json.dumps({"a": "x" * 257}), "256"),
        ('{"a": "x\\ny"}', "control"),
        ('{"a": "\\u0000"}', "control"),
        ('{"a": "\\u0085"}', "control"),
        (json.dumps({f"k{n}": "v" for n in range(17)}), "16"),
        ("\udcff", "JSON object"),
    ],
)
def test_bad_labels_are_a_400_that_names_the_rule(text: str, word: str) -> None:
    with pytest.raises(RequestError, match=word) as caught:
        read_labels(text)
    assert (caught.value.status, caught.value.code) == (400, "invalid_labels")


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3).map(json.dumps) | st.text())
def test_any_text_is_labels_or_a_400(text: str) -> None:
    try:
        labels = read_labels(text)
    except RequestError:
        return
    assert all(key.isascii() for key in labels)


# --- tokens ------------------------------------------------------------------------------------------


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
        token = json_of(await site.ask("GET", f"/token?profile=sales&labels={LABELS}"))["token"]
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
    assert sorted(line["name"] for line in logs if line["event"] == "session_key_dropped") == ["instructions", "model"]


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
