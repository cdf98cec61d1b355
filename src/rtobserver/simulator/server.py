"""The simulator as a whole: listens, opens calls, and lets tests look in and interfere."""

from __future__ import annotations

import asyncio
import importlib.util
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Self

from aiohttp import web

from rtobserver.errors import ConfigError, Mistake
from rtobserver.simulator import scenario as steps
from rtobserver.simulator.acknowledgements import Acknowledgements
from rtobserver.simulator.beats import Close, Json, Timeline, Until
from rtobserver.simulator.call import Call
from rtobserver.simulator.changes import Changes
from rtobserver.simulator.conversation import Conversation
from rtobserver.simulator.endpoints import Endpoints
from rtobserver.simulator.exchange import Exchange, Received
from rtobserver.simulator.faults import Faults
from rtobserver.simulator.ids import Ids
from rtobserver.simulator.ledger import Ledger
from rtobserver.simulator.options import SimulatorOptions
from rtobserver.simulator.recording import RecordedFrame, load_recording, play_recording
from rtobserver.simulator.scenario import Scenario
from rtobserver.simulator.scenario_file import load_scenario
from rtobserver.simulator.script import Script

if TYPE_CHECKING:
    from rtobserver.simulator.peer import Peer

__all__ = ["Simulator", "SimulatorOptions", "has_media"]

_LARGEST_BODY = 16 * 1024 * 1024
_SECONDS_OF_SESSION = 3600
_WITHOUT_AIORTC = "install it with `pip install 'rtobserver[demo]'`, or do without media by --no-media"


def has_media() -> bool:
    """Say whether what media needs is installed."""
    return importlib.util.find_spec("aiortc") is not None


class Simulator:
    """Be upstream while entered.

    Raises: ConfigError on construction, if the scenario or the recording has mistakes.
    """

    def __init__(self, options: SimulatorOptions | None = None) -> None:
        self.options = options or SimulatorOptions()
        if self.options.media and not has_media():
            raise ConfigError([Mistake("", "WebRTC media needs aiortc", _WITHOUT_AIORTC)])
        self._frames: list[RecordedFrame] | None = None
        if self.options.recording is not None:
            self._frames = load_recording(self.options.recording)
        chosen = self.options.scenario
        self._scenario = chosen if isinstance(chosen, Scenario) else load_scenario(chosen)
        self._faults = self.options.faults if self.options.faults != Faults() else self._scenario.faults
        self._ids = Ids(self.options.provider, self.options.seed)
        self._exchange = Exchange()
        self._changes = self._exchange.changes
        self._ledger = Ledger(None)
        self._tasks = asyncio.TaskGroup()
        self._stack = AsyncExitStack()
        self._origin = ""
        self._call_count = 0
        self._unstopped: list[Call] = []

    @property
    def origin(self) -> str:
        """Give scheme, host and port."""
        return self._origin

    @property
    def base_url(self) -> str:
        """Give what a client of this vendor is configured with."""
        return f"{self._origin}/openai/v1" if self.options.provider == "azure" else f"{self._origin}/v1"

    @property
    def requests(self) -> Sequence[Received]:
        """Give every request so far, handshakes included."""
        return self._exchange.requests

    @property
    def calls(self) -> Mapping[str, Call]:
        """Give every call so far by its id, in the order of their offers."""
        return self._exchange.calls

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            if self.options.media:
                await asyncio.to_thread(_load_media)
            self._ledger = stack.enter_context(Ledger(self.options.ledger))
            await stack.enter_async_context(self._tasks)
            app = web.Application(client_max_size=_LARGEST_BODY)
            app.add_routes(Endpoints(self.options, self._faults, self._ids, self._exchange, self._open_call).routes())
            app.on_response_prepare.append(_leave_out_own_headers)
            runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            stack.callback(self._stop_calls)
            await web.TCPSite(
                runner, self.options.host, self.options.port, ssl_context=self._tls(), backlog=1024
            ).start()
            host, port = runner.addresses[0][:2]
            shown = f"[{host}]" if ":" in host else host
            self._origin = f"{'https' if self.options.tls_cert else 'http'}://{shown}:{port}"
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def until(self, condition: Callable[[], bool], patience: float = 20.0) -> None:
        """Wait for a condition over `calls` and `requests`.

        Raises: TimeoutError, if it does not hold within so many seconds.
        """
        if not await self._changes.until(condition, patience):
            raise TimeoutError(f"the condition did not hold within {patience:g} s")

    async def end_call(self, call_id: str, close_code: Close | None = None, reason: str = "") -> None:
        """Have the browser leave; without a code, sidebands see what the vendor does."""
        await self.calls[call_id].end("left", close_code, reason)

    async def close_sidebands(self, call_id: str, code: int = 1001, reason: str = "") -> None:
        """Close the call's sidebands, as a restart of upstream's proxies does; the call goes on."""
        await self.calls[call_id].close_sidebands(code, reason)

    async def drop_sidebands(self, call_id: str) -> None:
        """Drop the TCP connections of the call's sidebands; the call goes on."""
        await self.calls[call_id].close_sidebands("abort")

    def emit(self, call_id: str, frame: str | bytes, *, text: bool | None = None) -> None:
        """Send a frame as it stands; bytes go as a binary message unless `text` is true."""
        self.calls[call_id].emit(frame, text=isinstance(frame, str) if text is None else text)

    def emit_all(self, call_id: str, frames: Sequence[tuple[bytes, str]]) -> None:
        """Send many frames with their event ids at once."""
        self.calls[call_id].emit_all(frames)

    def produce(self, call_id: str, event: Json) -> None:
        """Send an event, written down as compact JSON; an `event_id` is added if it has none."""
        kind, rest = event["type"], {key: value for key, value in event.items() if key != "type"}
        self.calls[call_id].produce({"type": kind, "event_id": self._ids.event(), **rest})

    def perform(self, call_id: str, *sequence: steps.Step) -> None:
        """Have the conversation go on with these steps, beside its scenario."""
        call = self.calls[call_id]
        script = Script(call.conversation, self._scenario, call.released.__contains__)
        call.play(script.perform(sequence), "perform")

    def release(self, call_id: str, name: str = "go") -> None:
        """Let a scenario go on that holds at this name."""
        self.calls[call_id].release(name)

    def _open_call(
        self, call_id: str, offer: str, query: dict[str, str], session: Json, peer: Peer | None = None
    ) -> None:
        options = self.options
        self._call_count += 1
        scenario = self._scenario
        if options.scenario_for is not None:
            scenario = options.scenario_for(offer, self._call_count)
        session["expires_at"] = int(time.time()) + self._lifetime(scenario)
        conversation = Conversation(options.provider, self._ids, self._faults, session)
        if peer is not None:
            conversation.loudspeaker = peer
            if peer.has_audio and scenario.voice == "caller":
                conversation.voice = peer.voice
        call = Call(
            call_id=call_id,
            offer=offer,
            query=query,
            conversation=conversation,
            acknowledgements=Acknowledgements(conversation, scenario.replies),
            ledger=self._ledger,
            tasks=self._tasks,
            changes=Changes(self._changes),
            pace=options.pace,
            remember=options.remember,
            browser=peer,
        )
        if peer is not None:
            peer.bind(call, options.connect_seconds)
        self._keep(call)
        self._ledger.write("answer", call_id, at=time.time())
        call.play(self._timeline(call, scenario), "script")

    def _keep(self, call: Call) -> None:
        """List a call; a simulator that remembers nothing forgets those that ended."""
        if not self.options.remember:
            for known in [known for known in self._exchange.calls.values() if known.ended is not None]:
                del self._exchange.calls[known.id]
            self._unstopped = [known for known in self._unstopped if known.ended is None]
        self._exchange.calls[call.id] = call
        self._unstopped.append(call)

    def _timeline(self, call: Call, scenario: Scenario) -> Timeline:
        browser = call.browser
        if browser is not None:
            yield Until(lambda: browser.is_connected)
        if self.options.begin == "attached":
            yield Until(lambda: bool(call.sidebands))
        if self._frames is not None:
            yield from play_recording(self._frames)
        else:
            yield from Script(call.conversation, scenario, call.released.__contains__).timeline()

    def _lifetime(self, scenario: Scenario) -> int:
        """Give the session's seconds to live, shortened where the scenario's cap is."""
        for step in scenario.steps:
            if isinstance(step, steps.Cap):
                return max(1, round(step.seconds * self.options.pace))
        return _SECONDS_OF_SESSION

    def _tls(self) -> ssl.SSLContext | None:
        if self.options.tls_cert is None:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.options.tls_cert, self.options.tls_key)
        return context

    def _stop_calls(self) -> None:
        self._exchange.closing.set()
        for call in self._unstopped:
            call.stop()


def _load_media() -> None:
    """Do what would hold up the first call: it takes most of a second."""
    from rtobserver.simulator import peer

    peer.clip("assistant")


async def _leave_out_own_headers(_request: web.Request, response: web.StreamResponse) -> None:
    # The recordings show neither, and a client must not come to depend on aiohttp's.
    for name in ("Server", "Date"):
        response.headers.pop(name, None)
