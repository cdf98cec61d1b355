"""Run the asynchronous part of a command, in a process that is its own, and show how far it is."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")

GC_THRESHOLD = (50_000, 20, 50)
"""Live calls are many long-lived objects; a full collection over them would stop the loop for tens of milliseconds."""


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the fastest loop that there is."""
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    try:
        import uvloop
    except ImportError:  # not made for Windows
        pass
    else:
        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(work)


def spare_from_collector() -> None:
    """Keep the collector off all that this process has made so far, which lives as long as it does."""
    gc.collect()
    gc.freeze()


@contextmanager
def progress(total: int, what: str) -> Iterator[Callable[[int], None]]:
    """Show a bar on stderr where somebody watches; gives what moves it on."""
    from rich.console import Console
    from rich.progress import Progress

    # what goes to a pipe must not pass through the bar, which writes to stderr
    piped = not sys.stdout.isatty()
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty(), redirect_stdout=not piped) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)


async def followed(results: AsyncIterator[T], total: int, what: str) -> AsyncIterator[T]:
    """Pass results on, with a bar that each of them moves on."""
    with progress(total, what) as advance:
        async for result in results:
            yield result
            advance(1)
