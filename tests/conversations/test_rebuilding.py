"""Whatever upstream sends: folding a stored call again gives the rows that were written while it went on."""

from __future__ import annotations

import asyncio
import functools
import json
import random
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rtobserver.rebuild import rebuild
from rtobserver.store import sqlite as store
from rtobserver.store import tables
from tests.conversations.library import LIBRARY
from tests.conversations.played import Talk, new_state, record
from tests.conversations.test_conversations import rows
from tests.realtime.test_call_laws import events, junk
from tests.store import stored

Happened = list[tuple[int, bytes | None]]


def indexed(path: Path) -> list[tuple[Any, ...]]:
    """Give what can be searched, after the index was compared with the texts."""
    with store.transaction(path) as connection:
        connection.exec_driver_sql("INSERT INTO search_index(search_index, rank) VALUES ('integrity-check', 1)")
        lines = connection.exec_driver_sql(
            "SELECT call_key, day, item_id, text FROM search_line JOIN search_text USING (line_id) ORDER BY 1, 2, 3"
        )
        return [tuple(row) for row in lines]


@functools.cache
def blank() -> bytes:
    """Make an empty database once; migrations would take most of each example's time."""
    with tempfile.TemporaryDirectory() as folder:
        return stored.fresh(Path(folder)).read_bytes()


async def check(folder: Path, happened: Happened) -> None:
    path = folder / "calls.db"
    path.write_bytes(blank())
    writer = stored.writer_of(path)
    await writer.open()
    try:
        await record(writer, "rtc_1", happened)
    finally:
        await writer.close()
    live, found = rows(path), indexed(path)
    with store.transaction(path) as connection:
        # wrong and missing rows are put right, too
        connection.execute(tables.item.delete().where(tables.item.c.item_id.in_(["U1", "S1"])))
        connection.execute(tables.item.update().values(text="wrong"))
        connection.execute(tables.response.update().values(status="wrong"))
        connection.execute(tables.call.update().values(turn_count=77, usage="{}", metrics="{}"))
    assert [done.left_alone async for done in rebuild(path, new_state)] == [False]
    assert rows(path) == live
    assert indexed(path) == found


frames = st.lists(
    st.tuples(st.integers(0, 3000), events | junk | st.none()),
    max_size=40,
)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(sent=frames)
def test_rows_of_any_call_are_made_again(tmp_path_factory: pytest.TempPathFactory, sent: list[tuple[int, Any]]) -> None:
    ms, happened, away = 0, [], False
    for pause, value in sent:
        ms += pause
        if value is None:
            away = not away
        elif away:
            continue
        happened.append((ms, None if value is None else json.dumps(value).encode()))
    if away:
        happened.append((ms, None))
    asyncio.run(check(tmp_path_factory.mktemp("rebuild"), happened))


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(chance=st.randoms(use_true_random=False))
def test_rows_of_a_conversation_with_holes_are_made_again(
    tmp_path_factory: pytest.TempPathFactory, chance: random.Random
) -> None:
    talk = Talk()
    chance.choice(LIBRARY).play(talk)
    happened = [each for each in talk.happened if each[1] is None or chance.random() > 0.15]
    for _ in range(3 if happened else 0):
        first = chance.randrange(len(happened))
        second = min(first + 1, len(happened) - 1)
        if happened[first][1] is not None and happened[second][1] is not None:
            (at, one), (later, other) = happened[first], happened[second]
            happened[first], happened[second] = (at, other), (later, one)
    asyncio.run(check(tmp_path_factory.mktemp("rebuild"), happened))
