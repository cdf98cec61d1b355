"""Know beside the database, in `NAME.witness`, up to which entry it was committed for each call.

A write-ahead log that was cut or spoilt while nobody had it open is no damage to SQLite: it takes the
whole transactions at its beginning, and says nothing of the rest. So each commit is noted in a small
file as well, which is not synced: it outlives the process, and after a loss of power it says less than
a database has that syncs each commit. A start compares the two. It holds no id, and nothing that was said.

For the writer's thread.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import struct
import zlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import structlog

from rtobserver.realtime.holes import Loss
from rtobserver.store import damage, holes, replacement
from rtobserver.store.commits import EntryRow
from rtobserver.store.identity import CallRef
from rtobserver.store.sqlite import identity

CALLS = 2_000
"""Calls that are known, those that were heard of last."""
_DAY_US = 86_400_000_000
_HEADER = struct.Struct("<8sQQI")
_SLOT = struct.Struct("<qiiqqq")
_MAGIC = b"rtobswi2"
_SEAL = 0x5EA1_0FA5_1077_0B5E
"""Closes a slot, with all that stands in it: one of which half was written has another."""

log = structlog.get_logger()


class Known(NamedTuple):
    """Be the last entry of a call that was committed."""

    key: int
    day: int
    epoch: int
    seq: int
    at: int
    """In microseconds since 1970."""


@dataclass(slots=True)
class Missing:
    """Say what was committed and is not in the file any more."""

    calls: int = 0
    """Calls of which nothing is left."""
    entries: int = 0
    """Entries of other calls; gaps declare them."""


class Witness:
    """Note what is committed to one database file."""

    def __init__(self, path: Path) -> None:
        self._of = path
        self._path = path.with_name(f"{path.name}.witness")
        self._handle: int | None = None
        self._own: tuple[int, int] | None = None
        """What tells the file from others: of that which was opened, whatever has its name by now."""
        self._slots = bytearray(CALLS * _SLOT.size)
        self._places: dict[int, int] = {}
        self._next = 0
        self.missing = Missing()
        """What the start found missing."""

    def opened(self) -> None:
        """Take what an earlier run noted for true of the file as it is now, and note on."""
        self._own = identity(self._of)
        if self._handle is None:
            self._read()
            try:
                self._handle = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
                os.posix_fallocate(self._handle, 0, _HEADER.size + len(self._slots))
            except OSError as exc:
                log.warning("no_witness", problem=exc.strerror)
                self.close()
        self._write_all()

    def note(self, entries: Iterable[EntryRow], refused: Collection[EntryRow], erased: set[int]) -> None:
        """Take note that entries are committed, but for what was refused, and for calls that are erased."""
        if refused:
            names = set(map(id, refused))
            entries = [row for row in entries if id(row) not in names]
        # for the writer's thread, each commit: as little as can be
        places, slots, pack, size = self._places, self._slots, _SLOT.pack_into, _SLOT.size
        written = []
        for call, row in {row[0]: row for row in entries}.items():
            key = call.key
            if key in erased:
                continue
            place = places.get(key)
            if place is None:
                place = self._place(key)
            day, epoch, seq, at = call.day, row[1], row[2], row[4]
            pack(slots, place * size, key, day, epoch, seq, at, key ^ day ^ epoch ^ seq ^ at ^ _SEAL)
            written.append(place)
        if erased:
            written += [self._take(key) for key in erased & places.keys()]
        if written and self._handle is not None:
            first, behind = min(written) * size, (max(written) + 1) * size
            with contextlib.suppress(OSError), memoryview(slots) as whole:
                os.pwrite(self._handle, whole[first:behind], _HEADER.size + first)

    def check(self, connection: sqlite3.Connection) -> Missing:
        """Compare the file with what is known of it, and declare what calls have lost. Raises sqlite3.Error."""
        known = [self._get(place) for place in self._places.values()]
        newest = max((each.at for each in known), default=0)
        found = self.missing
        losses: dict[CallRef, list[Loss]] = {}
        for each in known:
            lost = _lost(connection, each)
            if lost is None:
                # rows of old calls are taken away by retention
                found.calls += each.at > newest - _DAY_US
            elif lost:
                found.entries += lost
                call = CallRef("", each.day, each.key)
                call.epoch = each.epoch
                losses[call] = holes.behind(connection, each.key, each.day, lost, each.at)
        if losses or found.calls:
            log.error("commits_missing", calls_forgotten=found.calls, calls_cut=len(losses), entries=found.entries)
            damage.admit(connection, losses)
            damage.doubt(connection, {})
        self.clear()
        return found

    def clear(self) -> None:
        """Forget all that was noted: it was looked at, and what is missing was told."""
        self._places.clear()
        self._slots[:] = bytes(len(self._slots))
        self._next = 0
        if self._handle is not None:
            with contextlib.suppress(OSError):
                os.pwrite(self._handle, bytes(self._slots), _HEADER.size)

    def close(self, *, is_whole: bool = False) -> None:
        """Let go of the file, which has nothing more to say if the database `is_whole` without its WAL."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)
        if is_whole:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)

    def _place(self, key: int) -> int:
        """Give a call the next place, in which another one's may have been."""
        place, self._next = self._next, (self._next + 1) % CALLS
        before = self._get(place).key
        if self._places.get(before) == place:
            del self._places[before]
        self._places[key] = place
        return place

    def _get(self, place: int) -> Known:
        return Known(*_SLOT.unpack_from(self._slots, place * _SLOT.size)[:-1])

    def _take(self, key: int) -> int:
        place = self._places.pop(key)
        self._slots[place * _SLOT.size : (place + 1) * _SLOT.size] = bytes(_SLOT.size)
        return place

    def _write_all(self) -> None:
        if self._handle is None or self._own is None:
            return
        header = _HEADER.pack(_MAGIC, *self._own, 0)
        header = _HEADER.pack(_MAGIC, *self._own, zlib.crc32(header))
        with contextlib.suppress(OSError):
            os.pwritev(self._handle, [header, bytes(self._slots)], 0)

    def _read(self) -> None:
        try:
            content = self._path.read_bytes()
        except OSError:
            return
        if len(content) < _HEADER.size:
            return
        magic, device, inode, sum_ = _HEADER.unpack_from(content)
        names = [self._of, *(self._of.with_name(name) for name in replacement.left(self._of, "damaged"))]
        if magic != _MAGIC or sum_ != zlib.crc32(_HEADER.pack(magic, device, inode, 0)):
            return
        if (device, inode) not in {identity(name) for name in names}:
            # somebody has put another file in the place, a backup maybe
            return
        for place in range(_HEADER.size, len(content) - _SLOT.size + 1, _SLOT.size):
            *fields, seal = _SLOT.unpack_from(content, place)
            key, day, epoch, seq, at = fields
            if seq and seal == key ^ day ^ epoch ^ seq ^ at ^ _SEAL and key not in self._places:
                _SLOT.pack_into(self._slots, self._place(key) * _SLOT.size, *fields, seal)


def _lost(connection: sqlite3.Connection, known: Known) -> int | None:
    """Count what a call lacks behind its last entry; None where nothing is known of it."""
    [found] = connection.execute(
        "SELECT max(purged_at IS NOT NULL OR erased_at IS NOT NULL) FROM call WHERE call_key = ? AND day = ?",
        (known.key, known.day),
    ).fetchall()
    if found == (None,):
        taken_away = connection.execute("SELECT 1 FROM tombstone WHERE call_key = ?", (known.key,)).fetchall()
        return 0 if taken_away else None
    if found == (1,):
        return 0
    [(last, at)] = connection.execute(
        "SELECT max(seq), max(at) FROM entry WHERE call_key = ? AND day = ? AND epoch = ?", known[:3]
    ).fetchall()
    [(declared,)] = connection.execute(
        "SELECT coalesce(sum(lost), 0) FROM gap WHERE call_key = ? AND day = ? AND reason = 'corrupt'"
        " AND coalesce(from_at, 0) >= ?",
        (known.key, known.day, at or 0),
    ).fetchall()
    return max(0, known.seq - (last or 0) - int(declared))
