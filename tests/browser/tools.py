"""Where the browser, Node and the vendors' clients are; without one of them a test says what to do.

A machine may lack them, CI may not: there a missing one fails the test, elsewhere it skips it.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from tests.support.outside import lacking

CLIENTS = Path(__file__).with_name("clients")


def chromium() -> str:
    """Find Chromium."""
    return shutil.which("chromium") or lacking("there is no Chromium: run `make browser` as root, or install it")


def node() -> str:
    """Find the Node that the dev requirements bring, once the clients' packages are there."""
    if not (CLIENTS / "dist" / "page.js").exists():
        lacking("the vendors' clients are not installed: run `make clients`")
    return shutil.which("node", path=Path(sys.executable).parent) or lacking("there is no Node: run `make setup`")


def clients_page() -> Path:
    """Give the folder of the page that is built on the vendors' clients."""
    node()
    return CLIENTS
