"""A pytest plugin: the files that take long begin first, and those that only compute are spread among those that wait.

With `--no-loadscope-reorder` workers take files in this order, so that at the end none is alone with a long one, and
that at any time some of them need the processors that others wait without.
`make cost` tells which they are.
"""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parents[1]
FIRST = (
    "web/test_openapi.py",
    "process/test_replicas.py",
    "process/test_demo.py",
    "browser/test_demo_page.py",
    "browser/",
    "process/",
    "faults/",
    "upstream/test_entra.py",
    "simulator/test_media",
    "web/test_api_export.py",
    "test_cli_",
    "store/test_shipping.py",
    "test_reloading.py",
    "system/",
)
"""Beginnings of the paths of files that take long, or mostly wait."""
COMPUTING = (
    "observation/",
    "policy/",
    "conversations/",
    "test_policies_document.py",
    "realtime/",
    "fidelity/",
    "config/",
)
"""Beginnings of the paths of files that never wait, those that use most CPU first."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    files = list(dict.fromkeys(_file(item) for item in items))
    computing = sorted((file for file in files if file.startswith(COMPUTING)), key=lambda file: _rank(file, COMPUTING))
    others = sorted((file for file in files if not file.startswith(COMPUTING)), key=lambda file: _rank(file, FIRST))
    place = {file: number / len(group) for group in (others, computing) for number, file in enumerate(group)}
    items.sort(key=lambda item: place[_file(item)])


def _file(item: pytest.Item) -> str:
    return item.path.relative_to(HERE).as_posix()


def _rank(file: str, beginnings: tuple[str, ...]) -> int:
    return next((number for number, beginning in enumerate(beginnings) if file.startswith(beginning)), len(beginnings))
