"""What cases do over and over: place calls, give orders, look for what must not be found."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path
from typing import Any

from tests.faults import oracle
from tests.faults.ground import Site
from tests.faults.oracle import Json
from tests.process.stage import Daemon, until
from tests.process.test_killed import further, observed

_FIRST = ("chrt", "--rr", "1")
CONNECT = "/openai/v1/realtime/calls"


def _first() -> tuple[str, ...]:
    """Find whether this machine lets a process be scheduled before all others."""
    with contextlib.suppress(OSError):
        if subprocess.run([*_FIRST, "true"], capture_output=True, check=False).returncode == 0:
            return _FIRST
    return ()


FIRST = _first()
"""How a daemon is started whose loop is timed: before all else that this machine does, as on one of its own. `nice`
would not do, since the kernel shares out processors among sessions first. Where nobody may (without CAP_SYS_NICE), it
starts like any other, and the true time is measured all the same: then these cases want a machine that is quiet."""


async def place(daemon: Daemon, here: Site, count: int = 1, events: int = 5) -> list[str]:
    """Place calls, and wait until each is observed and so many events of it were produced."""
    call_ids = [await daemon.place() for _ in range(count)]
    await observed(here.simulator, call_ids)
    if events:
        await further(here.simulator, call_ids, events)
    return call_ids


async def order(daemon: Daemon, call_id: str, what: str, body: Any = None) -> Json:
    """Give an order; gives it as it was taken."""
    url = f"{daemon.operator}/api/v1/calls/{call_id}/{what}"
    async with daemon.http.post(url, json=body, headers={"Authorization": f"Bearer {daemon.key}"}) as answer:
        given: Json = await answer.json()
        assert answer.status == 202, given
        return given


async def settled(daemon: Daemon, given: Json, *states: str) -> Json:
    """Wait until an order has one of these states."""

    async def asked() -> Json | None:
        now = await daemon.get(f"/orders/{given['order_id']}")
        return now if now["state"] in states else None

    return await until(asked)


async def log_says(daemon: Daemon, word: str) -> bool:
    """Tell whether the daemon has logged an event of this name, anywhere in its log so far."""
    return bool(daemon.command.events(word))  # type: ignore[attr-defined]


def recovery(here: Site, call_ids: list[str]) -> float:
    """Give the longest time in which one of these calls had no sideband and later had one again."""
    told = oracle.read_ledger(here.ledger)
    spans = [span for call_id in call_ids for span in told[call_id].absences]
    return round(max((end - begin for begin, end in spans), default=0.0), 3)


def secret_hits(folder: Path, *secrets: str) -> int:
    """Count the files of a case that hold one of these: logs, database, WAL."""
    files = [path for path in folder.iterdir() if path.name != "config.toml" and path.is_file()]
    return sum(secret.encode() in path.read_bytes() for path in files for secret in secrets)


def attaches(here: Site, call_id: str) -> list[float]:
    """Give the times at which the daemon asked to attach to a call."""
    return [each.at for each in here.simulator.requests if each.query.get("call_id") == call_id]


async def still(seconds: float, here: Site) -> None:
    """Let time pass in which nothing should happen."""
    with contextlib.suppress(TimeoutError):
        await here.simulator.until(lambda: False, seconds)
