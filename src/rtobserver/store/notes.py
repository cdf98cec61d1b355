"""Write down work that must survive this process, so that whoever finds it can do it.

A note is work for a transaction with what is needed to make that work again: a name, the calls that
it is about, and values as JSON has them. `journal_lines.py` knows the names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rtobserver.store.identity import CallRef
from rtobserver.store.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Note:
    """Be a note; calling it does the work."""

    name: str
    work: Callable[[Transaction], None]
    calls: tuple[CallRef | None, ...]
    values: Mapping[str, Any]
    is_last: bool = False
    """Whether it comes after the entries that were handed over before it in the same flush, not before them."""

    def __call__(self, transaction: Transaction) -> None:
        """Do the work."""
        self.work(transaction)
