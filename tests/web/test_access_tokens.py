"""Tokens, good and forged, against what the configuration says of their issuer."""

import asyncio
import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from hypothesis import given
from hypothesis import strategies as st
from jwt import PyJWK
from structlog.testing import capture_logs

from rtobserver.errors import RequestError
from rtobserver.web.access_tokens import LEEWAY_SECONDS, TOKEN_CAP, AccessTokens, SharedSecret
from rtobserver.web.issuer_keys import usable
from tests.web.browsers import HandClock
from tests.web.issuer import AUDIENCE, ISSUER, NOW, assembled, claims, private_key, public_jwk, signed, token

SECRET = "a secret that both of us know, 32+"


class Known:
    """The keys of a document, without a server."""

    def __init__(self, *keys: dict[str, Any], algorithms: tuple[str, ...] = ("RS256",)) -> None:
        self.keys = usable(json.dumps({"keys": list(keys)}).encode(), algorithms)

    async def find(self, key_id: str | None, algorithm: str) -> PyJWK | None:
        return self.keys.get((key_id or "", algorithm))


def checking(
    *algorithms: str, keys: Any = None, needs_key_id: bool = True, clock: HandClock | None = None
) -> AccessTokens:
    return AccessTokens(
        issuer=ISSUER,
        audience=AUDIENCE,
        algorithms=algorithms or ("RS256",),
        keys=keys or Known(public_jwk("k1")),
        needs_key_id=needs_key_id,
        clock=clock or HandClock(),
    )


def shared() -> AccessTokens:
    return checking("HS256", keys=SharedSecret(SECRET), needs_key_id=False)


async def reason(tokens: AccessTokens, text: str) -> str:
    """Give what the log says of a refusal, after the refusal itself was found to give nothing away."""
    with capture_logs() as logged, pytest.raises(RequestError) as caught:
        await tokens.read(text)
    assert (caught.value.status, caught.value.code) == (401, "invalid_token")
    assert caught.value.message == "The access token is not good, or no longer."
    [line] = logged
    return str(line["reason"])


async def test_a_good_token_is_believed_until_it_expires() -> None:
    believed = await checking().read(token(team="blue"))
    assert (believed.claims["sub"], believed.claims["team"]) == ("ann", "blue")
    assert believed.until == (NOW + 3600 + LEEWAY_SECONDS) * 1_000_000


@pytest.mark.parametrize("said", [{"aud": [AUDIENCE, "other"]}, {"nbf": None}, {"iat": None}, {"exp": NOW + 0.5}])
async def test_what_issuers_write_differently_is_good_too(said: dict[str, Any]) -> None:
    assert (await checking().read(token(**said))).claims["sub"] == "ann"


@pytest.mark.parametrize("type_", ["JWT", "jwt", "at+jwt", "application/at+jwt"])
async def test_the_types_of_access_tokens_are_good(type_: str) -> None:
    assert await checking().read(token(header={"typ": type_}))


@pytest.mark.parametrize(("kind", "algorithm"), [("P-256", "ES256"), ("P-384", "ES384"), ("Ed25519", "EdDSA")])
async def test_other_kinds_of_keys_work_where_they_are_allowed(kind: str, algorithm: str) -> None:
    keys = Known(public_jwk("e1", kind), algorithms=(algorithm,))
    assert await checking(algorithm, keys=keys).read(token(kid="e1", kind=kind))
    assert "algorithm" in await reason(checking("RS256", keys=keys), token(kid="e1", kind=kind))


@pytest.mark.parametrize("algorithm", ["RS384", "RS512", "PS256"])
async def test_a_key_signs_with_those_algorithms_only_that_are_allowed(algorithm: str) -> None:
    keys = Known(public_jwk("k1"), algorithms=("RS256", algorithm))
    assert await checking("RS256", algorithm, keys=keys).read(token(alg=algorithm))
    assert "algorithm" in await reason(checking("RS256", keys=keys), token(alg=algorithm))


async def test_a_key_that_names_its_algorithm_signs_with_no_other() -> None:
    keys = Known(public_jwk("k1", alg="RS256"), algorithms=("RS256", "RS512"))
    assert await reason(checking("RS256", "RS512", keys=keys), token(alg="RS512")) == "the issuer has no such key"


# --- forgeries (F06) -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE", ""])
async def test_no_signature_is_no_signature_whatever_it_is_called(name: str) -> None:
    for text in (assembled({"alg": name, "kid": "k1"}, claims()), assembled({"alg": name, "kid": "k1"}, claims(), b"")):
        assert await reason(checking(), text) in {"its algorithm is not among `algorithms`", "it is no signed JWT"}


async def test_a_signature_that_was_cut_off_is_missed() -> None:
    head, body, signature = token().split(".")
    for text in (f"{head}.{body}.", f"{head}.{body}", f"{head}..{signature}", f"{head}.{body}.{signature[:-8]}"):
        assert await reason(checking(), text) in {"it is no signed JWT", "its signature is wrong"}


async def test_the_public_key_is_no_shared_secret() -> None:
    public = private_key("k1").public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    known = public_jwk("k1")
    for secret in (pem, pem.strip(), json.dumps(known).encode(), known["n"].encode(), b""):
        forged = _by_hmac({"alg": "HS256", "kid": "k1", "typ": "JWT"}, claims(), secret)
        assert "algorithm" in await reason(checking(), forged)


async def test_another_key_of_the_same_name_does_not_sign() -> None:
    forged = signed(json.dumps(claims()).encode(), kid="k1", key=private_key("mallory"))
    assert await reason(checking(), forged) == "its signature is wrong"


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ({"iss": "https://login.example.com/tenant-2/v2.0"}, "issuer"),
        ({"iss": "https://sts.example.com/tenant-1/"}, "issuer"),
        ({"iss": ISSUER + "/"}, "issuer"),
        ({"iss": None}, "issuer"),
        ({"iss": [ISSUER]}, "issuer"),
        ({"aud": "api://other"}, "audience"),
        ({"aud": AUDIENCE + "x"}, "audience"),
        ({"aud": ["api://other"]}, "audience"),
        ({"aud": {AUDIENCE: 1}}, "audience"),
        ({"aud": None}, "audience"),
        ({"exp": NOW - LEEWAY_SECONDS}, "expired"),
        ({"exp": 0}, "expired"),
        ({"exp": None}, "never expires"),
        ({"exp": str(NOW + 3600)}, "no time"),
        ({"exp": True}, "no time"),
        ({"exp": 1e300}, "no time"),
        ({"exp": [NOW + 3600]}, "no time"),
        ({"nbf": NOW + LEEWAY_SECONDS + 1}, "not good yet"),
        ({"nbf": "soon"}, "no time"),
        ({"iat": NOW + LEEWAY_SECONDS + 1}, "not good yet"),
        ({"nonce": "n"}, "ID or refresh token"),
        ({"at_hash": "h"}, "ID or refresh token"),
        ({"c_hash": "h"}, "ID or refresh token"),
        ({"typ": "ID"}, "ID or refresh token"),
        ({"typ": "Refresh"}, "ID or refresh token"),
    ],
)
async def test_a_token_for_another_purpose_is_refused(said: dict[str, Any], word: str) -> None:
    assert word in await reason(checking(), token(**said))


async def test_an_access_token_may_hold_a_nonce_where_it_says_what_it_is() -> None:
    assert await checking().read(token(typ="Bearer", nonce="n"))


@pytest.mark.parametrize("type_", ["ID", "id_token+jwt", "logout+jwt", "secevent+jwt", "JOSE", "", 1, None, ["JWT"]])
async def test_a_header_of_another_type_is_refused(type_: Any) -> None:
    body = json.dumps(claims())
    head = {"alg": "RS256", "kid": "k1", "typ": type_}
    assert "type" in await reason(checking(), _by_rsa(head, body))


@pytest.mark.parametrize("header", [{"crit": ["exp"]}, {"crit": []}, {"b64": False, "crit": ["b64"]}, {"b64": True}])
async def test_what_a_header_demands_beyond_the_standard_is_refused(header: dict[str, Any]) -> None:
    assert "extension" in await reason(
        checking(), _by_rsa({"alg": "RS256", "kid": "k1", **header}, json.dumps(claims()))
    )


@pytest.mark.parametrize(
    "kid",
    [None, "", "k2", "K1", "../../../../etc/passwd", "' OR 1=1 --", "k1\u0000", "k" * 300, 1, ["k1"], {"kid": "k1"}],
)
async def test_a_key_id_is_looked_up_and_nothing_else(kid: Any) -> None:
    head = {"alg": "RS256"} | ({} if kid is None else {"kid": kid})
    assert "key" in await reason(checking(), _by_rsa(head, json.dumps(claims())))


@pytest.mark.parametrize(
    "body",
    [
        '{"sub": "mallory", "sub": "ann", "iss": "%s", "aud": "%s", "exp": 1795403600}',
        '{"iss": "%s", "aud": "%s", "exp": 1, "exp": 1795403600, "sub": "ann"}',
        '{"iss": "%s", "aud": "%s", "exp": 1795403600, "sub": {"a": 1, "a": 2}}',
        '{"iss": "%s", "aud": "%s", "exp": NaN, "sub": "ann"}',
        '{"iss": "%s", "aud": "%s", "exp": Infinity, "sub": "ann"}',
        '["%s", "%s"]',
        '"%s %s"',
        "%s %s",
        "[" * 100_000 + "%s%s",
    ],
)
async def test_claims_that_could_be_read_in_two_ways_are_not_read(body: str) -> None:
    text = signed((body % (ISSUER, AUDIENCE)).encode())
    assert await reason(checking(), text) in {
        "its payload is no JSON object with each name once",
        "it is no signed JWT",
    }


async def test_a_header_that_names_something_twice_is_not_read() -> None:
    for head in ('{"alg":"none","alg":"RS256","kid":"k1"}', '{"alg":"RS256","kid":"k2","kid":"k1"}', "[]", "1", "\x00"):
        assert "header" in await reason(checking(), _by_rsa(head, json.dumps(claims())))


async def test_a_token_has_a_length() -> None:
    assert await reason(checking(), token(filling="x" * TOKEN_CAP)) == "it is no signed JWT"
    assert await reason(checking(), "x" * 100_000) == "it is no signed JWT"


@pytest.mark.parametrize("change", ["pad", "space", "newline", "plus", "dot"])
async def test_a_token_is_spelt_in_one_way_only(change: str) -> None:
    good = token()
    head, body, signature = good.split(".")
    spelt = {
        "pad": f"{head}=.{body}.{signature}",
        "space": f"{head} .{body}.{signature}",
        "newline": f"{good}\n",
        "plus": f"{head}.{body}.+{signature}",
        "dot": f"{good}.",
    }
    assert await reason(checking(), spelt[change]) == "it is no signed JWT"


async def test_a_small_key_does_not_sign() -> None:
    keys = Known(public_jwk("s1", "small"))
    body = json.dumps(claims()).encode()
    with pytest.warns(match="below the minimum"):
        weak = signed(body, kid="s1", kind="small")
    assert await reason(checking(keys=keys), weak) == "its signature is wrong"


@given(
    st.text(max_size=60)
    | st.from_regex(r"[A-Za-z0-9_-]{1,40}\.[A-Za-z0-9_-]{1,40}\.[A-Za-z0-9_-]{1,40}", fullmatch=True)
)
def test_any_text_is_refused_and_breaks_nothing(text: str) -> None:
    with pytest.raises(RequestError, match="not good"):
        asyncio.run(checking().read(text))


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=5), st.lists, max_leaves=5))
def test_any_signed_claims_are_believed_or_refused(value: Any) -> None:
    said = claims() | {"exp": value, "aud": value}
    with pytest.raises(RequestError, match="not good"):
        asyncio.run(shared().read(_by_hmac({"alg": "HS256"}, said, SECRET.encode())))


# --- shared secrets and the log --------------------------------------------------------------------------


async def test_a_shared_secret_needs_no_key_id() -> None:
    text = _by_hmac({"alg": "HS256"}, claims(), SECRET.encode())
    assert (await shared().read(text)).claims["sub"] == "ann"
    assert await reason(shared(), _by_hmac({"alg": "HS256"}, claims(), b"another secret of 32 bytes, or so")) == (
        "its signature is wrong"
    )


async def test_where_a_secret_is_shared_neither_a_key_of_ones_own_nor_nothing_signs() -> None:
    for text in (token(), assembled({"alg": "none"}, claims()), assembled({"alg": "none"}, claims(), b"")):
        assert await reason(shared(), text) in {"its algorithm is not among `algorithms`", "it is no signed JWT"}
    assert await reason(shared(), _by_hmac({"alg": "HS256"}, claims(), b"")) == "its signature is wrong"


async def test_each_reason_is_logged_once_a_minute() -> None:
    clock = HandClock()
    tokens = checking(clock=clock)
    with capture_logs() as logged:
        for text in [token(aud="x"), token(aud="x"), token(iss="x"), token(aud="y")]:
            with pytest.raises(RequestError):
                await tokens.read(text)
        clock.seconds += 61
        with pytest.raises(RequestError):
            await tokens.read(token(aud="x"))
    assert [line["reason"] for line in logged] == [
        "it is for another audience",
        "it is of another issuer",
        "it is for another audience",
    ]


def _by_rsa(header: Any, body: str) -> str:
    """Sign with the right key whatever the header says."""
    head = header if isinstance(header, str) else json.dumps(header)
    parts = ".".join(_segment(part.encode()) for part in (head, body))
    signature = private_key("k1").sign(parts.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{parts}.{_segment(signature)}"


def _by_hmac(header: Any, said: Any, secret: bytes) -> str:
    parts = ".".join(_segment(json.dumps(part).encode()) for part in (header, said))
    return f"{parts}.{_segment(hmac.new(secret, parts.encode(), hashlib.sha256).digest())}"


def _segment(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
