import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtobserver.upstream.refusal import LONGEST_MESSAGE, Refusal, read_refusal


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (
            b'{"error":{"message":"Bad.","type":"invalid_request_error","code":"invalid_offer","param":null}}',
            "invalid_offer",
            "Bad.",
        ),
        (b'{"error":{"message":"Bad.","type":"invalid_request_error","code":null}}', "invalid_request_error", "Bad."),
        (b'{"error":{"code":"DeploymentNotFound","message":"None."}}', "DeploymentNotFound", "None."),
        (b'{"statusCode": 401, "message": "Access denied"}', "", "Access denied"),
        (b'{"error":"gone"}', "", "gone"),
        (b'{"error":{"message":"two\\nlines\\u0000"}}', "", "two lines"),
        (b'{"error":{"message":["x"],"code":{"y":1}}}', "", ""),
        (b'{"error":{"code":"has spaces in it"}}', "", ""),
        (b'{"error":null}', "", ""),
        (b"[]", "", ""),
        (b"", "", ""),
        (b"<html>502</html>", "", ""),
        (b"\xff\xfe", "", ""),
        (b"[" * 100_000, "", ""),
    ],
)
def test_each_shape_gives_what_it_has(body: bytes, code: str, message: str) -> None:
    assert read_refusal(body) == Refusal(code, message)


def test_a_long_sentence_is_cut() -> None:
    assert len(read_refusal(json.dumps({"message": "x" * 10_000}).encode()).message) == LONGEST_MESSAGE


@pytest.mark.parametrize(
    "said", ["Incorrect key sk-abc***xyz", "expired ek_123", "bad line v=0", "a=ice-pwd:x", "you sent my-own-secret"]
)
def test_secrets_and_offers_are_noticed(said: str) -> None:
    assert Refusal("", said).repeats(["my-own-secret"])
    assert not Refusal("invalid_offer", "Bad offer.").repeats(["my-own-secret", ""])


@given(
    st.binary()
    | st.recursive(
        st.none() | st.text() | st.integers(),
        lambda inner: st.dictionaries(st.sampled_from(["error", "code", "message", "type", "x"]), inner),
    ).map(lambda value: json.dumps(value).encode())
)
def test_no_body_raises(body: bytes) -> None:
    read_refusal(body)
