"""Run nginx with a file from deploy/, on free ports of this machine."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import random
import shutil
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from cryptography.hazmat.primitives import hashes

PORTS = (20_000, 32_000)
_WRAPPER = """
daemon off;
{user}
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log;
events {{}}
http {{
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  include {folder}/site.conf;
}}
"""


def program() -> str:
    """Find nginx, also where only root has it in the PATH."""
    found = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    assert found is not None, "nginx is missing: tests/deploy/install-linters"
    return found


def free_port() -> int:
    """Find a port that nobody listens on; nginx cannot pick one by itself.

    It is none of those that the system gives to whoever asks for any: one of these may be gone when nginx comes.
    """
    while True:
        port = random.randint(*PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def admit(path: Path, user: str, password: str) -> None:
    """Write a file of users for basic authentication."""
    digest = hashes.Hash(hashes.SHA1())
    digest.update(password.encode())
    path.write_text(f"{user}:{{SHA}}{base64.b64encode(digest.finalize()).decode()}\n")


def prepare(folder: Path, site: Path, changes: Mapping[str, str]) -> Path:
    """Write nginx's configuration around a file, with names of elsewhere replaced by ones of here."""
    text = site.read_text()
    for old, new in changes.items():
        assert old in text, f"{old} is not in {site.name}"
        text = text.replace(old, new)
    (folder / "site.conf").write_text(text)
    path = folder / "nginx.conf"
    path.write_text(_WRAPPER.format(folder=folder, user="user root;" if os.geteuid() == 0 else ""))
    return path


@asynccontextmanager
async def running(folder: Path, config: Path, port: int) -> AsyncIterator[None]:
    """Run nginx for the length of the block; it answers on the port when the block begins."""
    process = await asyncio.create_subprocess_exec(program(), "-p", str(folder), "-c", str(config))
    try:
        async with asyncio.timeout(10):
            while True:
                assert process.returncode is None, (folder / "error.log").read_text()
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except ConnectionRefusedError:
                    continue
                writer.close()
                break
        yield
    finally:
        process.terminate()
        await process.wait()
