"""The figures of a replica whose database is away, which is when they are wanted."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from rtobserver.clock import SystemClock
from rtobserver.store import keys, schema
from rtobserver.store.places import Server
from tests.support import postgres
from tests.support.replicas import replica
from tests.support.stage import simulating

pytestmark = pytest.mark.timeout(120)


async def test_who_has_had_figures_gets_them_while_the_database_is_away_and_nobody_else(tmp_path: Path) -> None:
    now_us = SystemClock().now_us()
    with postgres.running() as cluster:
        server = Server(cluster.create())
        await asyncio.to_thread(schema.migrate, server)
        known, unseen = [
            await asyncio.to_thread(keys.create, server, name=name, scopes=("metrics", "read"), now_us=now_us)
            for name in ("known", "unseen")
        ]
        async with simulating() as simulator, replica(simulator, server, known, tmp_path / "journal") as stage:
            assert (await stage.get("/metrics"))[0] == 200
            cluster.stop("immediate")
            status, body = await stage.get("/metrics")
            assert status == 200
            assert b"rtobserver_database_away" in body
            assert (await stage.get("/api/v1/calls"))[0] == 503
            assert (await stage.get("/metrics", Authorization=f"Bearer {unseen}"))[0] == 503
            assert (await stage.get("/metrics", Authorization=f"Bearer {known[:-1]}x"))[0] == 401
            cluster.start()
