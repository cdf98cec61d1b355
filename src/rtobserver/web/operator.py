"""The operator listener: recorded calls over HTTP, pages to look at them, figures, health.

It reads the store and never an observer's memory. Each read of recordings is written into the
audit first, and waits for that commit; without it there is no answer (503). Since the audit goes
through the one writer, everything recorded before the request is then there to be read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from rtobserver.clock import Clock
from rtobserver.config.sections import Operator, OperatorAuth
from rtobserver.housekeeping import Housekeeping
from rtobserver.metrics import CONTENT_TYPE, Metrics
from rtobserver.policy.active import Active
from rtobserver.reloading import Reloading
from rtobserver.store.audit import Audit
from rtobserver.store.database import Database
from rtobserver.store.writing import Writing
from rtobserver.web import (
    api_audit,
    api_calls,
    api_conversations,
    api_decisions,
    api_docs,
    api_erasure,
    api_export,
    api_keys,
    api_orders,
    api_policies,
    api_search,
    api_system,
    api_timeline,
    codings,
    problems,
    queries,
)
from rtobserver.web.access import Access
from rtobserver.web.api_tail import Tails
from rtobserver.web.bearer import Bearer, Statements
from rtobserver.web.connection import Patience
from rtobserver.web.cookies import Cookies
from rtobserver.web.health import Health
from rtobserver.web.health import routes as health_routes
from rtobserver.web.identities import access_tokens
from rtobserver.web.pages import call, calls, login, policies, refusals, search, statistics, system
from rtobserver.web.pages.assets import Assets
from rtobserver.web.pages.live import Live
from rtobserver.web.pages.rendering import Rendering
from rtobserver.web.routes import PRIVATE, Answer, Ask, Desk, Route
from rtobserver.web.vitals import Checkup

OPERATOR_PATIENCE = Patience(write=60.0)
"""For the listener: whoever downloads has a key, and may pause; nothing but a buffer waits for it."""


def operator_app(
    *,
    section: Operator,
    database: Database,
    writer: Writing,
    audit: Audit,
    housekeeping: Housekeeping,
    checkup: Checkup,
    metrics: Metrics,
    health: Health,
    clock: Clock,
    active: Active,
    reloading: Reloading,
    login_key: bytes,
    front: Callable[[], str],
) -> web.Application:
    """Build the application of the operator listener; `front` gives the address of callers' page, if any."""
    app = web.Application()
    assets = Assets()
    rendering = Rendering(assets, clock)
    problems.install(app, page=refusals.telling(rendering))
    _prepare(app, rendering)
    codings.install(app)
    access = Access(base_url=section.base_url, allowed_hosts=section.allowed_hosts, tunnels=True)
    access.install(app)
    cookies = Cookies(login_key, base_url=section.base_url)
    bearer = Bearer(
        database=database,
        audit=audit,
        clock=clock,
        metrics=metrics,
        cookies=cookies,
        is_own=access.is_own,
        tokens=_statements(section.auth, app, clock),
    )
    tails = Tails(database=database, clock=clock, commits=writer.commits)
    tails.install(app)
    live = Live(rendering, database=database, clock=clock, commits=writer.commits, front=front)
    live.install(app)
    streams = database.for_streams()
    routes = [
        *api_calls.routes(database, streams, clock),
        *api_conversations.routes(database),
        *api_timeline.routes(database),
        *api_search.routes(database, clock),
        *tails.routes(),
        *api_orders.routes(database, writer, clock),
        *api_export.routes(streams, clock),
        *api_erasure.routes(housekeeping),
        *api_audit.routes(database),
        *api_keys.routes(database, clock),
        *api_system.routes(database=database, checkup=checkup, clock=clock),
        *api_decisions.routes(database=database, clock=clock),
        *api_policies.routes(database=database, active=active, reloading=reloading, clock=clock),
        _figures(metrics),
        *health_routes(health),
    ]
    routes += api_docs.routes(routes)
    # after the description of the API, of which pages are no part
    routes += [
        *assets.routes(),
        *login.routes(rendering=rendering, cookies=cookies, bearer=bearer, access=access, clock=clock),
        *live.routes(),
        *calls.routes(rendering, database, clock),
        *search.routes(rendering, database, clock),
        *statistics.routes(rendering, database, clock),
        *system.routes(rendering, database, checkup, clock),
        *call.routes(rendering, database, streams, clock),
        *policies.routes(rendering=rendering, database=database, active=active, reloading=reloading, clock=clock),
    ]
    Desk(database=database, audit=audit, bearer=bearer, clock=clock).install(app, routes)

    _attend(app, bearer, streams)
    return app


def _statements(auth: OperatorAuth, app: web.Application, clock: Clock) -> Statements | None:
    if auth.mode == "keys":
        return None
    tokens = access_tokens(auth, app, clock)
    return Statements(tokens, user_claim=auth.user_claim, scope_claim=auth.scope_claim)


def _prepare(app: web.Application, rendering: Rendering) -> None:
    """Have the templates prepared when the first page is asked for."""

    @web.middleware
    async def prepared(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not request.path.startswith(refusals.FOR_PROGRAMS):
            await rendering.ready()
        return await handler(request)

    app.middlewares.append(prepared)


def _attend(app: web.Application, bearer: Bearer, streams: Database) -> None:
    """Have what the application holds let go when it ends."""

    async def close(_app: web.Application) -> None:
        await bearer.close()

    async def close_streams(_app: web.Application) -> None:
        await streams.__aexit__()

    app.on_shutdown.append(close)
    app.on_cleanup.append(close_streams)


def _figures(metrics: Metrics) -> Route[Any, Any]:
    async def answer(_ask: Ask[queries.Nothing, None]) -> web.Response:
        return web.Response(body=metrics.render(), headers={"Content-Type": CONTENT_TYPE, **PRIVATE})

    return Route(
        name="metrics",
        path="/metrics",
        scope="metrics",
        summary="Give the daemon's figures for Prometheus.",
        query=queries.Nothing,
        answers=(Answer(description="Figures as text.", media="text/plain"),),
        answer=answer,
    )
