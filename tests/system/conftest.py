"""Daemon and simulator in one process; every test here is a `system` test."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from tests.support.stage import Stage, staged

Play = Callable[..., AbstractAsyncContextManager[Stage]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker("system")


@pytest.fixture
def play(tmp_path: Path) -> Play:
    """Give what runs daemon and simulator: a setting, faults, and the simulator's options go in."""
    return functools.partial(staged, tmp_path)
