"""Read the session that was minted for a call."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa

from rtobserver.store import tables
from rtobserver.store.database import Database
from rtobserver.store.positions import CallKey


async def session_of(database: Database, call: CallKey) -> dict[str, Any] | None:
    """Read what was minted for a call; None where that was not kept.

    Raises:
        StoreUnavailable: the database cannot be read now.

    """
    statement = sa.select(tables.call.c.session).where(tables.call.c.call_key == call.key)
    async with database.reading() as connection:
        text = (await connection.execute(statement)).scalar()
    found = json.loads(text) if text else None
    return found if isinstance(found, dict) and found else None
