"""Have SQLAlchemy work on one connection to a SQLite file that somebody opened.

All that is done so shares an engine, whatever the file: to make one, and to compile each statement
anew for it, takes longer than what is done.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextvars import ContextVar
from functools import cache

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

_opening: ContextVar[Callable[[], sqlite3.Connection]] = ContextVar("opening")


def _open() -> sqlite3.Connection:
    return _opening.get()()


@cache
def _engine() -> sa.Engine:
    return sa.create_engine("sqlite://", creator=_open, poolclass=NullPool)


def lent(opening: Callable[[], sqlite3.Connection]) -> sa.Connection:
    """Open a connection; it is closed with the one that is given back.

    Raises:
        What `opening` raises.

    """
    token = _opening.set(opening)
    try:
        return _engine().connect()
    finally:
        _opening.reset(token)
