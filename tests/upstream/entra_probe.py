"""Drive the real credentials in a process of their own: commands on stdin, one JSON line for each on stdout.

`headers`, `refresh`, `storm N` (so many at once), `advance SECONDS`; the first argument is the time-out.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

import structlog

from rtobserver.config.sections import Upstream
from rtobserver.errors import CredentialError
from rtobserver.upstream.credentials import Entra, credentials_for

SECTION = Upstream(provider="azure", base_url="https://h/openai/v1", auth="entra")


class AheadClock:
    ahead = 0.0

    def now_us(self) -> int:
        return int((time.time() + self.ahead) * 1e6)

    def mono(self) -> float:
        return time.monotonic() + self.ahead

    async def sleep(self, seconds: float) -> None:
        self.ahead += seconds


async def tell(entra: Entra) -> str:
    try:
        return (await entra.headers())["Authorization"]
    except CredentialError as exc:
        return f"CredentialError: {exc}"


async def main(timeout: float, proxy: str) -> None:
    # it takes a busy machine seconds to read the library, and those are not what the time-out is about
    importlib.import_module("azure.identity.aio")
    clock = AheadClock()
    assert isinstance(credentials_for(SECTION, clock), Entra)
    entra = Entra(SECTION.scope, clock, timeout=timeout, patience=timeout, proxy=proxy)
    while line := await asyncio.to_thread(sys.stdin.readline):
        command, _, argument = line.strip().partition(" ")
        told: object = "done"
        if command == "headers":
            told = await tell(entra)
        elif command == "storm":
            told = sorted(set(await asyncio.gather(*(tell(entra) for _ in range(int(argument))))))
        elif command == "refresh":
            await entra.refresh()
        elif command == "advance":
            clock.ahead += float(argument)
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()
    await entra.close()


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    asyncio.run(main(float(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else ""))
