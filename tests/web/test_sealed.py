import base64

import msgspec
import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given
from hypothesis import strategies as st

from rtobserver.web.sealed import MAX_TOKEN, Grant, GrantTooLarge, Sealer

KEY = bytes(range(32))
GRANT = Grant(
    token_id="t1",
    profile="default",
    expires_at=1_000,
    user="ann",
    labels={"team": "blue"},
    session={"audio": {"output": {"voice": "marin"}}},
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)


@given(
    st.builds(
        Grant,
        token_id=texts,
        profile=texts,
        expires_at=st.integers(0, 2**40),
        user=st.none() | texts,
        labels=st.dictionaries(texts, texts, max_size=4),
        session=st.none() | st.dictionaries(texts, texts | st.integers(0, 9) | st.none() | st.lists(texts), max_size=4),
    )
)
def test_what_is_sealed_is_opened_again(grant: Grant) -> None:
    assert Sealer(KEY).open(Sealer(KEY).seal(grant)) == grant


def test_a_token_looks_like_an_upstream_secret_and_says_nothing() -> None:
    token = Sealer(KEY).seal(GRANT)
    assert token.startswith("ek_")
    assert token[3:].replace("-", "").replace("_", "").isalnum()
    assert b"ann" not in base64.urlsafe_b64decode(token[3:] + "===")


def test_no_two_tokens_are_alike() -> None:
    assert Sealer(KEY).seal(GRANT) != Sealer(KEY).seal(GRANT)


def test_expiry_is_told_apart_from_not_being_ours() -> None:
    grant = Sealer(KEY).open(Sealer(KEY).seal(GRANT))
    assert grant is not None
    assert not grant.has_expired(999.9)
    assert grant.has_expired(1_000.0)


def test_a_token_of_another_key_does_not_open() -> None:
    assert Sealer(bytes(32)).open(Sealer(KEY).seal(GRANT)) is None


@given(st.integers(0, 400), st.integers(1, 255))
def test_a_token_with_one_bit_changed_does_not_open(at: int, change: int) -> None:
    token = Sealer(KEY).seal(GRANT)
    raw = bytearray(base64.urlsafe_b64decode(token[3:] + "=" * (-len(token[3:]) % 4)))
    raw[at % len(raw)] ^= change
    assert Sealer(KEY).open("ek_" + base64.urlsafe_b64encode(raw).decode().rstrip("=")) is None


@given(st.text() | st.text("abcdefABCDEF0123456789-_=", max_size=80))
def test_no_text_breaks_opening(text: str) -> None:
    assert Sealer(KEY).open(text) is None
    assert Sealer(KEY).open("ek_" + text) is None


def test_what_was_sealed_for_another_purpose_does_not_open() -> None:
    nonce = bytes(12)
    content = msgspec.msgpack.encode(["t1", "default", 1_000, None, {}, None])
    box = b"\x01" + nonce + ChaCha20Poly1305(KEY).encrypt(nonce, content, None)
    assert Sealer(KEY).open("ek_" + base64.urlsafe_b64encode(box).decode().rstrip("=")) is None


def test_a_grant_that_fits_no_header_is_refused() -> None:
    with pytest.raises(GrantTooLarge):
        Sealer(KEY).seal(Grant(token_id="t", profile="p", expires_at=1, session={"instructions": "x" * MAX_TOKEN}))


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_a_key_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Sealer(bytes(size))
