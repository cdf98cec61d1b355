"""Waiting for a condition over plain state, without polling."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Changes:
    """Wake those who wait for a condition whenever something changed; `above` hears of it too."""

    def __init__(self, above: Changes | None = None) -> None:
        self._above = above
        self._changed = asyncio.Event()
        self._waiting_count = 0

    def notify(self) -> None:
        """Have everyone look again."""
        if self._waiting_count:
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()
        if self._above is not None:
            self._above.notify()

    async def until(self, condition: Callable[[], bool], patience: float | None = None) -> bool:
        """Wait until the condition holds and say whether it does; `patience` is in seconds."""
        self._waiting_count += 1
        try:
            async with asyncio.timeout(patience):
                while not condition():
                    await self._changed.wait()
        except TimeoutError:
            return condition()
        finally:
            self._waiting_count -= 1
        return True
