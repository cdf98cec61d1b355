"""Commit batches to a journal file: each thing becomes a line, and nothing is done yet."""

from __future__ import annotations

import base64
import contextlib
import sqlite3

import structlog

from rtobserver.store import tables
from rtobserver.store.commits import Committing, EntryRow, Work
from rtobserver.store.derived import Fact
from rtobserver.store.identity import CallRef
from rtobserver.store.journal_lines import INSERT_CALL, INSERT_ENTRY, INSERT_FACT, NOTE, SCHEMA, write
from rtobserver.store.journal_memory import MOST_BYTES, Memory, Row
from rtobserver.store.notes import Note

log = structlog.get_logger()


class JournalCommits(Committing):
    """Be the connection to the newest file of a journal, which begins behind the line `last`."""

    def __init__(self, raw: sqlite3.Connection, last: int, most_memory: int = MOST_BYTES) -> None:
        super().__init__(raw)
        raw.executescript(SCHEMA)
        self.last = self._next = last
        """The last line that is committed."""
        self.size = 0
        """Payload bytes in the file."""
        self.memory = Memory(last, most_memory)
        self._numbers: dict[tuple[CallRef, int], int] = {}
        """By call and epoch: whoever takes a call up may do so with the pointer that it has."""
        self._added: list[tuple[CallRef, int]] = []
        self._calls: list[Row] = []
        self._entries: list[Row] = []
        self._facts: list[Row] = []
        self._size = 0

    def go_on(self, earlier: JournalCommits) -> None:
        """Write down what another connection holds in its memory, and go on behind it; raises sqlite3.Error."""
        earlier.memory.write(self.raw)
        self.memory, self._numbers = earlier.memory, earlier._numbers
        self.last = self._next = earlier.last

    def close(self) -> None:
        """Let go of the file."""
        with contextlib.suppress(sqlite3.Error):
            self.raw.close()

    def _committed(self) -> None:
        self.last = self._next
        self.size += self._size
        self.memory.add(self._calls, self._entries, self._facts, self.last)
        self._begin_piece()

    def _undone(self) -> None:
        self._next = self.last
        for key in self._added:
            self._numbers.pop(key, None)
        self._begin_piece()

    def _begin_piece(self) -> None:
        self._size = 0
        self._added.clear()
        self._calls, self._entries, self._facts = [], [], []

    def _do(self, work: Work) -> None:
        note = work.function
        if isinstance(note, Note):
            calls = ",".join("" if call is None else str(self._number(call)) for call in note.calls)
            self._line(calls, NOTE + note.name, write(note.values))

    def _insert_entries(self, entries: list[EntryRow]) -> list[EntryRow]:
        first = self._next + 1
        number = self._number
        values = [(line, number(row[0]), *row[1:]) for line, row in enumerate(entries, first)]
        self._next += len(values)
        self._size += sum(len(row[8]) for row in entries)
        refused = self._insert(INSERT_ENTRY, values)
        for index, exc in refused:
            self._quarantine(entries[index], exc)
        without = {index for index, _ in refused}
        self._entries += [row for index, row in enumerate(values) if index not in without] if without else values
        return [entries[index] for index, _ in refused]

    def _write_facts(self, facts: list[Fact]) -> None:
        for table, call, values in facts:
            self._line(str(self._number(call)), table.name, write(values))

    def _quarantine(self, row: EntryRow, exc: Exception) -> None:
        call, epoch, seq, _, at, _, _, _, payload, _ = row
        log.error("entry_refused", seq=str(seq), problem=str(exc))
        kept = base64.b64encode(payload).decode()
        told = {"epoch": epoch, "seq": seq, "at": at, "problem": str(exc), "payload": kept}
        self._line(str(self._number(call)), tables.quarantine.name, write(told))

    def _line(self, calls: str, what: str, told: bytes) -> None:
        self._next += 1
        self._size += len(told)
        row = (self._next, calls, what, told)
        self._facts.append(row)
        self.raw.execute(INSERT_FACT, row)

    def _number(self, call: CallRef) -> int:
        key = (call, call.epoch)
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._numbers) + 1
            self._added.append(key)
            row = (number, call.call_id, call.day, call.epoch, call.origin)
            self._calls.append(row)
            self.raw.execute(INSERT_CALL, row)
        return number
