"""Say whether the daemon is alive and fit for work; give its figures to those with a key for them.

`/livez` and `/readyz` need no key and tell nothing about calls. What is wrong comes from
`daemon.py` as plain functions, asked at each request: nothing here looks at another part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from rtobserver.web import queries
from rtobserver.web.routes import Answer, Ask, Route

Status = Literal["ok", "degraded", "unavailable", "draining"]


class State(Struct, frozen=True):
    """Say how the daemon is."""

    status: Annotated[str, Meta(extra_json_schema={"enum": list(get_args(Status))})]
    reasons: Annotated[list[str], Meta(description="What is wrong, in short words that name no call and no person.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Know what is wrong with the daemon; the words are short and name no call and no person."""

    draining: Callable[[], bool]
    """Whether it takes no offers any more."""
    broken: Callable[[], Mapping[str, int | None]]
    """Reasons for which negotiation or recording is impossible, such as `recorder is full`.

    With the time since when, in microseconds since 1970, where it is known.
    """
    degraded: Callable[[], Mapping[str, int | None]]
    """Reasons for which it works less well than it should, such as `database is away`, likewise.

    Upstream's faults are among them: with another replica, no offer would get through either.
    """

    def verdict(self) -> tuple[Status, dict[str, int | None]]:
        """Say how the daemon is, in a word, and why."""
        broken, degraded = self.broken(), self.degraded()
        word: Status = "degraded" if degraded else "ok"
        if broken:
            word = "unavailable"
        if self.draining():
            word = "draining"
        return word, {**broken, **degraded}


def add_health(app: web.Application, health: Health) -> None:
    """Put `/livez` and `/readyz` at an application's root."""

    async def livez(_request: web.Request) -> web.Response:
        return _livez()

    async def readyz(_request: web.Request) -> web.Response:
        return _readyz(health)

    app.router.add_get("/livez", livez)
    app.router.add_get("/readyz", readyz)


def routes(health: Health) -> list[Route[Any, Any]]:
    """Give both as routes of an API."""

    async def livez(_ask: Ask[queries.Nothing, None]) -> web.Response:
        return _livez()

    async def readyz(_ask: Ask[queries.Nothing, None]) -> web.Response:
        return _readyz(health)

    return [
        Route(
            name="health.livez",
            path="/livez",
            scope=None,
            summary="Say that the daemon runs.",
            query=queries.Nothing,
            answers=(Answer(description="It does.", body=State),),
            answer=livez,
        ),
        Route(
            name="health.readyz",
            path="/readyz",
            scope=None,
            summary="Say whether this daemon can negotiate and record.",
            query=queries.Nothing,
            answers=(
                Answer(
                    description="It can. `degraded`: less well than it should, or upstream lets nothing through.",
                    body=State,
                ),
                Answer(
                    status=503, description="It cannot: it is starting, has failed or is about to stop.", body=State
                ),
            ),
            answer=readyz,
        ),
    ]


def _livez() -> web.Response:
    return _answer(200, "ok", ())


def _readyz(health: Health) -> web.Response:
    word, reasons = health.verdict()
    return _answer(200 if word in ("ok", "degraded") else 503, word, list(reasons))


def _answer(status: int, word: Status, reasons: Sequence[str]) -> web.Response:
    return web.Response(
        status=status,
        body=msgspec.json.encode(State(word, list(reasons))),
        content_type="application/json",
        headers={"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"},
    )
