"""Put a new database file in the place of another, so that a kill at any moment leaves one of them whole.

    files beside NAME            state                                    what the next start does
    NAME.unfinished              the new file is being made; NAME is      throws it away, and looks whether
                                 what it was, and nobody writes to it     NAME is damaged
    NAME.whole-WORD-TIME         the new file is whole; NAME may have     finishes: NAME and what belongs to it
                                 been moved away by now                   become NAME.WORD-TIME, the new one NAME
    none of them                 it is done, or never began               nothing

Names are all that tells of it, so that nothing is known only to a process. Whoever holds the file's
lock may finish; `sqlite.hold` does it for all of them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from pathlib import Path

import structlog

PARTS = ("-wal", "-shm", "")
"""Endings of a database's files. The file itself is moved last: while it is there, moving is not done."""

log = structlog.get_logger()


def begin(path: Path, most_bytes: int | None = None) -> Path:
    """Make an empty file for the new database, in the place of whatever an earlier try left.

    As much as `path` and its WAL take is looked for on the disk before, `most_bytes` at most: a copy that finds no
    room to its end has filled the disk for nothing. Raises OSError.
    """
    made = _unfinished(path)
    empty(path)
    wanted = sum(_size(_beside(path, part)) for part in ("", "-wal"))
    wanted = wanted if most_bytes is None else min(wanted, most_bytes)
    disk = os.statvfs(path.parent)
    if disk.f_bavail * disk.f_frsize < wanted:
        raise OSError(errno.ENOSPC, f"a copy needs {wanted} bytes of room")
    _remove(made)
    os.close(os.open(made, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    return made


def was_cut_off(path: Path) -> bool:
    """Tell whether a replacement was begun and neither finished nor given up: the file is suspected."""
    return _unfinished(path).exists()


def empty(path: Path) -> None:
    """Give back the room that an unfinished file takes; that there was one stays known. Raises OSError."""
    made = _unfinished(path)
    for part in ("-wal", "-shm", "-journal"):
        _beside(made, part).unlink(missing_ok=True)
    if made.exists():
        os.truncate(made, 0)


def forget(path: Path) -> None:
    """Take note that the file needs no replacement; raises OSError."""
    _remove(_unfinished(path))


def complete(path: Path, word: str) -> Path:
    """Take note that the new file is whole and that no connection to it is open.

    Gives the name that the old one will have, `NAME.WORD-YYYYMMDDTHHMMSSZ`. Raises OSError.
    """
    made = _unfinished(path)
    handle = os.open(made, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    number = 1
    while (aside := _aside(path, f"{word}-{stamp}" + (f"-{number}" if number > 1 else ""))).exists():
        number += 1
    made.rename(_whole(path, aside))
    _sync(path.parent)
    return aside


def finish(path: Path) -> list[Path]:
    """Put new files that are whole in their place; gives the names of those that had to leave. Raises OSError."""
    return [aside for aside in pending(path) if _put_in_place(path, aside)]


def pending(path: Path) -> list[Path]:
    """List the names of files that have to leave, or have left, for a new one that is whole."""
    beginning = f"{path.name}.whole-"
    try:
        with os.scandir(path.parent) as entries:
            found = sorted(entry.name for entry in entries if entry.name.startswith(beginning))
    except FileNotFoundError:
        return []
    return [_aside(path, name.removeprefix(beginning)) for name in found]


def left(path: Path, word: str) -> list[str]:
    """List the names of files that had to leave and that lie beside the database still."""
    beginning = f"{path.name}.{word}-"
    with contextlib.suppress(FileNotFoundError), os.scandir(path.parent) as found:
        names = sorted(entry.name for entry in found if entry.name.startswith(beginning))
        return [name for name in names if not name.endswith(("-wal", "-shm"))]
    return []


def put_aside(path: Path, aside: Path) -> None:
    """Give the file, and what belongs to it, another name; raises OSError."""
    # the WAL first: a file that is found without its WAL would be taken for an older state of itself
    for part in PARTS:
        _move(path, aside, part)
    _sync(path.parent)


def _move(path: Path, aside: Path, part: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        _beside(path, part).rename(_beside(aside, part))


def _put_in_place(path: Path, aside: Path) -> bool:
    whole = _whole(path, aside)
    if aside.exists() and path.exists() and path.stat().st_size:
        # the old one has left, and somebody has put another one there since: a backup, for all we know
        log.error("database_exchanged", path=str(path), not_used=str(whole))
        whole.rename(_beside(aside, "-copy"))
        return False
    if not aside.exists():
        put_aside(path, aside)
    whole.rename(path)
    _sync(path.parent)
    return True


def _unfinished(path: Path) -> Path:
    return path.with_name(f"{path.name}.unfinished")


def _aside(path: Path, word: str) -> Path:
    return path.with_name(f"{path.name}.{word}")


def _whole(path: Path, aside: Path) -> Path:
    return path.with_name(f"{path.name}.whole-{aside.name.removeprefix(f'{path.name}.')}")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _beside(path: Path, part: str) -> Path:
    return path.with_name(path.name + part)


def _remove(made: Path) -> None:
    for part in ("-wal", "-shm", "-journal", ""):
        _beside(made, part).unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
