"""Find what stands beside the checkout: recordings of the real service, the article's pages.

They are other people's and not part of this repository, so a plain `make test` goes without them and
says so. CI must have them (`.ci/run` names the folders), and a folder that was named must be right.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml


def recording(name: str) -> Path:
    """Find a recording of the real service."""
    return _find("RTOBSERVER_RECORDINGS_DIR", f"{name}.yaml", "recordings of the real service")


def interactions(name: str) -> list[dict[str, Any]]:
    """Give what a recording of the real service holds."""
    found: list[dict[str, Any]] = yaml.safe_load(recording(name).read_text(encoding="utf-8"))["interactions"]
    return found


def page(name: str) -> Path:
    """Find one of the article's pages."""
    return _find("RTOBSERVER_SEED_DIR", name, "the article's pages")


def lacking(sentence: str) -> NoReturn:
    """Go without, and say so; in CI nothing may be lacking."""
    if os.environ.get("CI"):
        pytest.fail(sentence, pytrace=False)
    pytest.skip(sentence)


def _find(variable: str, name: str, what: str) -> Path:
    folder = os.environ.get(variable)
    if not folder:
        lacking(f"{variable} is not set: it names the folder with {what}")
    path = Path(folder) / name
    if not path.is_file():
        pytest.fail(f"{variable} names {folder}, which holds no {name}", pytrace=False)
    return path
