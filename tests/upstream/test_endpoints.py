from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtobserver.upstream.endpoints import Endpoints

AZURE = Endpoints("https://res.openai.azure.com/openai/v1", "azure")


def test_addresses_lie_below_the_base() -> None:
    assert AZURE.client_secrets() == "https://res.openai.azure.com/openai/v1/realtime/client_secrets"
    assert AZURE.calls(webrtcfilter=False) == "https://res.openai.azure.com/openai/v1/realtime/calls"
    assert AZURE.hangup("rtc_1") == "https://res.openai.azure.com/openai/v1/realtime/calls/rtc_1/hangup"
    assert AZURE.attach("rtc_1") == "wss://res.openai.azure.com/openai/v1/realtime?call_id=rtc_1"


def test_a_plain_base_gives_a_plain_websocket_and_keeps_its_port() -> None:
    assert (
        Endpoints("http://127.0.0.1:9000/v1", "openai").attach("rtc_1")
        == "ws://127.0.0.1:9000/v1/realtime?call_id=rtc_1"
    )
    assert Endpoints("http://[::1]:9000/v1", "openai").attach("rtc_1") == "ws://[::1]:9000/v1/realtime?call_id=rtc_1"


@pytest.mark.parametrize(
    "base_url", ["https://h/v1/", "https://h/v1//", "https://h/v1?api-version=2025-08-28", "https://h/v1#x"]
)
def test_slashes_queries_and_fragments_of_the_base_are_left_out(base_url: str) -> None:
    assert Endpoints(base_url, "compatible").client_secrets() == "https://h/v1/realtime/client_secrets"


@pytest.mark.parametrize(
    ("provider", "query"), [("azure", "?webrtcfilter=on"), ("compatible", "?webrtcfilter=on"), ("openai", "")]
)
def test_the_filter_is_asked_for_only_where_it_may_exist(
    provider: Literal["azure", "openai", "compatible"], query: str
) -> None:
    assert Endpoints("https://h/v1", provider).calls(webrtcfilter=True) == "https://h/v1/realtime/calls" + query


@given(st.text(st.characters(codec="utf-8"), min_size=1))
def test_no_id_can_add_a_segment_or_a_parameter(call_id: str) -> None:
    assert AZURE.hangup(call_id).count("/") == 8
    assert AZURE.attach(call_id).count("/") == 5
    assert AZURE.attach(call_id).count("&") == 0
    assert AZURE.attach(call_id).count("?") == 1


def test_neither_version_nor_model_is_ever_sent() -> None:
    for address in (
        AZURE.client_secrets(),
        AZURE.calls(webrtcfilter=True),
        AZURE.hangup("rtc_1"),
        AZURE.attach("rtc_1"),
    ):
        assert "api-version" not in address
        assert "model" not in address
