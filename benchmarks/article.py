"""Record as the article has it: a thread with a loop of its own per call, json, one ORM commit per event.

    python -m benchmarks.article URL CALLS DATABASE

Kindly meant: one engine for all threads, WAL, no more durable than the daemon, and a lock is waited for.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
import threading
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from websockets.asyncio.client import connect

from benchmarks.sender import call_id

LOCK_SECONDS = 60.0


class Base(DeclarativeBase):
    pass


class Event(Base):
    """Be a received event."""

    __tablename__ = "event"

    call_id: Mapped[str] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[int]
    type: Mapped[str]
    event_id: Mapped[str]
    payload: Mapped[str]


def make_engine(path: Path, calls: int) -> sa.Engine:
    engine = sa.create_engine(
        f"sqlite:///{path}", connect_args={"timeout": LOCK_SECONDS}, pool_size=calls, max_overflow=10
    )

    @sa.event.listens_for(engine, "connect")
    def prepare_connection(connection: sqlite3.Connection, _record: Any) -> None:
        connection.execute("PRAGMA synchronous=FULL")

    return engine


async def record(url: str, name: str, engine: sa.Engine) -> None:
    seq = 0
    with Path(os.devnull).open("w") as log:  # noqa: ASYNC230 - as the article does, one line per event
        async with connect(f"{url}/realtime?call_id={name}", proxy=None, max_size=None) as socket:
            async for text in socket:
                event = json.loads(text)
                seq += 1
                print(f"WebSocket [{name}]: {event['type']}", file=log)
                row = Event(
                    call_id=name,
                    seq=seq,
                    at=time.time_ns() // 1000,
                    type=event["type"],
                    event_id=event["event_id"],
                    payload=text,
                )
                _commit(engine, row)


def _record(url: str, name: str, engine: sa.Engine) -> None:
    asyncio.run(record(url, name, engine))


def _commit(engine: sa.Engine, row: Event) -> None:
    while True:
        try:
            with Session(engine) as session:
                session.add(row)
                session.commit()
        except OperationalError as exc:
            if "locked" not in str(exc):
                raise
        else:
            return


def main(url: str, calls: int, path: Path) -> None:
    engine = make_engine(path, calls)
    threads = [
        threading.Thread(target=_record, args=(url, call_id(number), engine), daemon=True) for number in range(calls)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def prepare(path: Path) -> None:
    """Make the file and its table."""
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    connection.close()
    engine = sa.create_engine(f"sqlite:///{path}")
    Base.metadata.create_all(engine)
    engine.dispose()


if __name__ == "__main__":
    print("ready", flush=True)
    sys.stdin.readline()
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
