"""The operator listener: recorded calls over HTTP, figures, health.

It reads the store and never an observer's memory. Each read of recordings is written into the
audit first, and waits for that commit; without it there is no answer (503). Since the audit goes
through the one writer, everything recorded before the request is then there to be read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

from aiohttp import web

from rtobserver.clock import Clock
from rtobserver.config.sections import Operator
from rtobserver.errors import RequestError
from rtobserver.metrics import CONTENT_TYPE, Metrics
from rtobserver.store import calls, commands, entries, gaps
from rtobserver.store.audit import Audit
from rtobserver.store.calls import Call
from rtobserver.store.database import Database
from rtobserver.store.positions import Position
from rtobserver.web import cursors, problems, shapes
from rtobserver.web.access import Access
from rtobserver.web.bearer import Bearer
from rtobserver.web.entry_lists import send_lines, send_page, wants_lines
from rtobserver.web.health import Health, add_health
from rtobserver.web.parameters import Parameters, one_of

STATUSES = ("connecting", "live", "ended", "unobserved", "lost", "failed")
OUTCOMES = (
    "browser_left",
    "hung_up",
    "expired",
    "max_duration",
    "policy",
    "undelivered",
    "refused",
    "upstream_error",
    "timeout",
    "no_location",
    "attach_failed",
    "lost",
)
_FILTERS = ("status", "outcome", "profile", "model", "user", "tag", "since", "until", "min_duration", "has")
_CALL_ID = re.compile(r"[A-Za-z0-9_-]{1,256}")
_STARS = 5  # a pattern with many of them can be made to take very long

T = TypeVar("T")


def operator_app(
    *, section: Operator, database: Database, audit: Audit, metrics: Metrics, health: Health, clock: Clock
) -> web.Application:
    """Build the application of the operator listener."""
    app = web.Application()
    problems.install(app)
    Access(base_url=section.base_url, allowed_hosts=section.allowed_hosts).install(app)
    bearer = Bearer(database=database, audit=audit, clock=clock, metrics=metrics)
    add_health(app, health)
    _Api(database=database, audit=audit, bearer=bearer, metrics=metrics, clock=clock).add_routes(app)

    async def close(_app: web.Application) -> None:
        await bearer.close()

    app.on_shutdown.append(close)
    return app


class _Api:
    def __init__(self, *, database: Database, audit: Audit, bearer: Bearer, metrics: Metrics, clock: Clock) -> None:
        self._database = database
        self._audit = audit
        self._bearer = bearer
        self._metrics = metrics
        self._clock = clock

    def add_routes(self, app: web.Application) -> None:
        for path, handler in (
            ("/metrics", self.metrics),
            ("/api/v1/calls", self.calls),
            ("/api/v1/calls/{id}", self.call),
            ("/api/v1/calls/{id}/entries", self.entries),
            ("/api/v1/calls/{id}/gaps", self.gaps),
            ("/api/v1/calls/{id}/commands", self.commands),
        ):
            app.router.add_get(path, handler, allow_head=False)

    async def metrics(self, request: web.Request) -> web.Response:
        await self._bearer.admit(request, "metrics")
        return web.Response(body=self._metrics.render(), headers={"Content-Type": CONTENT_TYPE, **_PRIVATE})

    async def calls(self, request: web.Request) -> web.Response:
        key = await self._bearer.admit(request, "read")
        query = Parameters(request.query, (*_FILTERS, "limit", "cursor"), families=("label.",))
        wanted, limit = _call_filter(query, self._clock.now_us()), query.limit()
        before = _cursor(query, cursors.to_calls)
        await self._record(request, key.key_id, "calls.list", "&".join(sorted(set(request.query))))
        found, behind = await calls.page(self._database, wanted, before=before, limit=limit)
        return _list([shapes.call(row) for row in found], cursors.of_calls(behind))

    async def call(self, request: web.Request) -> web.Response:
        key = await self._bearer.admit(request, "read")
        Parameters(request.query, ())
        return _json(shapes.call(await self._find(request, key.key_id, "calls.get")))

    async def entries(self, request: web.Request) -> web.StreamResponse:
        key = await self._bearer.admit(request, "read")
        query = Parameters(request.query, ("type", "kind", "after", "overlap", "limit", "cursor"))
        wanted, after = _entry_filter(query), _after(query)
        limit = query.limit()
        lines = wants_lines(request)
        call = await self._find(request, key.key_id, "entries.stream" if lines else "entries.list")
        if lines:
            # the limit of a page is no limit of a stream, unless somebody asked for it
            rows = entries.read(
                self._database, call, wanted, after=after, limit=limit if "limit" in request.query else None
            )

            async def is_good() -> bool:
                return await self._bearer.find(request) is not None

            return await send_lines(request, rows, is_good=is_good, clock=self._clock)
        async with aclosing(entries.read(self._database, call, wanted, after=after, limit=limit + 1)) as rows:
            return await send_page(request, rows, limit)

    async def gaps(self, request: web.Request) -> web.Response:
        call, after, limit = await self._rows(request, "gaps.list")
        rows = await gaps.page(self._database, call, after=after, limit=limit + 1)
        return _rows(rows, limit, shapes.gap, lambda row: row.position)

    async def commands(self, request: web.Request) -> web.Response:
        call, after, limit = await self._rows(request, "commands.list")
        rows = await commands.page(self._database, call, after=after, limit=limit + 1)
        return _rows(rows, limit, shapes.command, lambda row: row.position)

    async def _rows(self, request: web.Request, action: str) -> tuple[Call, Position | None, int]:
        key = await self._bearer.admit(request, "read")
        query = Parameters(request.query, ("limit", "cursor"))
        after, limit = _cursor(query, cursors.to_positions), query.limit()
        return await self._find(request, key.key_id, action), after, limit

    async def _find(self, request: web.Request, actor: str, action: str) -> Call:
        call_id = request.match_info["id"]
        if not _CALL_ID.fullmatch(call_id):
            raise _not_found()
        await self._record(request, actor, action, call_id)
        call = await calls.find(self._database, call_id)
        if await calls.was_erased(self._database, call_id, call):
            raise RequestError(410, "call_erased", "The recording of this call was erased.")
        if call is None:
            raise _not_found()
        return call

    async def _record(self, request: web.Request, actor: str, action: str, object_: str) -> None:
        await self._audit.record(
            action=action,
            object_=object_[:300],
            status=200,
            actor=actor,
            address=request.remote or "",
            request_id=problems.request_id(request),
        )


_PRIVATE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def _not_found() -> RequestError:
    return RequestError(404, "call_not_found", "There is no call of this id.")


def _json(value: Any) -> web.Response:
    return web.Response(body=shapes.encode(value), content_type="application/json", headers=_PRIVATE)


def _list(rows: Sequence[Any], cursor: str | None) -> web.Response:
    return _json({"data": rows, "next_cursor": cursor})


def _rows(
    rows: Sequence[T], limit: int, shape: Callable[[T], dict[str, Any]], place: Callable[[T], Position]
) -> web.Response:
    shown = rows[:limit]
    behind = place(shown[-1]) if len(rows) > limit else None
    return _list([shape(row) for row in shown], cursors.of_positions(behind))


def _cursor(query: Parameters, read: Callable[[str], T]) -> T | None:
    text = query.text("cursor")
    return None if text is None else read(text)


def _after(query: Parameters) -> Position | None:
    after = query.read("after", Position.parse, "a position such as 1:250")
    # whoever follows a list keeps the query of its first page, `after` included
    return _cursor(query, cursors.to_positions) or after


def _call_filter(query: Parameters, now_us: int) -> calls.Filter:
    labels = query.family("label.")
    for name in labels:
        if not calls.is_label(name):
            raise RequestError(400, "invalid_parameter", "A label's name has 1 to 64 of the characters A-Z a-z 0-9 _ -")
    has = query.all("has")
    if not set(has) <= set(calls.HAS):
        raise RequestError(400, "invalid_parameter", f"`has` must be {one_of(calls.HAS)}.")
    return calls.Filter(
        status=query.choice("status", STATUSES),
        outcome=query.choice("outcome", OUTCOMES),
        profile=query.text("profile"),
        model=query.text("model"),
        user=query.text("user"),
        labels=labels,
        tags=query.all("tag"),
        since=query.moment("since", now_us),
        until=query.moment("until", now_us),
        min_duration_us=query.duration_us("min_duration"),
        has=tuple(name for name in calls.HAS if name in has),
    )


def _entry_filter(query: Parameters) -> entries.Filter:
    kind = query.choice("kind", tuple(shapes.KINDS))
    pattern = query.text("type")
    if pattern is not None and pattern.count("*") > _STARS:
        raise RequestError(400, "invalid_parameter", f"`type` can have at most {_STARS} stars.")
    return entries.Filter(
        type=pattern,
        kind=None if kind is None else shapes.KINDS[kind],
        overlap=query.choice("overlap", ("include", "skip")) == "include",
    )
