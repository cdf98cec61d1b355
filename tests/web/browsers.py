"""What the tests of the browser side share: offers, forms, an application and what it asked for."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from rtobserver.clock import SystemClock
from rtobserver.config.sections import Profile, Public
from rtobserver.negotiation import Answered, Caller, Minted, Negotiation, Offer
from rtobserver.web.connection import Patience
from rtobserver.web.listener import listening
from rtobserver.web.public import public_app
from rtobserver.web.sealed import Grant, Sealer
from tests.web.wire import Reply, exchange, request

OFFER = b"v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n"
ANSWER = b"v=0\r\no=- 3 4 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n"
MULTIPART = "multipart/form-data; boundary=B"
DEFAULT = Profile(
    name="default",
    client_session_keys=("audio.output.voice",),
    session={
        "type": "realtime",
        "model": "gpt-realtime",
        "instructions": "canary-instructions",
        "tools": [{"type": "function", "name": "canary-tool"}],
        "audio": {"output": {"speed": 1.0}},
    },
)
SALES = Profile(name="sales", session={"type": "realtime", "model": "gpt-realtime-mini"})


def form(*parts: tuple[str, bytes], boundary: str = "B") -> bytes:
    """Write a form; a part is what follows `form-data;` (and further headers), and its body."""
    pieces = [
        f"--{boundary}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + body + b"\r\n"
        for head, body in parts
    ]
    return b"".join(pieces) + f"--{boundary}--\r\n".encode()


class HandClock(SystemClock):
    """A wall clock that moves when told."""

    def __init__(self) -> None:
        self.seconds = 1_795_400_000

    def now_us(self) -> int:
        return self.seconds * 1_000_000

    def mono(self) -> float:
        return float(self.seconds)

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError


class Ledger(Negotiation):
    """Write down what is asked for, and answer as told; upstream is not what these tests are about."""

    def __init__(self) -> None:
        self.offers: list[Offer] = []
        self.callers: list[Caller] = []
        self.hang_ups: list[tuple[str, str | None, str | None]] = []
        self.lost: list[Answered] = []
        self.answer = Answered(sdp=ANSWER, call_id="rtc_1")
        self.error: Exception | None = None
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.is_owner = True

    async def negotiate(self, offer: Offer, caller: Caller) -> Answered:
        self.offers.append(offer)
        self.callers.append(caller)
        await self.go_on.wait()
        if self.error is not None:
            raise self.error
        return self.answer

    def undelivered(self, answered: Answered) -> None:
        self.lost.append(answered)

    async def hang_up(self, call_id: str, *, token_id: str | None, user: str | None) -> bool:
        self.hang_ups.append((call_id, token_id, user))
        return self.is_owner

    async def mint(self, caller: Caller) -> Minted:
        self.callers.append(caller)
        if self.error is not None:
            raise self.error
        return Minted(value="ek_upstream", expires_at=1_795_400_060, session=dict(DEFAULT.session))


def json_of(reply: Reply) -> dict[str, Any]:
    """Read an answer that carries a token."""
    assert reply.status == 200, reply.raw
    assert reply.headers["cache-control"] == "no-store"
    document = json.loads(reply.body)
    assert isinstance(document, dict)
    return document


@dataclass
class Site:
    """The public listener over a ledger."""

    port: int
    ledger: Ledger
    clock: HandClock
    sealer: Sealer = field(default_factory=lambda: Sealer(bytes(32)))

    async def ask(self, method: str, path: str, body: bytes = b"", /, **headers: str) -> Reply:
        return await exchange(self.port, request(method, path, body, **headers))

    async def call(self, path: str = "/v1/realtime/calls", **headers: str) -> Reply:
        return await self.ask("POST", path, OFFER, Content_Type="application/sdp", **headers)

    def token(self, **changes: Any) -> str:
        """Seal a grant as if it had been given out; returns the header's value."""
        grant: dict[str, Any] = {"token_id": "t1", "profile": "sales", "expires_at": self.clock.seconds + 600}
        return f"Bearer {self.sealer.seal(Grant(**(grant | changes)))}"


@asynccontextmanager
async def serving(section: Public | None = None, patience: Patience | None = None) -> AsyncIterator[Site]:
    site = Site(0, Ledger(), HandClock())
    app = public_app(
        section=section or Public(),
        profiles=(SALES, DEFAULT),
        default=DEFAULT,
        negotiation=site.ledger,
        sealer=site.sealer,
        clock=site.clock,
        upstream_origin="https://api.openai.com",
    )
    async with listening(app, host="127.0.0.1", port=0, patience=patience) as listener:
        site.port = listener.port
        yield site
