import json
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rtobserver.errors import RequestError
from rtobserver.web.intake import Form, SecretRequest, check_offer, read_form, read_secret_request
from tests.support.watch import quickest

OFFER = b"v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n"
MULTIPART = "multipart/form-data; boundary=B"


def form(*parts: tuple[str, bytes], boundary: str = "B") -> bytes:
    """Write a form; a part is what follows `form-data;` (and further headers), and its body."""
    pieces = [
        f"--{boundary}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + body + b"\r\n"
        for head, body in parts
    ]
    return b"".join(pieces) + f"--{boundary}--\r\n".encode()


def status_of(read: Callable[[], object]) -> int:
    try:
        read()
    except RequestError as error:
        return error.status
    return 200


def refusal(content_type: str, body: bytes) -> tuple[int, str, str]:
    with pytest.raises(RequestError) as caught:
        read_form(content_type, body)
    return caught.value.status, caught.value.code, caught.value.message


@pytest.mark.parametrize("content_type", ["application/sdp", "Application/SDP; charset=utf-8"])
def test_a_raw_offer_is_taken_byte_for_byte(content_type: str) -> None:
    assert read_form(content_type, OFFER) == Form(sdp=OFFER)


@pytest.mark.parametrize(
    "head",
    [
        'name="sdp"',
        "name=sdp",
        'name="sdp"\r\nContent-Type: application/sdp',
        'name="sdp"; filename="offer.sdp"\r\nContent-Type: application/octet-stream',
        'name="sdp"; filename=""',
    ],
)
def test_an_offer_in_a_form_is_taken_byte_for_byte(head: str) -> None:
    assert read_form(MULTIPART, form((head, OFFER))).sdp == OFFER


def test_the_final_newline_of_an_offer_is_neither_added_nor_taken() -> None:
    for sdp in (OFFER, OFFER[:-2], OFFER + b"\r\n", OFFER.replace(b"\r\n", b"\n")):
        assert read_form(MULTIPART, form(('name="sdp"', sdp))).sdp == sdp


def test_what_comes_with_an_offer_is_found() -> None:
    body = form(
        ('name="session"\r\nContent-Type: application/json', b'{"type": "realtime"}'),
        ('name="sdp"', OFFER),
        ('name="profile"', b"sales"),
        ('name="labels"', b'{"a": "b"}'),
        ('name="other"', b"whatever"),
    )
    expected = Form(sdp=OFFER, session={"type": "realtime"}, profile="sales", labels='{"a": "b"}')
    assert read_form(MULTIPART, body) == expected


def test_a_boundary_that_the_header_leaves_out_is_found_in_the_body() -> None:
    boundary = "codex-realtime-call-boundary"
    assert read_form("multipart/form-data", form(('name="sdp"', OFFER), boundary=boundary)).sdp == OFFER


def test_a_quoted_boundary_is_understood() -> None:
    body = form(('name="sdp"', OFFER), boundary="a b")
    assert read_form('multipart/form-data; boundary="a b"', body).sdp == OFFER


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/plain",
        "application/json",
        "application/x-www-form-urlencoded",
        "multipart/mixed; boundary=B",
        "\udcff",
    ],
)
def test_another_type_is_a_415_that_names_the_right_ones(content_type: str) -> None:
    status, code, message = refusal(content_type, OFFER)
    assert (status, code) == (415, "wrong_content_type")
    assert "application/sdp" in message


@pytest.mark.parametrize(
    ("sdp", "word"),
    [
        (b"", "empty"),
        (b" \r\n", "empty"),
        (json.dumps(OFFER.decode()).encode(), "JSON"),
        (json.dumps({"type": "offer", "sdp": OFFER.decode()}).encode(), "JSON"),
        (b"<!doctype html><html></html>", "HTML"),
        (OFFER.replace(b"\r\n", b"\\r\\n"), "escaped"),
        (b"hello", "v=0"),
        (b"v=1\r\nm=audio", "v=0"),
        (b"v=0", "v=0"),
        (b"\xef\xbb\xbf" + OFFER, "v=0"),
        (b" " + OFFER, "v=0"),
        (b"\xff\xfe\x00", "v=0"),
        (OFFER + b"s=\xff\xfe", "UTF-8"),
        (OFFER + b"\x00", "UTF-8"),
        (OFFER.replace(b"m=audio", b"a=audio"), "m="),
        (OFFER + b"a=" + b"x" * 60_000, "line"),
        (OFFER + b"a=\n" * 100_000, "lines"),
        (OFFER + b"m=audio 9 RTP/AVP 0\r\n" * 500, "media"),
    ],
)
def test_a_bad_offer_is_told_what_is_wrong_with_it(sdp: bytes, word: str) -> None:
    status, code, message = refusal("application/sdp", sdp)
    assert (status, code) == (400, "invalid_offer")
    assert word in message


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (MULTIPART, b""),
        (MULTIPART, b"no boundary at all"),
        (MULTIPART, b"x" * 60_000),
        (MULTIPART, form(('name="sdp"', OFFER))[:-6]),
        (MULTIPART, form(('name="sdp"', OFFER), boundary="C")),
        (MULTIPART, form(('name="sdp"', OFFER), ('name="sdp"', OFFER))),
        (MULTIPART, form(*[(f'name="n{n}"', b"") for n in range(40)])),
        (MULTIPART, b"--B\r\nContent-Disposition: attachment; name=sdp\r\n\r\nx\r\n--B--"),
        (MULTIPART, b"--B\r\n\r\nx\r\n--B--"),
        (MULTIPART, form(('name="sdp"\r\nX: ' + "x" * 9000, OFFER))),
        ("multipart/form-data", b""),
        ("multipart/form-data", b"--" + b"x" * 60_000),
        ("multipart/form-data; boundary=" + "x" * 300, form(('name="sdp"', OFFER))),
        ("multipart/form-data; boundary=\udcff", b"--\xff--"),
        (MULTIPART, form(('name="sdp"', OFFER), ('name="profile"', b"\xff"))),
    ],
)
def test_a_form_that_cannot_be_read_is_a_400(content_type: str, body: bytes) -> None:
    assert refusal(content_type, body)[0] == 400


def test_a_form_without_an_offer_says_which_field_is_missing() -> None:
    status, code, message = refusal(MULTIPART, form(('name="offer"', OFFER)))
    assert (status, code) == (400, "invalid_offer")
    assert "`sdp`" in message


@pytest.mark.parametrize("session", [b"", b"{", b"[]", b'"x"', b"\xff", b'{"a": "\\ud800"}', b"[" * 50_000])
def test_a_session_that_is_no_object_is_a_400(session: bytes) -> None:
    body = form(('name="sdp"', OFFER), ('name="session"', session))
    assert refusal(MULTIPART, body)[:2] == (400, "invalid_session")


@given(
    st.sampled_from(["application/sdp", MULTIPART, "multipart/form-data", "multipart/form-data; boundary="])
    | st.text(max_size=40),
    st.binary(max_size=300)
    | st.lists(
        st.sampled_from(
            [b"--B", b"--", b"\r\n", b"\n", b"Content-Disposition: form-data; name=sdp", b":", OFFER, b"x"]
        ),
        max_size=12,
    ).map(b"".join),
)
@example(MULTIPART, b"--B\r\n \r\n")
@example(MULTIPART, b"--B\r\nA: b\r\n \r\n\r\n")
def test_any_bytes_are_an_offer_or_a_4xx(content_type: str, body: bytes) -> None:
    assert status_of(lambda: read_form(content_type, body)) in {200, 400, 413, 415}


@given(st.binary(max_size=300) | st.text(max_size=50).map(lambda text: b"v=0\r\nm=" + text.encode("utf-8", "replace")))
def test_any_offer_is_taken_or_a_400(sdp: bytes) -> None:
    assert status_of(lambda: check_offer(sdp)) in {200, 400}


def test_the_worst_offers_are_refused_in_no_time() -> None:
    worst = (OFFER + b"\r" * 64_000, OFFER + b"m=\n" * 21_000, b'"' + OFFER * 500, b"v=0\r" + b"\r\n" * 30_000)
    assert {refusal("application/sdp", sdp)[0] for sdp in worst} == {400}
    assert quickest(lambda: [refusal("application/sdp", sdp) for sdp in worst], 0.2) < 0.2


def test_a_secret_may_be_asked_for_without_a_word() -> None:
    assert read_secret_request("", b"") == SecretRequest()
    assert read_secret_request("application/json", b"{}") == SecretRequest()
    assert read_secret_request("application/json; charset=utf-8", b'{"session": null}') == SecretRequest()


def test_a_secret_may_be_asked_for_with_a_session_and_a_life() -> None:
    body = b'{"expires_after": {"anchor": "created_at", "seconds": 60}, "session": {"type": "realtime"}}'
    assert read_secret_request("application/json", body) == SecretRequest(session={"type": "realtime"}, seconds=60)
    assert read_secret_request("application/json", b'{"expires_after": {}}').seconds is None


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'{"session": 1}',
        b'{"session": []}',
        b'{"expires_after": 60}',
        b'{"expires_after": {"anchor": "now", "seconds": 60}}',
        b'{"expires_after": {"seconds": 9}}',
        b'{"expires_after": {"seconds": 7201}}',
        b'{"expires_after": {"seconds": true}}',
        b'{"expires_after": {"seconds": "60"}}',
        b'{"expires_after": {"seconds": 60.5}}',
        b'{"expires_after": {"seconds": 1e400}}',
        b"\xff",
    ],
)
def test_a_bad_request_for_a_secret_is_a_400(body: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        read_secret_request("application/json", body)
    assert caught.value.status == 400


def test_a_request_for_a_secret_in_another_type_is_a_415() -> None:
    with pytest.raises(RequestError) as caught:
        read_secret_request("text/plain", b"{}")
    assert caught.value.status == 415


members = st.sampled_from(["session", "expires_after", "seconds", "anchor"])
documents = st.recursive(
    st.none() | st.text() | st.integers(),
    lambda inner: st.lists(inner) | st.dictionaries(members, inner),
)


@given(st.binary(max_size=200) | documents.map(lambda document: json.dumps(document).encode()))
def test_any_request_for_a_secret_is_read_or_a_400(body: bytes) -> None:
    assert status_of(lambda: read_secret_request("application/json", body)) in {200, 400}
