"""Read many calls with their rows, one after the other: memory stays flat however many they are.

Calls come newest first, rows of a call by position. No transaction is open between two reads. What
is recorded after the beginning is left out, or calls that go on would be read without end.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from rtobserver.realtime.rows import ItemRow, ResponseRow
from rtobserver.store import entries, feed, folds
from rtobserver.store.calls import Before, Call
from rtobserver.store.database import Database
from rtobserver.store.entries import Entry

PAGE_CALLS = 200

Pages = Callable[[Before | None, int], Awaitable[tuple[list[Call], Before | None]]]
"""Reads a page of the calls that are wanted, as `calls.page` does."""


async def each_call(pages: Pages) -> AsyncGenerator[Call]:
    """Give calls.

    Raises:
        StoreUnavailable: the database cannot be read now; what was given until then is right.

    """
    before: Before | None = None
    while True:
        page, before = await pages(before, PAGE_CALLS)
        for call in page:
            yield call
        if before is None:
            return


async def each_entry(database: Database, pages: Pages) -> AsyncGenerator[tuple[Call, Entry]]:
    """Give the entries of calls; those that overlap a take-over are left out, as in every list."""
    wanted = entries.Filter(until_number=(await feed.newest(database)).number)
    async with aclosing(each_call(pages)) as found:
        async for call in found:
            async with aclosing(entries.read(database, call, wanted)) as rows:
                async for row in rows:
                    yield call, row


async def each_item(database: Database, pages: Pages) -> AsyncGenerator[tuple[Call, ItemRow]]:
    """Give the transcript items of calls."""
    async with aclosing(each_call(pages)) as found:
        async for call in found:
            for row in await folds.items(database, call):
                yield call, row


async def each_response(database: Database, pages: Pages) -> AsyncGenerator[tuple[Call, ResponseRow]]:
    """Give the responses of calls."""
    async with aclosing(each_call(pages)) as found:
        async for call in found:
            for row in await folds.responses(database, call):
                yield call, row
