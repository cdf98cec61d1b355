"""What tests of several rooms need."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

from rtobserver.terminal.running import GC_THRESHOLD
from tests.support import statements

# a law says nothing of time, and a busy machine may stop anywhere
settings.register_profile("rtobserver", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("rtobserver")

pytest_plugins = ("tests.faults.table", "tests.support.cost", "tests.support.order")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give laws, which try hundreds of examples, the time that a busy machine takes for them."""
    for item in items:
        is_law = getattr(getattr(item, "obj", None), "is_hypothesis_test", False)
        if is_law and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(600))


def pytest_configure() -> None:
    """Look for no garbage among what is only loaded: of that there are a million objects, and hardly any is."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Keep the collector off the thousands of tests, and let it look as seldom as a daemon's does."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLD)
    gc.enable()


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
