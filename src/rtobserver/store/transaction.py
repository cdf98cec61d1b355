"""Be a transaction of either database, for work that is written once for both."""

from __future__ import annotations

from typing import Any, Literal, cast

from sqlalchemy import Connection, CursorResult, Executable, Table
from sqlalchemy.dialects import postgresql, sqlite

from rtobserver.store.identity import CallRef

Dialect = Literal["sqlite", "postgresql"]


class Transaction:
    """Be one transaction, for work that joins it; its statements must be such that both databases know them."""

    def __init__(self, connection: Connection, erased: set[int]) -> None:
        self._connection = connection
        self._erased = erased
        self.dialect = cast("Dialect", connection.dialect.name)
        self.changed = 0
        """Rows that the last statement wrote; those that its triggers wrote are not counted."""

    def refuse(self, call_key: int) -> None:
        """Let no row of this call be written any more by this process, whoever hands it over: it is being erased.

        On PostgreSQL its tombstone does that, for all replicas.
        """
        self._erased.add(call_key)

    def takes(self, call: CallRef) -> bool:
        """Tell whether rows of the call may be written."""
        return call.key not in self._erased

    def insert(self, table: Table) -> sqlite.Insert | postgresql.Insert:
        """Begin an insert that can say what to do where the row is there already (`on_conflict_…`)."""
        return sqlite.insert(table) if self.dialect == "sqlite" else postgresql.insert(table)

    def execute(self, statement: Executable) -> list[tuple[Any, ...]]:
        """Run a Core statement; gives its rows, or an empty list where it has none."""
        result = cast("CursorResult[Any]", self._connection.execute(statement))
        rows = [tuple(row) for row in result] if result.returns_rows else []
        self.changed = result.rowcount
        return rows

    def execute_many(self, sql: str, rows: list[tuple[Any, ...]]) -> None:
        """Run a statement that is spelt out for this database, once for each row."""
        self._connection.exec_driver_sql(sql, rows)
