"""Answer for the audit: who did what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from msgspec import Meta, Struct

from rtobserver.store import audit
from rtobserver.store.database import Database
from rtobserver.web import cursors, queries, shapes
from rtobserver.web.parameters import LIMIT_DEFAULT
from rtobserver.web.queries import LIMIT, MOMENT, TEXT
from rtobserver.web.routes import Answer, Ask, Route


class Deed(Struct, frozen=True):
    """Be one row of the audit: what somebody asked for, or was refused."""

    audit_id: str
    at: shapes.Time
    actor: Annotated[
        str | None,
        Meta(
            description="A key's id, or `jwt:` and an access token's user; null for rtobserver itself and the refused."
        ),
    ]
    action: Annotated[str, Meta(description="Such as `calls.get`, `calls.erase`, `calls.erased`, `refused`.")]
    object: Annotated[str, Meta(description="What it was done to: a call's id, the names of filters.")]
    status: Annotated[
        int,
        Meta(
            description=(
                "200 where the request was let in, else the refusal. One that was let in and then refused (409, 410) "
                "has a second row of the same `request_id` with that status: nothing was done."
            )
        ),
    ]
    address: str
    request_id: str
    count: Annotated[int, Meta(description="How many refusals it stands for.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListDeeds:
    """Ask for a page of the audit."""

    action: Annotated[str | None, TEXT, "Only rows of this action."] = None
    actor: Annotated[str | None, TEXT, "Only rows of this key's id."] = None
    object: Annotated[str | None, TEXT, "Only rows about this, such as a call's id."] = None
    since: Annotated[int | None, MOMENT, "Only rows of this time or later."] = None
    until: Annotated[int | None, MOMENT, "Only rows from before this time."] = None
    limit: Annotated[int, LIMIT, "How many rows a page may have."] = LIMIT_DEFAULT
    cursor: Annotated[str | None, queries.cursor(cursors.to_audit), "`next_cursor` of the page before, as it came."] = (
        None
    )


def routes(database: Database) -> list[Route[Any, Any]]:
    """Give the routes, bound to what answers them."""

    async def deeds(ask: Ask[ListDeeds, None]) -> shapes.Listed[Deed]:
        query = ask.query
        await ask.record("&".join(sorted(set(ask.request.query))))
        wanted = audit.Filter(
            action=query.action, actor=query.actor, object=query.object, since=query.since, until=query.until
        )
        rows = await audit.page(database, wanted, before=query.cursor, limit=query.limit + 1)
        shown = rows[: query.limit]
        behind = shown[-1].audit_id if len(rows) > query.limit else None
        return shapes.Listed([_shape(row) for row in shown], cursors.of_audit(behind))

    return [
        Route(
            name="audit.list",
            path="/api/v1/audit",
            scope="admin",
            summary="List who did what, newest first.",
            query=ListDeeds,
            answers=(Answer(description="A page of the audit.", body=shapes.Listed[Deed]),),
            answer=deeds,
        )
    ]


def _shape(row: audit.Deed) -> Deed:
    return Deed(
        audit_id=row.audit_id,
        at=shapes.time(row.at),
        actor=row.actor or None,
        action=row.action,
        object=row.object,
        status=row.status,
        address=row.address,
        request_id=row.request_id,
        count=row.count,
    )
