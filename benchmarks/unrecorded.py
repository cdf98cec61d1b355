"""Serve as the daemon does, but let nothing reach the writer: a reaction's floor in the words of the design.

    python -m benchmarks.unrecorded serve --config FILE

The loop, the machine, the policies and their commands are the product's; rows are dropped where they would be
handed to the thread that writes, as if they were stored at once.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Table

from rtobserver.cli import main
from rtobserver.store.identity import CallRef
from rtobserver.store.writer import EntryRow, Writer


def drop_entry(_writer: Writer, row: EntryRow) -> None:
    call, size = row[0], len(row[8])
    call.queued_in += size
    call.queued_out += size
    call.stored += 1


def drop_fact(_writer: Writer, _table: Table, _call: CallRef, _values: dict[str, Any]) -> None:
    pass


if __name__ == "__main__":
    Writer.entry = drop_entry  # type: ignore[method-assign, assignment]
    Writer.fact = drop_fact  # type: ignore[method-assign, assignment]
    main()
