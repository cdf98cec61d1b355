"""What becomes of questions and notifications, over real sockets and against peers that misbehave."""

from __future__ import annotations

import asyncio
import base64
import re
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
import pytest
from standardwebhooks import Webhook as Verifier
from structlog.testing import capture_logs

from rtobserver import outbound
from rtobserver.clock import SystemClock
from rtobserver.config.sections import Secret, Webhook
from rtobserver.errors import OutboundError
from rtobserver.metrics import Metrics
from rtobserver.outbound import Outbound
from tests.browser.certificates import certify
from tests.upstream.raw_peer import Peer, answer, cut, flood, peer, raw, silence
from tests.web.wire import until

BODY = b'{"call_id":"rtc_1","name":"weather"}'
SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123").decode()
QUICK: dict[str, Any] = {"first_delay": 0.01}
"""Retries that follow at once."""


@pytest.fixture
async def endpoint() -> AsyncIterator[Peer]:
    async with peer() as opened:
        yield opened


def hooks(*peers: Peer, secret: str | None = None) -> list[Webhook]:
    return [
        Webhook(id=f"hook-{n}", url=each.url, secret=None if secret is None else Secret(secret))
        for n, each in enumerate(peers)
    ]


class Counted(Metrics):
    """Read figures back, which the product never does."""

    def of(self, name: str, **labels: str) -> float:
        inner = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
        wanted = f"{name}{{{inner}}}" if inner else name
        found = [
            float(line.rpartition(" ")[2]) for line in self.render().decode().splitlines() if line.startswith(wanted)
        ]
        return sum(found)

    def became(self, outcome: str, webhook: str = "hook-0") -> float:
        return self.of("rtobserver_webhook_notifications_total", outcome=outcome, webhook=webhook)


def made(*webhooks: Webhook, metrics: Metrics | None = None, **times: Any) -> Outbound:
    return Outbound(webhooks, SystemClock(), metrics or Metrics(), **times)


async def ask(endpoint: Peer, *, timeout: float = 5.0, secret: str | None = None) -> str:
    async with made() as out:
        return await out.ask(endpoint.url, BODY, timeout=timeout, secret=None if secret is None else Secret(secret))


# --- questions ----------------------------------------------------------------------------------


async def test_a_question_is_posted_as_json_and_its_answer_given_as_text(endpoint: Peer) -> None:
    endpoint.will(answer(200, '{"sky": "blau, schön"}'.encode(), [("Content-Type", "application/json")]))
    assert await ask(endpoint) == '{"sky": "blau, schön"}'
    [asked] = endpoint.asked
    assert asked.line.startswith("POST /openai/v1 ")
    assert asked.headers["content-type"] == "application/json"
    assert asked.body == BODY
    assert "cookie" not in asked.headers
    assert "webhook-signature" not in asked.headers


@pytest.mark.parametrize("status", [201, 202, 204])
async def test_every_2xx_is_an_answer_even_an_empty_one(endpoint: Peer, status: int) -> None:
    endpoint.will(answer(status))
    assert await ask(endpoint) == ""


async def test_a_question_is_signed_where_there_is_a_secret(endpoint: Peer) -> None:
    endpoint.will(answer(200, b"yes"))
    await ask(endpoint, secret=SECRET)
    [asked] = endpoint.asked
    assert Verifier(SECRET).verify(asked.body, asked.headers)["call_id"] == "rtc_1"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (SECRET, b"0123456789abcdef0123"),
        (SECRET.rstrip("="), b"0123456789abcdef0123"),
        ("any text at all", b"any text at all"),
        ("whsec_ not base64", b"whsec_ not base64"),
        ("whsec_", b"whsec_"),
        ("päss", "päss".encode()),
    ],
)
def test_a_secret_is_base64_behind_its_prefix_or_any_text(text: str, key: bytes) -> None:
    assert outbound.signing_key(Secret(text)) == key


LONG = 10 * 1024 * 1024
OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("steps", "outcome", "problem"),
    [
        pytest.param(answer(500, b"{}"), "refused", "the answer was 500", id="500"),
        pytest.param(answer(404), "refused", "the answer was 404", id="404"),
        pytest.param(
            answer(302, headers=[("Location", "/openai/v1")]),
            "refused",
            "the answer was a redirect (302), and none is followed",
            id="redirect",
        ),
        pytest.param(
            answer(200, b"<html>", [("Content-Type", "text/html; charset=utf-8")]),
            "broken",
            "the answer was a web page",
            id="a page",
        ),
        pytest.param(
            answer(200, b"\xef\xbb\xbf\r\n <!DOCTYPE HTML><p>login"), "broken", "a web page", id="a hidden page"
        ),
        pytest.param(
            answer(200, b"<Html lang=en>", [("Content-Type", "text/plain")]),
            "broken",
            "a web page",
            id="a page as text",
        ),
        pytest.param(
            answer(200, "schön".encode("latin-1"), [("Content-Type", "text/plain; charset=iso-8859-1")]),
            "broken",
            "the answer was not text in UTF-8",
            id="latin-1",
        ),
        pytest.param(
            answer(200, "yes".encode("utf-16-le"), [("Content-Type", "text/plain; charset=utf-16le")]),
            "broken",
            "the answer was not text in UTF-8",
            id="utf-16",
        ),
        pytest.param(answer(200, b"\xff\xfe"), "broken", "the answer was not text in UTF-8", id="bytes"),
        pytest.param(
            answer(200, b"\x1f\x8b\x08", [("Content-Encoding", "gzip")]),
            "broken",
            "the answer was compressed, which was not asked for",
            id="gzip",
        ),
        pytest.param(
            cut(OK + b"Content-Length: 100\r\n\r\nhalf"), "broken", "the answer broke off", id="half an answer"
        ),
        pytest.param(
            cut(OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhal"), "broken", "the answer broke off", id="half a chunk"
        ),
        pytest.param(cut(), "unreachable", "before the answer (ServerDisconnectedError)", id="closed"),
        pytest.param(raw(b"SMTP 220 hello\r\n\r\n"), "unreachable", "before the answer", id="no HTTP"),
    ],
)
async def test_what_is_no_answer_is_told_in_a_sentence(endpoint: Peer, steps: Any, outcome: str, problem: str) -> None:
    endpoint.will(steps)
    metrics = Counted()
    with pytest.raises(OutboundError, match=re.escape(problem)) as caught:
        async with made(metrics=metrics) as out:
            await out.ask(endpoint.url, BODY, timeout=5, secret=None)
    assert caught.value.outcome == outcome
    assert metrics.of("rtobserver_tool_asks_total", outcome=outcome) == 1
    assert len(endpoint.asked) == 1


async def test_an_answer_of_ten_megabytes_is_read_no_further_than_its_bound(endpoint: Peer) -> None:
    written = 0

    async def pour(writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(OK + f"Content-Length: {LONG}\r\n\r\n".encode())
        try:
            for _ in range(LONG // 65536):
                writer.write(b"x" * 65536)
                await writer.drain()
                written += 65536
        except ConnectionError:
            writer.close()

    endpoint.will(pour)
    with pytest.raises(OutboundError, match="the answer was longer than 64 KiB"):
        await ask(endpoint)
    # the rest is what the kernel's buffers took
    assert written < LONG
    assert len(endpoint.asked) == 1


async def test_an_answer_of_exactly_64_kib_is_given_whole(endpoint: Peer) -> None:
    endpoint.will(answer(200, b"x" * 65536))
    assert len(await ask(endpoint)) == 65536


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(silence, id="no word"),
        pytest.param(raw(OK), id="half a head"),
        pytest.param(raw(OK + b"Content-Length: 10\r\n\r\nhalf"), id="half a body"),
    ],
)
async def test_an_endpoint_that_hangs_costs_its_time_and_no_more(endpoint: Peer, step: Any) -> None:
    endpoint.will(step)
    metrics = Counted()
    async with made(metrics=metrics) as out:
        async with asyncio.timeout(5):
            with pytest.raises(OutboundError, match=r"there was no whole answer within 0.2 s") as caught:
                await out.ask(endpoint.url, BODY, timeout=0.2, secret=None)
    assert caught.value.outcome == "timeout"
    assert metrics.of("rtobserver_tool_asks_total", outcome="timeout") == 1
    # its time may be over before the question has left
    assert len(endpoint.asked) <= 1


async def test_an_endpoint_that_drips_does_not_outlast_the_time(endpoint: Peer) -> None:
    async def drip(writer: asyncio.StreamWriter) -> None:
        writer.write(OK + b"Content-Length: 1000000\r\n\r\n")
        try:
            while True:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.02)
        except ConnectionError:
            writer.close()

    endpoint.will(drip)
    async with asyncio.timeout(5):
        with pytest.raises(OutboundError, match="no whole answer"):
            await ask(endpoint, timeout=0.3)


async def test_a_question_nobody_listens_to_is_unreachable() -> None:
    async with peer() as gone:
        pass
    with pytest.raises(OutboundError, match=r"there was no connection .*: Connection refused") as caught:
        await ask(gone)
    assert caught.value.outcome == "unreachable"
    assert f":{gone.port}" not in str(caught.value)


async def test_a_server_whose_certificate_nobody_vouches_for_gets_no_question(tmp_path: Path) -> None:
    certificate = certify(tmp_path, "outside", "127.0.0.1")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate.path, certificate.key)
    got: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.append(await reader.read(1))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with server, made() as out:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        with pytest.raises(OutboundError, match="there was no connection") as caught:
            await out.ask(url, BODY, timeout=5, secret=None)
    assert caught.value.outcome == "unreachable"
    assert got == []


async def test_no_proxy_of_the_environment_is_asked(endpoint: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    endpoint.will(answer(200, b"straight"))
    assert await ask(endpoint) == "straight"


async def test_no_cookie_is_kept(endpoint: Peer) -> None:
    endpoint.will(answer(200, b"1", [("Set-Cookie", "a=1")]), answer(200, b"2"))
    async with made() as out:
        for _ in range(2):
            await out.ask(endpoint.url, BODY, timeout=5, secret=None)
    assert "cookie" not in endpoint.asked[1].headers
    assert [asked.connection for asked in endpoint.asked] == [1, 2]


# --- notifications ------------------------------------------------------------------------------


async def test_a_notification_is_delivered_once_and_its_signature_is_good(endpoint: Peer) -> None:
    endpoint.will(answer(200, b"thanks"))
    metrics = Counted()
    async with made(*hooks(endpoint, secret=SECRET), metrics=metrics) as out:
        out.notify("hook-0", {"policy": "refund", "call": {"call_id": "rtc_1"}})
        await until(lambda: metrics.became("delivered") == 1)
    [asked] = endpoint.asked
    assert Verifier(SECRET).verify(asked.body, asked.headers) == {"policy": "refund", "call": {"call_id": "rtc_1"}}
    assert asked.headers["webhook-id"].startswith("msg_")
    assert metrics.of("rtobserver_webhook_queue", webhook="hook-0") == 0


async def test_a_secret_that_is_any_text_signs_with_its_bytes(endpoint: Peer) -> None:
    endpoint.will(answer(204))
    async with made(*hooks(endpoint, secret="any text")) as out:
        out.notify("hook-0", {"a": 1})
        await until(lambda: len(endpoint.asked) == 1)
    [asked] = endpoint.asked
    assert Verifier(b"any text").verify(asked.body, asked.headers) == {"a": 1}


async def test_without_a_secret_nothing_is_signed_and_the_id_is_there(endpoint: Peer) -> None:
    endpoint.will(answer(204))
    async with made(*hooks(endpoint)) as out:
        out.notify("hook-0", {"a": 1})
    [asked] = endpoint.asked
    assert "webhook-signature" not in asked.headers
    assert asked.headers["webhook-id"]
    assert int(asked.headers["webhook-timestamp"]) > 1_700_000_000


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(answer(500), id="500"),
        pytest.param(answer(503), id="503"),
        pytest.param(answer(408), id="408"),
        pytest.param(answer(429), id="429"),
        pytest.param(cut(), id="closed"),
        pytest.param(silence, id="hangs"),
    ],
)
async def test_what_may_pass_is_tried_again_under_the_same_id(endpoint: Peer, step: Any) -> None:
    endpoint.will(step, step, answer(200))
    metrics = Counted()
    async with made(*hooks(endpoint, secret=SECRET), metrics=metrics, try_seconds=0.3, **QUICK) as out:
        out.notify("hook-0", {"a": 1})
        await until(lambda: metrics.became("delivered") == 1)
    assert len(endpoint.asked) == 3
    assert len({asked.headers["webhook-id"] for asked in endpoint.asked}) == 1
    assert len({asked.body for asked in endpoint.asked}) == 1
    for asked in endpoint.asked:
        Verifier(SECRET).verify(asked.body, asked.headers)
    assert metrics.of("rtobserver_webhook_failures_total", webhook="hook-0") == 2


@pytest.mark.parametrize("status", [301, 307, 400, 401, 404, 410, 422])
async def test_what_will_not_pass_is_tried_once_and_logged(endpoint: Peer, status: int) -> None:
    endpoint.will(answer(status, headers=[("Location", "/elsewhere")]))
    metrics = Counted()
    with capture_logs() as logs:
        async with made(*hooks(endpoint), metrics=metrics, **QUICK) as out:
            out.notify("hook-0", {"a": 1})
            await until(lambda: metrics.became("failed") == 1)
    assert len(endpoint.asked) == 1
    [logged] = [line for line in logs if line["event"] == "notification_not_delivered"]
    assert (logged["webhook"], logged["became"], logged["tries"]) == ("hook-0", "failed", 1)
    assert str(status) in logged["problem"]
    assert f":{endpoint.port}" not in str(logs)


async def test_a_wish_to_wait_is_honoured(endpoint: Peer) -> None:
    moments: list[float] = []

    def noting(step: Any) -> Any:
        async def note(writer: asyncio.StreamWriter) -> None:
            moments.append(asyncio.get_running_loop().time())
            await step(writer)

        return note

    endpoint.will(noting(answer(429, headers=[("Retry-After", "1")])), noting(answer(200)))
    async with made(*hooks(endpoint), **QUICK) as out:
        out.notify("hook-0", {"a": 1})
        await until(lambda: len(moments) == 2)
    assert 1.0 <= moments[1] - moments[0] < 5


async def test_a_notification_is_given_up_when_it_is_too_old(endpoint: Peer) -> None:
    endpoint.will(*[answer(500)] * 50)
    metrics = Counted()
    with capture_logs() as logs:
        async with made(*hooks(endpoint), metrics=metrics, give_up_seconds=0.2, **QUICK) as out:
            out.notify("hook-0", {"a": 1})
            await until(lambda: metrics.became("given_up") == 1)
    assert 1 < len(endpoint.asked) < 10
    assert [line["event"] for line in logs] == ["webhook_failing", "notification_not_delivered"]


async def test_a_webhook_that_hangs_holds_up_no_other(endpoint: Peer) -> None:
    async with peer() as dead:
        dead.will(*[silence] * 100)
        endpoint.will(*[answer(200)] * 50)
        metrics = Counted()
        async with made(*hooks(dead, endpoint), metrics=metrics, drain_seconds=0.0) as out:
            for number in range(50):
                out.notify("hook-0", {"n": number})
                out.notify("hook-1", {"n": number})
            await until(lambda: metrics.became("delivered", "hook-1") == 50)
            assert metrics.became("delivered") == 0
            assert metrics.of("rtobserver_webhook_queue", webhook="hook-0") == 50
            assert dead.opened <= outbound.AT_ONCE
    assert sorted(asked.json["n"] for asked in endpoint.asked) == list(range(50))


async def test_one_document_that_is_refused_holds_up_no_other_of_its_webhook(endpoint: Peer) -> None:
    async def choosy(writer: asyncio.StreamWriter) -> None:
        await answer(500 if endpoint.asked[-1].json["n"] == 0 else 200)(writer)

    endpoint.will(*[choosy] * 100)
    metrics = Counted()
    async with made(*hooks(endpoint), metrics=metrics, drain_seconds=0.0) as out:
        for number in range(20):
            out.notify("hook-0", {"n": number})
        await until(lambda: metrics.became("delivered") == 19)
    assert metrics.became("lost") == 1


async def test_a_full_queue_drops_and_says_so_once(endpoint: Peer) -> None:
    endpoint.will(*[silence] * 10)
    metrics = Counted()
    with capture_logs() as logs:
        async with made(*hooks(endpoint), metrics=metrics, drain_seconds=0.0) as out:
            for number in range(outbound.QUEUE + 7):
                out.notify("hook-0", {"n": number})
            assert metrics.became("dropped") == 7
            assert metrics.of("rtobserver_webhook_queue", webhook="hook-0") == outbound.QUEUE
    assert [line["event"] for line in logs].count("webhook_queue_full") == 1
    [lost] = [line for line in logs if line["event"] == "notifications_lost"]
    assert lost["count"] == outbound.QUEUE


async def test_a_queue_is_bounded_by_what_it_holds_too(endpoint: Peer) -> None:
    endpoint.will(*[silence] * 10)
    metrics = Counted()
    async with made(*hooks(endpoint), metrics=metrics, drain_seconds=0.0) as out:
        for _ in range(5):
            out.notify("hook-0", {"text": "x" * 2 * 1024 * 1024})
    assert metrics.became("dropped") == 2


async def test_what_waits_at_the_end_gets_a_last_try(endpoint: Peer) -> None:
    endpoint.will(answer(500), answer(200))
    metrics = Counted()
    async with made(*hooks(endpoint), metrics=metrics, first_delay=60.0) as out:
        out.notify("hook-0", {"a": 1})
        await until(lambda: metrics.of("rtobserver_webhook_failures_total") == 1)
    assert metrics.became("delivered") == 1


async def test_what_cannot_be_delivered_at_the_end_is_counted(endpoint: Peer) -> None:
    endpoint.will(silence, answer(500), answer(500))
    metrics = Counted()
    with capture_logs() as logs:
        async with asyncio.timeout(10):
            async with made(*hooks(endpoint), metrics=metrics, drain_seconds=0.3, first_delay=60.0) as out:
                for number in range(3):
                    out.notify("hook-0", {"n": number})
                await until(lambda: metrics.of("rtobserver_webhook_failures_total") == 2)
                endpoint.will(answer(500), answer(500))
    assert metrics.became("lost") == 3
    assert [line["count"] for line in logs if line["event"] == "notifications_lost"] == [3]


async def test_an_end_in_a_hurry_waits_for_nothing(endpoint: Peer) -> None:
    endpoint.will(silence, silence)
    metrics = Counted()
    async with asyncio.timeout(10):
        async with made(*hooks(endpoint), metrics=metrics, drain_seconds=60.0, try_seconds=60.0) as out:
            out.notify("hook-0", {"a": 1})
            await until(lambda: len(endpoint.asked) == 1)
            out.hurry()
        async with made(*hooks(endpoint), metrics=metrics, drain_seconds=60.0, try_seconds=60.0) as late:
            late.notify("hook-0", {"a": 2})
            await until(lambda: len(endpoint.asked) == 2)
            asyncio.get_running_loop().call_later(0.05, late.hurry)
    assert metrics.became("lost") == 2


async def test_an_unknown_webhook_and_a_document_that_is_none_are_logged(endpoint: Peer) -> None:
    metrics = Counted()
    with capture_logs() as logs:
        async with made(*hooks(endpoint), metrics=metrics) as out:
            out.notify("nobody", {"a": 1})
            out.notify("hook-0", {"a": object()})
            out.notify("hook-0", {"a": "\ud800"})
    assert [line["event"] for line in logs] == [
        "notification_without_webhook",
        "notification_not_encoded",
        "notification_not_encoded",
    ]
    assert metrics.became("dropped") == 2
    assert not endpoint.asked


async def test_a_replaced_webhook_gets_what_waited_at_its_new_address(endpoint: Peer) -> None:
    async with peer() as old:
        old.will(answer(500))
        endpoint.will(answer(200))
        metrics = Counted()
        async with made(*hooks(old), metrics=metrics, first_delay=0.3) as out:
            out.notify("hook-0", {"a": 1})
            await until(lambda: metrics.of("rtobserver_webhook_failures_total") == 1)
            out.replace(hooks(endpoint))
            await until(lambda: metrics.became("delivered") == 1)
    assert old.asked[0].headers["webhook-id"] == endpoint.asked[0].headers["webhook-id"]


async def test_what_waits_for_a_webhook_that_is_gone_is_given_up(endpoint: Peer) -> None:
    endpoint.will(answer(500))
    metrics = Counted()
    # the next try must not come before the webhook has gone
    async with made(*hooks(endpoint), metrics=metrics, first_delay=2.0) as out:
        out.notify("hook-0", {"a": 1})
        await until(lambda: metrics.of("rtobserver_webhook_failures_total") == 1)
        out.replace([])
        await until(lambda: metrics.became("given_up") == 1)
        assert 'rtobserver_webhook_queue{webhook="hook-0"}' not in metrics.render().decode()
    assert len(endpoint.asked) == 1


async def test_a_failing_webhook_is_logged_once_and_its_recovery_too(endpoint: Peer) -> None:
    endpoint.will(*[answer(500)] * 4, answer(200))
    metrics = Counted()
    with capture_logs() as logs:
        async with made(*hooks(endpoint), metrics=metrics, **QUICK) as out:
            out.notify("hook-0", {"a": 1})
            await until(lambda: metrics.became("delivered") == 1)
    said = [line["event"] for line in logs if line["event"] != "webhooks_draining"]
    assert said == ["webhook_failing", "webhook_recovered"]


async def test_a_reading_of_the_answer_is_not_waited_for(endpoint: Peer) -> None:
    endpoint.will(flood(OK + f"Content-Length: {LONG}\r\n\r\n".encode(), b"x" * 65536, LONG // 65536))
    metrics = Counted()
    async with made(*hooks(endpoint), metrics=metrics) as out:
        out.notify("hook-0", msgspec.json.decode(BODY))
        await until(lambda: metrics.became("delivered") == 1)
    assert len(endpoint.asked) == 1


async def test_a_frozen_mapping_is_a_document_too(endpoint: Peer) -> None:
    endpoint.will(answer(200))
    async with made(*hooks(endpoint)) as out:
        out.notify("hook-0", {"inner": MappingProxyType({"a": 1})})
    assert endpoint.asked[0].json == {"inner": {"a": 1}}
