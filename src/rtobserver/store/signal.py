"""Say that something happened in the store, to whoever waits for it in this process.

A signal only makes a reader look sooner: what it finds, it finds by reading, and it looks now and
then without any signal too. While nobody waits, announcing costs one comparison.
"""

from __future__ import annotations

import asyncio


class Signal:
    """Wake waiters; made on the loop whose tasks wait, announced from any thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()
        self._awaited = False
        self.count = 0
        """How often it was announced."""

    def announce(self) -> None:
        """Wake all waiters."""
        self.count += 1
        if self._awaited:
            self._awaited = False
            try:
                self._loop.call_soon_threadsafe(self._wake)
            except RuntimeError:  # the loop is closed, and with it whoever waited
                return

    async def wait(self, seen: int, seconds: float) -> None:
        """Wait until it was announced more than `seen` times, but no longer than so many seconds."""
        self._awaited = True
        event = self._event
        if self.count > seen:
            return
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return

    def _wake(self) -> None:
        event, self._event = self._event, asyncio.Event()
        event.set()
