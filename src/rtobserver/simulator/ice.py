"""Keep a WebRTC connection to the addresses it was given, and decide when a silent peer is gone.

Needs aiortc. Neither aiortc nor aioice has a setting for either; what is replaced here, on single
connections, is not public, and the media tests hold it against the pinned releases.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aioice import Candidate, Connection, stun
from aiortc import RTCBundlePolicy, RTCConfiguration, RTCPeerConnection

_FAILURES = 6
"""Unanswered checks in a row after which consent is over, as in aioice."""
_CHECK_SECONDS = 0.5
"""How long aioice waits for the answer to a check."""
_SHORTEST_PAUSE = 0.02


def new_connection() -> RTCPeerConnection:
    """Make a connection that asks no STUN server; aiortc's default asks a public one."""
    return RTCPeerConnection(RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE))


def transports(connection: RTCPeerConnection) -> list[Connection]:
    """Give the connection's ICE transports."""
    dtls = [transceiver.receiver.transport for transceiver in connection.getTransceivers()]
    if connection.sctp is not None:
        dtls.append(connection.sctp.transport)
    return [transport.transport._connection for transport in dict.fromkeys(dtls)]


def keep_to(connection: RTCPeerConnection, hosts: Sequence[str], consent_seconds: float | None = None) -> None:
    """Use these addresses only; call it before the local description is set.

    With `consent_seconds` (3 at least) a peer that has vanished is noticed after so long, else after about 30.
    """
    for transport in transports(connection):
        _gather_only(transport, list(hosts))
        if consent_seconds is not None:
            _expire_after(transport, consent_seconds)


async def vanish(connection: RTCPeerConnection) -> None:
    """Go without a goodbye, as a killed browser does."""
    for transport in transports(connection):
        # Without a pair there is nowhere to send a goodbye to.
        transport._nominated.clear()
    await connection.close()


def _gather_only(transport: Connection, hosts: list[str]) -> None:
    gather = transport.get_component_candidates

    async def on_hosts(component: int, addresses: list[str], timeout: int = 5) -> list[Candidate]:
        return await gather(component, hosts, timeout)

    transport.get_component_candidates = on_hosts  # type: ignore[method-assign]


def _expire_after(transport: Connection, seconds: float) -> None:
    async def query_consent() -> None:
        failures = 0
        while failures < _FAILURES:
            await asyncio.sleep(max(_SHORTEST_PAUSE, seconds / _FAILURES - _CHECK_SECONDS))
            failures = 0 if await _is_answered(transport) else failures + 1
        transport._query_consent_task = None
        await transport.close()

    transport.query_consent = query_consent  # type: ignore[method-assign]


async def _is_answered(transport: Connection) -> bool:
    key = (transport.remote_password or "").encode()
    for pair in transport._nominated.values():
        request = transport.build_request(pair, nominate=False)
        try:
            await pair.protocol.request(request, pair.remote_addr, integrity_key=key, retransmissions=0)
        except stun.TransactionError:
            return False
    return True
