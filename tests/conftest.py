"""What tests of several rooms need."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import structlog

pytest_plugins = ("tests.faults.table",)


@pytest.fixture
def own_logs() -> Iterator[None]:
    """Put logging back as it was: a test may set it up for this process, to the stderr of this test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)
