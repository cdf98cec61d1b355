"""Answer while the daemon starts: how it is doing, and to everything else that it cannot yet.

A start may wait for long, for room on the disk or for a program that holds the database. Nobody should
have to guess that from a refused connection.
"""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from rtobserver.config.sections import Operator, Public
from rtobserver.errors import RequestError
from rtobserver.web import problems
from rtobserver.web.access import Access
from rtobserver.web.health import Health, add_health

RETRY_AFTER = 2
"""Seconds."""


def waiting_public(section: Public, refused: Callable[[str], object]) -> web.Application:
    """Build what stands in for the public listener's application; `refused` is told the code of each refusal."""
    app = web.Application()
    problems.install(app, refused=refused)
    access = Access(
        base_url=section.base_url, allowed_hosts=section.allowed_hosts, allowed_origins=section.allowed_origins
    )
    access.install(app)
    return _refusing(app)


def waiting_operator(section: Operator, health: Health) -> web.Application:
    """Build what stands in for the operator listener's application."""
    app = web.Application()
    problems.install(app)
    Access(base_url=section.base_url, allowed_hosts=section.allowed_hosts, tunnels=True).install(app)
    add_health(app, health)
    return _refusing(app)


def _refusing(app: web.Application) -> web.Application:
    app.router.add_route("*", "/{path:.*}", _refuse)
    app.on_response_prepare.append(_part)
    return app


async def _refuse(_request: web.Request) -> web.Response:
    raise RequestError(503, "starting", "This replica is starting; try again.", retry_after=RETRY_AFTER)


async def _part(_request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Have whoever was answered come back on another connection, which may lead to more than this."""
    response.force_close()
    response.headers["Connection"] = "close"
