"""A pytest plugin: the files that take long, or mostly wait, begin first.

With `--no-loadscope-reorder` workers take files in this order, so that at the end none is alone with a long one.
`make cost` tells which they are.
"""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parents[1]
FIRST = (
    "web/test_openapi.py",
    "browser/",
    "process/",
    "faults/",
    "test_policies_document.py",
    "test_cli_",
    "simulator/test_media",
)
"""Beginnings of the files' paths."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_rank)


def _rank(item: pytest.Item) -> int:
    file = item.path.relative_to(HERE).as_posix()
    return next((number for number, beginning in enumerate(FIRST) if file.startswith(beginning)), len(FIRST))
