from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtobserver.config import addresses
from rtobserver.config.values import Wrong


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "localhost", "Web.localhost."])
def test_loopback_hosts_are_known(host: str) -> None:
    assert addresses.is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "localhost.example.com", "notlocalhost", ""])
def test_other_hosts_are_not_taken_for_loopback(host: str) -> None:
    assert not addresses.is_loopback(host)


@pytest.mark.parametrize(
    "host", ["voice.example.com", "xn--bcher-kva.example", "10.0.0.1", "::1", "my_service", "a.b1"]
)
def test_hosts_are_names_or_addresses(host: str) -> None:
    assert addresses.host(host) == host


@pytest.mark.parametrize(
    "host", ["", "a b", "[::1]", "a:80", "https://a", "*.a", "a..b", "127.1", "0x7f.1", "2130706433", "-a", "a/b"]
)
def test_what_is_neither_a_name_nor_an_address_is_refused(host: str) -> None:
    with pytest.raises(Wrong):
        addresses.host(host)


@pytest.mark.parametrize(
    "origin", ["https://app.example.com", "http://localhost:5173", "https://[2001:db8::1]:8443", "http://10.0.0.1"]
)
def test_exact_origins_are_taken_as_they_are(origin: str) -> None:
    assert addresses.origin(origin) == origin


def test_one_slash_at_the_end_of_a_listeners_origin_is_forgiven() -> None:
    assert addresses.optional_origin("https://voice.example.com/") == "https://voice.example.com"
    assert addresses.optional_origin("") == ""


@pytest.mark.parametrize("origin", ["*", "null", "file:///a", "https://a?", "https://a#", "https://u@a", "https://A"])
def test_what_browsers_never_send_as_origin_is_refused(origin: str) -> None:
    with pytest.raises(Wrong):
        addresses.origin(origin)


@pytest.mark.parametrize(
    "url",
    [
        "https://169.254.169.254/latest",
        "https://[fe80::1]/",
        "https://168.63.129.16/",
        "https://[fd00:ec2::254]/",
        "https://metadata.google.internal./",
        "https://0.0.0.0/",
        "https://224.0.0.1/",
        "https://0xa9fea9fe/",
    ],
)
def test_addresses_that_hand_out_machine_credentials_are_never_asked(url: str) -> None:
    with pytest.raises(Wrong):
        addresses.outbound(url, allow_http=True)


def test_http_is_for_loopback_unless_it_was_allowed() -> None:
    assert addresses.outbound("http://localhost:9/hook")
    assert addresses.outbound("http://ops.example.com/hook", allow_http=True)
    with pytest.raises(Wrong, match="is not https"):
        addresses.outbound("http://ops.example.com/hook")


def test_a_proxy_may_have_a_user_and_a_password() -> None:
    assert addresses.proxy("http://me:word@proxy.example.com:3128") == "http://me:word@proxy.example.com:3128"
    assert addresses.proxy("") == ""


def test_networks_are_read_in_cidr_notation_or_as_one_address() -> None:
    assert addresses.network("10.0.0.0/8") == "10.0.0.0/8"
    assert addresses.network("10.0.0.1") == "10.0.0.1/32"
    assert addresses.network("fd00::/8") == "fd00::/8"


def test_no_message_repeats_a_password() -> None:
    for check in (addresses.upstream, addresses.outbound, addresses.proxy, addresses.origin):
        for url in ("ftp://me:hunter2@a.example/x", "https://me:hunter2@a.example/openai/realtimertc"):
            with pytest.raises(Wrong) as caught:
                check(url)
            assert "hunter2" not in caught.value.problem + caught.value.remedy


@given(st.text(max_size=60) | st.from_regex(r"https?://[a-z0-9.:@\[\]/?#%-]{0,30}"))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    for check in (addresses.upstream, addresses.outbound, addresses.proxy, addresses.origin, addresses.network):
        with suppress(Wrong):
            check(text)
