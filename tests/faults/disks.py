"""Disks that are full, fail or are slow: a small tmpfs, and a library of ours that is loaded before all others.

What is missing (a compiler, the right to mount) fails the test that needs it: a skipped fault looks like one survived.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

SOURCE = Path(__file__).with_name("failio.c")
_SIZE = 1024


class Disk:
    """Have a process's own files fail or be slow; `environ` is what the process must be started with."""

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            raise RuntimeError("disk faults need a C compiler (Debian: apt-get install gcc libc6-dev)")
        library = folder / "failio.so"
        words = [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-o", str(library), str(SOURCE), "-ldl", "-lpthread"]
        made = subprocess.run(words, capture_output=True, text=True, check=False)
        if made.returncode != 0:
            raise RuntimeError(f"failio.c cannot be compiled: {made.stderr}")
        self._control = folder / "failio.control"
        self._control.write_bytes(bytes(_SIZE))
        self.environ = {"LD_PRELOAD": str(library), "FAILIO_CONTROL": str(self._control)}

    def fail(
        self,
        operation: str,
        part: str,
        number: int = errno.EIO,
        *,
        delay_ms: int = 0,
        percent: int = 100,
        after: int = 0,
    ) -> None:
        """Have operations on files whose path has this part fail or wait, from now on."""
        self._say(f"{operation} {part} {number} {delay_ms} {percent} {after}")

    def slow(self, operation: str, part: str, delay_ms: int) -> None:
        """Have operations take longer, from now on."""
        self.fail(operation, part, 0, delay_ms=delay_ms, percent=0)

    def kill(self, operation: str, part: str, after: int) -> None:
        """Have the process killed at an operation, when so many were let pass."""
        self.fail(operation, part, -1, after=after)

    def heal(self) -> None:
        """Have everything work again."""
        self._say("")

    def _say(self, line: str) -> None:
        # in place: the process has the file mapped; the first byte last, so that no half line is read
        with self._control.open("r+b") as file:
            file.write(b"\0")
            file.flush()
            file.seek(1)
            file.write(line[1:].encode().ljust(_SIZE - 1, b"\0"))
            file.flush()
            file.seek(0)
            file.write(line[:1].encode() or b"\0")


@contextmanager
def small_disk(folder: Path, mebibytes: int) -> Iterator[Path]:
    """Mount a small disk for the length of the block."""
    place = folder / "disk"
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m,mode=0700", "tmpfs", str(place)]
    made = subprocess.run(words, capture_output=True, text=True, check=False)
    if made.returncode != 0:
        raise RuntimeError(f"a full disk needs the right to mount one (root, CAP_SYS_ADMIN): {made.stderr}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path) -> Path:
    """Take all the room that there is; gives the file that holds it."""
    filler = place / "filler"
    with contextlib.suppress(OSError), filler.open("ab", buffering=0) as file:
        while True:
            file.write(bytes(65536))
    with contextlib.suppress(OSError), filler.open("ab", buffering=0) as file:
        while True:
            file.write(bytes(512))
    return filler


@asynccontextmanager
async def held(path: Path, statement: str = "BEGIN EXCLUSIVE") -> AsyncIterator[None]:
    """Have another process hold the database for the length of the block."""
    code = (
        "import sqlite3, sys\n"
        f"connection = sqlite3.connect({str(path)!r}, timeout=30, isolation_level=None)\n"
        f"for each in {statement!r}.split(';'): connection.execute(each).fetchall()\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        assert (await process.stdout.readline()).strip() == b"held"
        yield
    finally:
        process.stdin.close()
        await process.wait()
