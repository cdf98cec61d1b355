"""What tests leave behind on the machine: nothing, whatever becomes of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from tests.support import postgres

ENDLESS = """
from tests.support import postgres
with postgres.running() as cluster:
    print(cluster.folder, cluster.port, flush=True)
    input()
"""


def test_the_server_of_tests_that_were_killed_is_ended_by_those_that_come_next() -> None:
    words = [sys.executable, "-c", ENDLESS]
    # as a Python program of this process would find our modules
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ) as tests:
        assert tests.stdout is not None
        folder, port = tests.stdout.readline().split()
        url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        server = postgres.Server(url)
        assert [tuple(row) for row in server.execute("SELECT 1")] == [(1,)]
        with postgres.running():
            assert Path(folder).exists(), "they go on"
        tests.kill()
    assert [tuple(row) for row in server.execute("SELECT 1")] == [(1,)], "a server outlives who started it"
    with postgres.running():
        assert not Path(folder).exists()
        with pytest.raises((OSError, asyncpg.PostgresError)):
            server.execute("SELECT 1")


def test_what_the_processes_of_a_server_share_lies_in_its_folder() -> None:
    with postgres.running() as cluster:
        [row] = cluster.execute("SELECT count(*) FROM pg_ls_dir('pg_dynshmem')")
        assert row["count"] > 0
    assert not cluster.folder.exists()
