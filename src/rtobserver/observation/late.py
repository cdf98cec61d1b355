"""Mark what was recorded here of calls that another replica was observing already, when that comes to light."""

from __future__ import annotations

from collections.abc import Collection

import structlog

from rtobserver.clock import Clock
from rtobserver.errors import StoreError
from rtobserver.store import overlap
from rtobserver.store.identity import CallRef
from rtobserver.store.writing import Writing

PAUSES = (0.0, 1.0, 5.0, 30.0)
"""Seconds before what was recorded too late is compared with what the next owner has recorded by then."""

log = structlog.get_logger()


async def mark(epochs: Collection[tuple[CallRef, int]], *, writer: Writing, clock: Clock) -> None:
    """Mark what was recorded in these epochs of calls while who owned the next one heard them too."""
    for pause in PAUSES:
        await clock.sleep(pause)
        try:
            await writer.readable()
            for ref, epoch in epochs:
                await writer.run(overlap.late(ref, epoch))
        except StoreError as exc:
            log.warning("overlap_not_marked", calls=len(epochs), problem=str(exc))
