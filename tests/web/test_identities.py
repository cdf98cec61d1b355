"""Who calls: nobody by name, a proxy's word, or an access token's; and what becomes of it in a call."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from jwt import encode
from structlog.testing import capture_logs

from rtobserver.config.sections import Public, PublicAuth, Secret
from rtobserver.web import problems
from rtobserver.web.identities import Forwarded, Identity
from rtobserver.web.listener import listening
from tests.web.browsers import Site, json_of, serving
from tests.web.issuer import AUDIENCE, ISSUER, NOW, Issuer, claims, issuing, private_key, public_jwk, signed, token
from tests.web.wire import Reply, exchange, request

HANG_UP = "/v1/realtime/calls/rtc_1/hangup"


@asynccontextmanager
async def asking(identity: Identity) -> AsyncIterator[int]:
    async def hi(request: web.Request) -> web.Response:
        return web.Response(text=(await identity.person(request)).user)

    app = web.Application()
    problems.install(app)
    app.router.add_get("/hi", hi)
    async with listening(app, host="127.0.0.1", port=0) as listener:
        yield listener.port


# --- forwarded -----------------------------------------------------------------------------------------


async def test_a_trusted_proxy_names_the_user() -> None:
    async with asking(Forwarded(["127.0.0.0/8"], "X-User")) as port:
        assert (await exchange(port, request("GET", "/hi", X_User=" ann@example.com "))).body == b"ann@example.com"


@pytest.mark.parametrize("name", ["", "  ", "x" * 257, "tab\there", "\x85"])
async def test_a_name_that_is_none_is_a_401(name: str) -> None:
    async with asking(Forwarded(["127.0.0.0/8"], "X-User")) as port:
        assert (await exchange(port, request("GET", "/hi", X_User=name))).status == 401


async def test_a_missing_or_repeated_name_is_a_401() -> None:
    async with asking(Forwarded(["127.0.0.0/8"], "X-User")) as port:
        assert (await exchange(port, request("GET", "/hi"))).code == "no_identity"
        twice = request("GET", "/hi", X_User="ann").replace(b"\r\n\r\n", b"\r\nX-User: bob\r\n\r\n")
        assert (await exchange(port, twice)).status == 401


async def test_bytes_that_are_no_text_are_no_name() -> None:
    async with asking(Forwarded(["127.0.0.0/8"], "X-User")) as port:
        raw = request("GET", "/hi", X_User="NAME").replace(b"NAME", b"\xff\xfe")
        assert (await exchange(port, raw)).status == 401


@pytest.mark.parametrize(
    ("peer", "is_trusted"),
    [("10.1.2.3", True), ("::ffff:10.1.2.3", True), ("11.1.2.3", False), ("fd00::1", True), ("", False), ("x", False)],
)
def test_only_listed_peers_are_trusted(peer: str, *, is_trusted: bool) -> None:
    assert Forwarded(["10.0.0.0/8", "fd00::/8"], "X-User").trusts(peer) is is_trusted


def test_by_default_no_proxy_is_trusted() -> None:
    assert not Forwarded([], "X-User").trusts("127.0.0.1")


@pytest.mark.parametrize(
    "mode", [{"mode": "none"}, {"mode": "jwt", "issuer": ISSUER, "audience": AUDIENCE, "secret": Secret("x" * 32)}]
)
async def test_in_other_modes_a_proxys_header_says_nothing(mode: dict[str, Any]) -> None:
    auth = PublicAuth(**mode, user_header="X-User")
    async with serving(Public(auth=auth)) as site:
        reply = await site.call(X_User="ann", X_Forwarded_User="ann", X_Forwarded_For="10.0.0.1", Forwarded="for=ann")
        if mode["mode"] == "none":
            assert (reply.status, site.ledger.callers[0].user) == (201, None)
        else:
            assert (reply.status, reply.code) == (401, "no_identity")


async def test_who_is_no_listed_proxy_names_nobody_whatever_it_forwards() -> None:
    auth = PublicAuth(mode="forwarded", trusted_proxies=("10.0.0.0/8",), user_header="X-User")
    async with serving(Public(auth=auth)) as site:
        reply = await site.call(
            X_User="ann", X_Forwarded_For="10.0.0.1", X_Real_Ip="10.0.0.1", Forwarded="for=10.0.0.1"
        )
        assert (reply.status, reply.code, site.ledger.offers) == (401, "no_identity", [])
        assert (await site.ask("POST", HANG_UP, X_User="ann")).status == 404


async def test_a_proxys_host_and_scheme_change_nothing() -> None:
    auth = PublicAuth(mode="forwarded", trusted_proxies=("127.0.0.0/8",), user_header="X-User")
    async with serving(Public(auth=auth)) as site:
        sent = {"X_User": "ann", "X_Forwarded_Host": "evil.test", "X_Forwarded_Proto": "https", "X_Forwarded_Port": "1"}
        answer = json_of(await site.ask("GET", "/token", host="localhost:8080", **sent))
        assert answer["endpoint"] == "http://localhost:8080"


# --- access tokens -------------------------------------------------------------------------------------


@asynccontextmanager
async def trusting(**changes: Any) -> AsyncIterator[tuple[Site, Issuer]]:
    """Run the public listener with an issuer."""
    async with issuing() as issuer, serving(Public(auth=issuer.auth(**changes))) as site:
        yield site, issuer


def shown(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


async def every_way_in(site: Site, text: str) -> list[Reply]:
    """Present a token wherever an identity is asked for."""
    return [
        await site.call("/connect", **shown(text)),
        await site.call("/v1/realtime/calls", **shown(text)),
        await site.call("/openai/v1/realtime/calls", **shown(text)),
        await site.ask("GET", "/token", **shown(text)),
        await site.ask("POST", "/v1/realtime/client_secrets", b"{}", Content_Type="application/json", **shown(text)),
    ]


async def test_an_access_token_names_the_user_of_a_call() -> None:
    async with trusting() as (site, issuer):
        assert [reply.status for reply in await every_way_in(site, token())] == [201, 201, 201, 200, 200]
        assert [caller.user for caller in site.ledger.callers] == ["ann"] * 3
        assert issuer.fetches == ["/keys"]


async def test_without_a_good_access_token_there_is_nothing() -> None:
    async with trusting() as (site, _):
        for text, code in [("", "no_identity"), ("x", "invalid_token"), (token(aud="x"), "invalid_token")]:
            for reply in await every_way_in(site, text):
                assert (reply.status, reply.code) == (401, code)
                assert reply.headers["www-authenticate"] == "Bearer"
        assert site.ledger.offers == []


@pytest.mark.parametrize("name", ["jku", "x5u"])
async def test_where_a_token_says_that_its_key_lies_is_never_looked_at(name: str) -> None:
    async with issuing() as mallory, trusting() as (site, issuer):
        header = {name: f"{mallory.url}/keys"}
        assert (await site.call(**shown(token(kid="mallory", header=header)))).status == 401
        assert (await site.call(**shown(token(header=header)))).status == 201
        assert (mallory.fetches, issuer.fetches) == ([], ["/keys"])


async def test_a_key_that_a_token_brings_along_is_not_used() -> None:
    brought: dict[str, Any] = {"jwk": public_jwk("mallory"), "x5c": ["x"]}
    async with trusting() as (site, _):
        for kid in ("mallory", "k1"):
            forged = signed(json.dumps(claims()).encode(), kid=kid, key=private_key("mallory"), **brought)
            assert (await site.call(**shown(forged))).status == 401


async def test_a_sealed_token_carries_the_identity_that_it_was_made_for() -> None:
    async with trusting(label_claims=("tenant",)) as (site, issuer):
        sealed = json_of(await site.ask("GET", "/token", **shown(token(tenant="blue"))))["token"]
        issuer.status = 500
        assert (await site.call(**shown(sealed))).status == 201
        [caller] = site.ledger.callers
        assert (caller.user, caller.labels) == ("ann", {"tenant": "blue"})
        # and is no identity itself
        assert (await site.call("/connect", **shown(sealed))).status == 401


@pytest.mark.parametrize("kind", ["rto_x", "ek_x"])
async def test_what_looks_like_one_of_ours_is_no_access_token(kind: str) -> None:
    async with trusting() as (site, _):
        for reply in await every_way_in(site, kind):
            assert (reply.status, reply.code) == (401, "invalid_token")


async def test_who_opened_a_call_may_end_it_and_nobody_else_learns_of_it() -> None:
    async with trusting() as (site, _):
        assert (await site.ask("POST", HANG_UP, **shown(token()))).status == 200
        assert site.ledger.hang_ups == [("rtc_1", None, "ann")]
        for text in ("", "x", token(aud="x"), token(exp=1)):
            assert (await site.ask("POST", HANG_UP, **shown(text))).status == 404
        assert len(site.ledger.hang_ups) == 1


@pytest.mark.parametrize(
    ("said", "user"),
    [
        ({"oid": "7c1e"}, "7c1e"),
        ({"oid": 42}, "42"),
        ({"oid": "ä😀"}, "ä😀"),
        ({"oid": "x" * 256}, "x" * 256),
    ],
)
async def test_another_claim_can_name_the_user(said: dict[str, Any], user: str) -> None:
    async with trusting(user_claim="oid") as (site, _):
        assert (await site.call(**shown(token(**said)))).status == 201
        assert site.ledger.callers[0].user == user


@pytest.mark.parametrize("value", [None, "", "x" * 257, "a\nb", "a\0", True, 1.5, ["ann"], {"name": "ann"}])
async def test_a_token_that_names_no_user_is_refused(value: Any) -> None:
    async with trusting(user_claim="oid") as (site, _):
        with capture_logs() as logged:
            assert (await site.call(**shown(token(oid=value)))).status == 401
        assert "its claim `oid` names no user" in [line.get("reason") for line in logged]


@pytest.mark.parametrize(
    ("value", "label"), [("blue", "blue"), ("", ""), (7, "7"), (True, "true"), (False, "false"), ("x" * 256, "x" * 256)]
)
async def test_claims_become_labels(value: Any, label: str) -> None:
    async with trusting(label_claims=("tenant", "plan")) as (site, _):
        assert (await site.call(**shown(token(tenant=value, other="x")))).status == 201
        assert site.ledger.callers[0].labels == {"tenant": label}


@pytest.mark.parametrize("value", [["blue"], {"a": "b"}, 1.5, "x" * 257, "a\nb"])
async def test_a_claim_that_can_be_no_label_refuses_the_token_and_the_log_says_which(value: Any) -> None:
    async with trusting(label_claims=("tenant",)) as (site, _):
        with capture_logs() as logged:
            assert (await site.call(**shown(token(tenant=value)))).code == "invalid_token"
        assert "its claim `tenant` is no text that could be a label" in [line.get("reason") for line in logged]


async def test_labels_from_claims_win_and_their_names_are_nobody_elses() -> None:
    query = "?labels=%7B%22tenant%22%3A%22red%22%2C%22room%22%3A%225%22%7D"
    async with trusting(label_claims=("tenant",)) as (site, _):
        for tenant in ("blue", None):
            assert (await site.call(f"/v1/realtime/calls{query}", **shown(token(tenant=tenant)))).status == 201
        assert [caller.labels for caller in site.ledger.callers] == [{"room": "5", "tenant": "blue"}, {"room": "5"}]


async def test_labels_and_those_from_claims_together_have_one_bound() -> None:
    asked = "%7B" + "%2C".join(f"%22k{n}%22%3A%22v%22" for n in range(16)) + "%7D"
    async with trusting(label_claims=("tenant",)) as (site, _):
        reply = await site.call(f"/v1/realtime/calls?labels={asked}", **shown(token(tenant="blue")))
        assert (reply.status, reply.code) == (400, "invalid_labels")


async def test_a_token_expires_while_the_listener_runs() -> None:
    async with trusting() as (site, _):
        text = token(exp=NOW + 5)
        assert (await site.call(**shown(text))).status == 201
        site.clock.seconds += 66
        assert (await site.call(**shown(text))).status == 401


async def test_a_shared_secret_does_without_an_issuers_server() -> None:
    ours = "a secret of 32 bytes, or even more"
    auth = PublicAuth(mode="jwt", issuer=ISSUER, audience=AUDIENCE, secret=Secret(ours), algorithms=("HS256",))
    async with serving(Public(auth=auth)) as site:
        assert (await site.call(**shown(encode(claims(), ours, "HS256")))).status == 201
        assert (await site.call(**shown(encode(claims(), "another secret of 32 bytes, or so", "HS256")))).status == 401
        assert site.ledger.callers[0].user == "ann"


async def test_a_header_longer_than_any_token_is_refused_by_the_listener() -> None:
    async with trusting() as (site, _):
        assert (await site.call(**shown("x" * 100_000))).status == 400
        assert site.ledger.offers == []
