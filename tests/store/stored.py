"""Put rows into a real SQLite file, as the writer would."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from rtobserver.store import schema, sqlite, tables
from rtobserver.store.identity import CallRef, call_key, day_of
from rtobserver.store.places import Server
from rtobserver.store.trouble import Trouble
from rtobserver.store.writer import Writer
from tests.support import postgres

START = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z


def fresh(folder: Path) -> Path:
    path = folder / "rtobserver.db"
    schema.migrate(path)
    return path


def fresh_server() -> Server:
    """Make a database of its own on the test's PostgreSQL server, with the schema of this release."""

    def prepare(url: str) -> None:
        with ThreadPoolExecutor(1) as thread:
            thread.submit(schema.migrate, Server(url)).result()

    return Server(postgres.shared().prepared("migrated", prepare))


def insert(path: Path, table: sa.Table, *rows: dict[str, Any]) -> None:
    with sqlite.transaction(path) as connection:
        connection.execute(table.insert(), list(rows))


def ref(call_id: str, started_at: int = START) -> CallRef:
    return CallRef(call_id, day_of(started_at))


def call(call_id: str, **values: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "call_id": call_id,
        "call_key": call_key(call_id),
        "protocol": "ga",
        "status": "live",
        "outcome": None,
        "started_at": START,
        "ended_at": None,
        "profile": "default",
        "model": "gpt-realtime",
        "user": None,
        "labels": {},
        "tags": [],
        "token_id": None,
        "max_duration_us": 0,
        "epoch": 1,
        "entry_count": 0,
        "turn_count": 0,
        "interruption_count": 0,
        "error_count": 0,
        "tampered": False,
        "usage": "{}",
        "cost_usd": None,
        "latency": "{}",
        "metrics": "{}",
        "attach_latency_ms": None,
        "completeness": None,
        "checks": "{}",
        "gap_count": 0,
        "upstream_request_id": None,
        "purged_at": None,
    } | values
    row["day"] = day_of(row["started_at"])
    return row | {"labels": json.dumps(row["labels"]), "tags": json.dumps(row["tags"])}


def entry(call_id: str, seq: int, payload: bytes = b"{}", **values: Any) -> dict[str, Any]:
    at = START + seq * 1000
    return {
        "call_key": call_key(call_id),
        "day": day_of(START),
        "epoch": 1,
        "seq": seq,
        "kind": tables.KIND_EVENT,
        "at": at,
        "offset_us": seq * 1000,
        "type": "response.done",
        "event_id": f"event_{seq}",
        "payload": payload,
        "flags": tables.FLAG_JSON,
    } | values


class Deaf:
    """Hear nothing of the writer's flushes."""

    def flushed(self, rows: int, seconds: float, oldest_at: int | None) -> None: ...

    def failing(self, problem: str, tries: int, trouble: Trouble) -> None: ...

    def recovered(self) -> None: ...


def writer_of(path: Path) -> Writer:
    return Writer(lambda: sqlite.open_writer(path), flushes=Deaf(), refused=lambda _: None, flush_interval=0.002)
