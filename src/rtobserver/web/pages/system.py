"""The page about the daemon itself: whether it works, and if not, what does not and since when.

It reloads its figures every five seconds. Its verdict needs no database, so that it is there when the
database is what is wrong. What the audit says of it is one row a minute for each key: a page that
stands open on a wall must not fill the audit with itself.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aiohttp import web

from rtobserver.clock import Clock
from rtobserver.errors import StoreUnavailable
from rtobserver.store import audit
from rtobserver.store.database import Database
from rtobserver.web import api_keys, api_system, queries
from rtobserver.web.health import Status
from rtobserver.web.pages.rendering import DASH, Rendering
from rtobserver.web.routes import Answer, Ask, Route
from rtobserver.web.vitals import Checkup, Vitals

AUDITED_SECONDS = 60.0
RESTS = 20
"""How many times as long as it took counts of calls and gaps are good for."""
DEEDS = 20
RUNS = 10

_VERDICTS = {
    "ok": ("good", "Recording and negotiation work."),
    "degraded": ("warn", "This daemon works, but not all is well."),
    "unavailable": ("bad", "Calls cannot be taken or recorded."),
    "draining": ("warn", "This daemon is stopping: it takes no new calls."),
}

_GOT_THROUGH = {"answered", "no_location"}
"""What becomes of offers that upstream took."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Be one line of the configuration, as the page shows it."""

    name: str
    value: str
    is_set: bool


@dataclass(frozen=True, slots=True)
class Section:
    """Be one table of the configuration."""

    name: str
    settings: list[Setting]

    @property
    def set_count(self) -> int:
        """Count the settings that are not at their defaults."""
        return sum(setting.is_set for setting in self.settings)


class _Page:
    def __init__(self, rendering: Rendering, database: Database, checkup: Checkup, clock: Clock) -> None:
        self._rendering = rendering
        self._database = database
        self._checkup = checkup
        self._clock = clock
        self._audited: dict[str, float] = {}
        self._counted: api_system.System | None = None
        self._count_again_at = 0.0

    async def answer(self, ask: Ask[queries.Nothing, None]) -> web.Response:
        values: dict[str, Any] = {"system": None, "api_keys": None, "deeds": None}
        # a database that refuses to write keeps the audit, and with it whoever asks, waiting for nothing
        if not self._checkup.look()["disk"].failing:
            with contextlib.suppress(StoreUnavailable):
                values = await self._read(ask)
        vitals = Vitals(**self._checkup.look())
        tone, verdict = verdict_of(vitals.status, vitals.since_start.negotiated)
        values |= {"vitals": vitals, "tone": tone, "verdict": verdict, "microseconds": _microseconds, "runs": RUNS}
        values["durability"] = vitals.config.get("store", {}).get("durability", DASH)
        if "HX-Request" in ask.request.headers:
            return self._rendering.fragment(ask, "system_figures.html", **values)
        sections = list(sections_of(vitals.config, frozenset(vitals.config_set)))
        return self._rendering.page(ask, "system.html", sections=sections, **values)

    async def _read(self, ask: Ask[queries.Nothing, None]) -> dict[str, Any]:
        await self._record(ask)
        now = self._clock.now_us()
        system = await self._count(now)
        keys, deeds = None, None
        if ask.key is not None and ask.key.allows("admin"):
            keys = await api_keys.read(self._database, now_us=now)
            deeds = await audit.page(self._database, audit.Filter(), limit=DEEDS)
        return {"system": system, "api_keys": keys, "deeds": deeds}

    async def _count(self, now_us: int) -> api_system.System:
        """Count calls and gaps of the last day; not again at once where that took long, whoever looks."""
        began = self._clock.mono()
        if self._counted is None or began >= self._count_again_at:
            self._counted = await api_system.read(self._database, self._checkup, since=now_us - api_system.DAY_US)
            took = self._clock.mono() - began
            self._count_again_at = began + took * RESTS
        return self._counted

    async def _record(self, ask: Ask[queries.Nothing, None]) -> None:
        now = self._clock.mono()
        if now - self._audited.get(ask.actor, -AUDITED_SECONDS) < AUDITED_SECONDS:
            return
        await ask.record("")
        self._audited = {key: at for key, at in self._audited.items() if now - at < AUDITED_SECONDS}
        self._audited[ask.actor] = now


def routes(rendering: Rendering, database: Database, checkup: Checkup, clock: Clock) -> list[Route[Any, Any]]:
    """Give the page's route."""
    return [
        Route(
            name="pages.system",
            path="/system",
            page=True,
            summary="Show how the daemon is doing.",
            query=queries.Nothing,
            answers=(Answer(description="The page.", media="text/html"),),
            answer=_Page(rendering, database, checkup, clock).answer,
        )
    ]


def verdict_of(status: Status, negotiated: Mapping[str, int]) -> tuple[str, str]:
    """Give the verdict's tone and words, which claim of negotiation only what offers since the start have shown."""
    tone, words = _VERDICTS[status]
    if status == "ok" and not negotiated.keys() & _GOT_THROUGH:
        words = f"Recording works. {'No offer has got through yet.' if negotiated else 'No offer came yet.'}"
    return tone, words


def sections_of(config: Mapping[str, Any], is_set: frozenset[str]) -> Iterator[Section]:
    """Lay the configuration out in tables; each element of a list of tables has one of its own."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield Section(name, list(_settings(value, name, name, is_set)))
        elif isinstance(value, list):
            for index, element in enumerate(value):
                title = f"{name} {element.get('name', element.get('id', index))}"
                yield Section(title, list(_settings(element, name, f"{name}.{index}", is_set)))


def _settings(table: Mapping[str, Any], section: str, path: str, is_set: frozenset[str]) -> Iterator[Setting]:
    for name, value in table.items():
        where = f"{path}.{name}"
        # an object that is passed on as JSON is at its default, which is empty, or it is set as a whole
        if isinstance(value, Mapping) and value and where not in is_set:
            inner = _settings(value, section, where, is_set)
            yield from (Setting(f"{name}.{each.name}", each.value, each.is_set) for each in inner)
        else:
            yield Setting(name, _written(value), where in is_set)


def _written(value: Any) -> str:
    match value:
        case None | "":
            return DASH
        case bool():
            return "true" if value else "false"
        case list() if all(isinstance(each, str) for each in value):
            return ", ".join(value) or DASH
        case Mapping() | list():
            return json.dumps(value, indent=2, ensure_ascii=False) if value else DASH
    return str(value)


def _microseconds(time: str | None) -> int | None:
    """Read a time of the API's."""
    return None if time is None else round(datetime.fromisoformat(time).timestamp() * 1_000_000)
