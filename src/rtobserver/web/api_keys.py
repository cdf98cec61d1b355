"""Answer for the operators' keys: which there are, never what they are."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from rtobserver.clock import Clock
from rtobserver.store import keys
from rtobserver.store.database import Database
from rtobserver.web import queries, shapes
from rtobserver.web.routes import Answer, Ask, Route


class Key(Struct, frozen=True):
    """Be what is known of a key."""

    key_id: Annotated[str, Meta(description="The part of it that is no secret; the audit names it as the actor.")]
    name: str
    scopes: list[str]
    created_at: shapes.Time
    expires_at: shapes.Time | None
    revoked_at: shapes.Time | None
    good: Annotated[bool, Meta(description="Whether it may be used now.")]
    last_used_at: Annotated[
        shapes.Time | None,
        Meta(description=f"Null where the newest {keys.USES_LOOKED_AT:,} rows of the audit have no use of it."),
    ]


async def read(database: Database, *, now_us: int) -> list[Key]:
    """Read all of them, oldest first.

    Raises:
        StoreUnavailable: the database cannot be read now.

    """
    return [
        Key(
            key_id=key.key_id,
            name=key.name,
            scopes=sorted(key.scopes),
            created_at=shapes.time(key.created_at),
            expires_at=shapes.time_or_none(key.expires_at),
            revoked_at=shapes.time_or_none(key.revoked_at),
            good=key.is_good(now_us),
            last_used_at=shapes.time_or_none(used),
        )
        for key, used in await keys.listed(database)
    ]


def routes(database: Database, clock: Clock) -> list[Route[Any, Any]]:
    """Give the routes, bound to what answers them."""

    async def listed(ask: Ask[queries.Nothing, None]) -> shapes.Listed[Key]:
        await ask.record("")
        return shapes.Listed(await read(database, now_us=clock.now_us()), None)

    return [
        Route(
            name="keys.list",
            path="/api/v1/keys",
            scope="admin",
            summary="List the API keys, oldest first; never the keys themselves.",
            query=queries.Nothing,
            answers=(Answer(description="All of them.", body=shapes.Listed[Key]),),
            answer=listed,
        )
    ]
