from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtobserver.config.storage import absolute_store_url, store_path, store_url, without_password
from rtobserver.config.values import Wrong


@pytest.mark.parametrize(
    ("url", "absolute"),
    [
        ("sqlite:///calls.db", "sqlite:////etc/rt/calls.db"),
        ("sqlite:///../var/calls.db", "sqlite:////etc/var/calls.db"),
        ("sqlite:////srv/calls.db", "sqlite:////srv/calls.db"),
        ("postgresql://me@db/calls", "postgresql://me@db/calls"),
    ],
)
def test_the_database_file_is_found_from_the_configuration(url: str, absolute: str) -> None:
    assert absolute_store_url(store_url(url), "/etc/rt") == absolute


def test_only_sqlite_has_a_file() -> None:
    assert store_path("sqlite:////srv/calls.db") == "/srv/calls.db"
    assert store_path("postgresql://me@db/calls") == ""


def test_a_password_is_left_out_where_the_address_is_shown() -> None:
    shown = without_password("postgresql://me:hunter2@db:5432/calls?sslpassword=hunter2")
    assert shown == "postgresql://me@db:5432/calls?***"
    assert without_password("sqlite:////srv/calls.db") == "sqlite:////srv/calls.db"


@pytest.mark.parametrize(
    "url", ["", "postgresql:", "postgresql:///", "postgresql://h:0x/d", "sqlite://x", "postgres://h/d"]
)
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(Wrong):
        store_url(url)


@given(st.text(max_size=40) | st.text(max_size=40).map(lambda rest: f"postgresql://{rest}"))
def test_any_text_is_a_store_or_refused(text: str) -> None:
    with suppress(Wrong):
        assert without_password(store_url(text))
