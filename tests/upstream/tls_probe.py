"""Mint, and attach, over TLS in a process of its own, and say what came of both in one JSON line."""

from __future__ import annotations

import asyncio
import json
import sys

import uvloop

from rtobserver.clock import SystemClock
from rtobserver.config.sections import Secret, Upstream
from rtobserver.errors import UpstreamError
from rtobserver.upstream.attach import Attach
from rtobserver.upstream.credentials import credentials_for
from rtobserver.upstream.endpoints import Endpoints
from rtobserver.upstream.rest import Rest


async def main(rest_url: str, attach_url: str) -> None:
    told = []
    clock = SystemClock()
    section = Upstream(provider="azure", base_url=rest_url, auth="api-key", api_key=Secret("k"))
    credentials = credentials_for(section, clock)
    async with Rest(Endpoints(rest_url, "azure"), credentials, section, clock) as rest:
        for _ in range(2):
            try:
                told.append((await rest.create_client_secret({}, 60)).value.reveal())
            except UpstreamError as exc:
                told.append(str(exc))
    try:
        sideband = await Attach(Endpoints(attach_url, "azure"), credentials, section, 1 << 20).open("rtc_1")
        told.append((await sideband.receive()).decode())
        await sideband.close()
    except UpstreamError as exc:
        told.append(str(exc))
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    run = uvloop.run if sys.argv[1] == "uvloop" else asyncio.run
    run(main(sys.argv[2], sys.argv[3]))
