"""Named places of the daemon at which a test can have it killed, stopped, stalled or failed.

The product knows nothing of them: `tests/faults/run.py` lays them over its functions before the daemon
starts, and neither is part of a release. A place that does not exist any more stops the start.

    PLACE=ACTION[@N]     at the N-th passing (the first); `@N+` is at every one from there on
    ACTION               kill, stop, raise, or sleep:SECONDS (which holds up whoever passes)
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rtobserver.realtime.entries import GapRow
from rtobserver.store.notes import Note


@dataclass(frozen=True, slots=True)
class Place:
    """Name a place: before or after a function is carried out, perhaps only with some arguments."""

    function: str
    """`module:name` or `module:Class.name`."""
    after: bool = False
    concerns: Callable[[tuple[Any, ...]], bool] = lambda _args: True


def _registers_a_call(args: tuple[Any, ...]) -> bool:
    """Tell whether a batch registers a call that upstream has accepted, in place of its negotiation."""
    notes = [work.function for work in args[1].work if isinstance(work.function, Note)]
    return any(note.name == "register" and note.calls[1] is not None for note in notes)


PLACES = {
    "mint.before": Place("rtobserver.upstream.rest:Rest.create_client_secret"),
    "mint.after": Place("rtobserver.upstream.rest:Rest.create_client_secret", after=True),
    "offer.accepted": Place("rtobserver.upstream.rest:Rest.create_call", after=True),
    "call.registered": Place("rtobserver.store.commits:Commits.write", after=True, concerns=_registers_a_call),
    "attach.after": Place("rtobserver.upstream.attach:Attach.open", after=True),
    "entry.handed": Place("rtobserver.store.writer:Writer.entry", after=True),
    "commit.before": Place("rtobserver.store.commits:Commits._write_facts", after=True),
    "commit.after": Place(
        "rtobserver.store.commits:Commits.write", after=True, concerns=lambda args: bool(args[1].entries)
    ),
    "mark.before": Place("rtobserver.store.unfinished:beat"),
    "command.intended": Place("rtobserver.upstream.attach:Sideband.send_now"),
    # the first frame after a command, such as upstream's answer to it: what was written is on its way by then
    "command.sent": Place("rtobserver.observation.commands:Commands.heard"),
    "gap.begun": Place(
        "rtobserver.recorder:Recorder.record",
        concerns=lambda args: isinstance(args[2], GapRow) and args[2].reason != "before_attach",
    ),
    "call.claimed": Place("rtobserver.observation.supervisor:Supervisor._taken_up", after=True),
    "erasure.begun": Place("rtobserver.store.erasure:merge"),
    "migration.done": Place("rtobserver.store.schema:_run_scripts", after=True),
    "key.made": Place("rtobserver.store.secrets:keep", after=True),
    "pause.begun": Place("rtobserver.observation.control:Control.begin_pause", after=True),
}
"""The seventeen places of reliability case D02."""

REPLACING = {
    "salvage.begun": Place("rtobserver.store.damage:_fill"),
    "salvage.calls": Place("rtobserver.store.salvage:_bring", concerns=lambda args: args[0] == "call"),
    "salvage.entries": Place("rtobserver.store.salvage:_bring", concerns=lambda args: args[0] == "entry"),
    "salvage.admitting": Place("rtobserver.store.damage:_admit"),
    "salvage.whole": Place("rtobserver.store.damage:_fill", after=True),
    "replacement.whole": Place("rtobserver.store.replacement:complete", after=True),
    "replacement.half_aside": Place(
        "rtobserver.store.replacement:_move", after=True, concerns=lambda args: args[2] == "-wal"
    ),
    "replacement.aside": Place("rtobserver.store.replacement:put_aside", after=True),
    "replacement.done": Place("rtobserver.store.replacement:_put_in_place", after=True),
    "losses.told": Place("rtobserver.store.recovery:Recovery._tell_losses", after=True),
}
"""The steps in which a new database takes the place of another one."""

SHIPPING = {
    "journal.line": Place("rtobserver.store.journal_commits:JournalCommits._write_facts", after=True),
    "journal.committed": Place(
        "rtobserver.store.journal_commits:JournalCommits.write", after=True, concerns=lambda args: bool(args[1].entries)
    ),
    "journal.begun": Place("rtobserver.store.journal_files:Files._begin", after=True),
    "journal.forgotten": Place("rtobserver.store.journal_files:_remove"),
    "ship.moved": Place("rtobserver.store.shipment:move", after=True),
    "ship.brought": Place("rtobserver.store.shipment:bring", after=True),
    "ship.committed": Place("rtobserver.store.shipping:Shipper._arrived"),
}
"""The places on the way from the journal to PostgreSQL."""

OTHERS = {
    "policy.weighed": Place(
        "rtobserver.policy.deciding:Scales._accepts", concerns=lambda args: args[1].policy.id == "broken"
    ),
    "frame.received": Place("rtobserver.observation.machine:Machine.frame_received"),
    "writer.turn": Place("rtobserver.store.writer:Writer._next_batch"),
    "loop.turn": Place("rtobserver.store.unfinished:beat"),
    "wal.emptied": Place("rtobserver.store.witness:Witness.close"),
    **REPLACING,
}


class Failed(RuntimeError):
    """Be what `raise` raises."""


def install(order: str) -> None:
    """Lay a failpoint over the product.

    Raises: ValueError, if the order makes no sense; AttributeError, if the place is gone.
    """
    name, equals, action = order.partition("=")
    known = PLACES | SHIPPING | OTHERS
    place = known.get(name)
    if place is None or not equals:
        raise ValueError(f"{order!r} is no failpoint; places: {', '.join(sorted(known))}")
    what, _, when = action.partition("@")
    first, for_ever = int(when.removesuffix("+") or "1"), when.endswith("+")
    act = _action(name, what)
    passed = 0

    def passing(args: tuple[Any, ...]) -> None:
        nonlocal passed
        if place.concerns(args):
            passed += 1
            if passed == first or (for_ever and passed > first):
                act()

    module_name, _, path = place.function.partition(":")
    holder: Any = importlib.import_module(module_name)
    *outer, last = path.split(".")
    for step in outer:
        holder = getattr(holder, step)
    setattr(holder, last, _around(getattr(holder, last), passing, after=place.after))


def _action(place: str, what: str) -> Callable[[], None]:
    kind, _, seconds = what.partition(":")
    match kind:
        case "kill":
            return lambda: os.kill(os.getpid(), signal.SIGKILL)
        case "stop":
            return lambda: os.kill(os.getpid(), signal.SIGSTOP)
        case "sleep":
            return functools.partial(time.sleep, float(seconds))
        case "raise":
            return functools.partial(_fail, place)
    raise ValueError(f"{what!r} is no action; known: kill, stop, raise, sleep:SECONDS")


def _fail(place: str) -> None:
    raise Failed(f"failpoint {place}")


def _around(function: Any, passing: Callable[[tuple[Any, ...]], None], *, after: bool) -> Any:
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def waited(*args: Any, **named: Any) -> Any:
            if not after:
                passing(args)
            result = await function(*args, **named)
            if after:
                passing(args)
            return result

        return waited

    @functools.wraps(function)
    def called(*args: Any, **named: Any) -> Any:
        if not after:
            passing(args)
        result = function(*args, **named)
        if after:
            passing(args)
        return result

    return called
