"""Build the demonstration: a simulated upstream, a daemon on a fresh SQLite file, and what they need around them."""

from __future__ import annotations

import asyncio
import functools
import json
import shutil
import string
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from rtobserver import settings
from rtobserver.clock import Clock, SystemClock
from rtobserver.daemon import Daemon, running
from rtobserver.demo import scenes
from rtobserver.demo.desk import Desk
from rtobserver.simulator.faults import parse_faults
from rtobserver.simulator.options import SimulatorOptions
from rtobserver.simulator.server import Simulator, has_media
from rtobserver.store import keys

PAGE = Path(__file__).parent.with_name("demo_page")
"""The web page that people place calls with; plain files."""

_CONFIG = Path(__file__).with_name("config.toml")
_API_KEY = "sim-key"
_FAULTS = ("attach.after=1", "attach.times=1", "attach.delay=1.5")
"""An observer's second connection to a call takes its time: whoever loses the first has missed something."""


@dataclass(frozen=True, slots=True)
class Demo:
    """Be a running demonstration."""

    daemon: Daemon
    simulator: Simulator
    key: str
    """An API key for everything."""
    path: Path
    """The SQLite file."""
    config: Path
    """The configuration; its policies may be changed."""
    door: str
    """An address that signs one browser in, once."""
    has_media: bool
    """Whether one can talk with it; without aiortc there is no sound and no data channel."""

    @property
    def upstream(self) -> str:
        """Give the simulated upstream's address."""
        return self.simulator.base_url


@asynccontextmanager
async def demonstrating(*, public_port: int, operator_port: int) -> AsyncIterator[Demo]:
    """Run all of it; the SQLite file stays when it stops.

    Raises:
        OSError: a port is taken.

    """
    clock: Clock = SystemClock()
    folder = Path(tempfile.mkdtemp(prefix="rtobserver-demo-"))
    media = has_media()
    options = SimulatorOptions(
        api_key=_API_KEY,
        scenario_for=scenes.choosing(media=media),
        media=media,
        begin="attached",
        faults=parse_faults(_FAULTS),
    )
    async with Simulator(options) as simulator, Desk() as desk:
        path, config, page, key_file = (folder / name for name in ("demo.db", "demo.toml", "page", "key"))
        await asyncio.to_thread(shutil.copytree, PAGE, page)
        words: dict[str, str | int] = {
            "upstream": simulator.base_url,
            "api_key": _API_KEY,
            "public_port": public_port,
            "operator_port": operator_port,
            "page": str(page),
            "database": f"sqlite:///{path}",
            "webhook": desk.webhook_url,
            "tool": desk.tool_url,
        }
        await asyncio.to_thread(_write_config, config, words)
        found = await asyncio.to_thread(settings.load, config, {})
        scopes: tuple[keys.Scope, ...] = ("admin",)
        key = await asyncio.to_thread(lambda: keys.create(path, name="demo", scopes=scopes, now_us=clock.now_us()))
        read = functools.partial(settings.load, config, {})
        async with running(found.config, found.policies, files=found.files, read=read) as daemon:
            await asyncio.to_thread(_tell_page, page, daemon.operator_url, key_file, key, has_media=media)
            yield Demo(daemon, simulator, key, path, config, desk.door(daemon.operator_url, key), media)


def _write_config(path: Path, words: dict[str, str | int]) -> None:
    # what JSON writes TOML can read: texts in quotes, whole numbers
    written = {name: json.dumps(value, ensure_ascii=False) for name, value in words.items()}
    path.touch(mode=0o600)
    path.write_text(string.Template(_CONFIG.read_text()).substitute(written))


def _tell_page(page: Path, operator: str, key_file: Path, key: str, *, has_media: bool) -> None:
    """Let the page lead to the recording, and show no button that leads nowhere; the key itself is not served."""
    key_file.touch(mode=0o600)
    key_file.write_text(key)
    here = {"operator": operator, "key_file": str(key_file), "media": has_media}
    (page / "here.json").write_text(json.dumps(here))
