"""What tests of several rooms need."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings

from tests.support import statements

# a law says nothing of time, and a busy machine may stop anywhere
settings.register_profile("rtobserver", deadline=None)
settings.load_profile("rtobserver")

pytest_plugins = ("tests.faults.table",)


@pytest.fixture(autouse=True)
def kept_rules() -> Iterator[None]:
    """Hold all that a test sends to PostgreSQL to what a database of many nodes demands (design, section 11)."""
    with statements.watched() as sent:
        yield
    assert {sql: found for sql in set(sent) if (found := statements.breaches(sql))} == {}


@pytest.fixture
def own_logs() -> Iterator[None]:
    """Put logging back as it was: a test may set it up for this process, to the stderr of this test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)
