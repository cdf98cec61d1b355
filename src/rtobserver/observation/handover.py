"""Hand calls over to another replica: who takes them hears them before who has them stops.

    who stops                               who takes them
    acts no more in some, offers them
                                            claims them, joins each, says since when
    leaves those, stores the rest, says so
    and offers as many others
                                            reads what is stored, and goes on

In between nobody acts in those: the one does not any more, and the other does not know the call yet. What both
have received is marked as overlap in the epoch before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import islice

import structlog

from rtobserver.clock import Clock
from rtobserver.errors import StoreError, UpstreamError
from rtobserver.observation.observer import Joined
from rtobserver.observation.ownership import Calls
from rtobserver.store import overlap
from rtobserver.store.identity import CallRef
from rtobserver.store.leases import Claim, Leases
from rtobserver.store.signal import Signal
from rtobserver.store.writing import Writing
from rtobserver.upstream.attach import Attach, Detached, Sideband

UNCLAIMED = 25
"""Calls that lie offered at a time, for each replica that could take them; in those that wait policies still act."""
LOOK_SECONDS = 0.05
"""Between two looks whether the other side has come further, without any notice."""
NOBODY_SECONDS = 5.0
"""How long whoever stops waits for somebody to take another call."""
LONGEST_SECONDS = 20.0
"""How long a hand-over may take in all."""
LEFT_SECONDS = 10.0
"""How long whoever takes a call waits for the other to leave it; then it is taken for dead."""

PEEK_SECONDS = 0.01
"""How long is waited for a frame that may be waiting."""

log = structlog.get_logger()


async def give(
    leases: Leases, calls: Calls, call_ids: Collection[str], *, writer: Writing, clock: Clock, wake: Signal
) -> None:
    """Offer calls and leave those that are taken, until none is left or nobody takes any.

    Raises:
        StoreUnavailable: the database is away; what was offered may be taken all the same.

    """
    waiting = {ref.key: ref.call_id for ref in calls.refs() if ref.call_id in set(call_ids)}
    offered: dict[int, str] = {}
    await leases.drain()
    takers = sum(not (other.is_dead or other.is_draining) for other in await leases.others())
    if not waiting or not takers:
        return
    began = progress = clock.mono()
    handed = unclaimed = 0
    while (waiting or offered) and clock.mono() < min(progress + NOBODY_SECONDS, began + LONGEST_SECONDS):
        if more := dict(islice(waiting.items(), max(0, UNCLAIMED * takers - unclaimed))):
            calls.resign(more.values())
            await leases.offer(more)
            offered |= more
            for key in more:
                del waiting[key]
        seen = wake.count
        phases = await leases.taken(offered)
        unclaimed = len(offered) - len(phases)
        leave = [key for key, phase in phases.items() if phase != "taken"]
        if leave:
            await calls.let_go([offered[key] for key in leave])
            await writer.readable()
            await leases.leave(leave)
            for key in leave:
                del offered[key]
            handed += len(leave)
            progress = clock.mono()
        for still in (waiting, offered):
            for key in [key for key, call_id in still.items() if not calls.knows(call_id)]:
                # it ended meanwhile
                del still[key]
        if offered and not (waiting and unclaimed < UNCLAIMED * takers):
            await wake.wait(seen, LOOK_SECONDS)
    left = len(waiting) + len(offered)
    log.info("calls_handed_over", count=handed, left=left, seconds=round(clock.mono() - began, 3))


async def take(
    leases: Leases,
    calls: Calls,
    claims: Sequence[Claim],
    *,
    attach: Attach,
    writer: Writing,
    clock: Clock,
    wake: Signal,
) -> list[CallRef]:
    """Take calls over that were offered, and that are ours by now; those that cannot be joined are taken over too.

    Gives those of which it is not known that the other had left them: it may have recorded what is recorded here.
    """
    joined: dict[int, tuple[Claim, Joined]] = {}
    try:
        async with asyncio.TaskGroup() as tasks:
            for claim in claims:
                tasks.create_task(_join(leases, calls, claim, joined, attach=attach, clock=clock))
        until = clock.mono() + LEFT_SECONDS
        while joined and clock.mono() < until:
            seen = wake.count
            phases = await leases.phases(joined)
            for key in [key for key, phase in phases.items() if phase == "left"]:
                await _take(leases, calls, *joined.pop(key), writer=writer)
            if joined:
                await wake.wait(seen, LOOK_SECONDS)
    except StoreError as exc:
        log.warning("hand_over_broken_off", calls=len(joined), problem=str(exc))
    finally:
        for claim, each in joined.values():
            calls.take_over(claim, each)
    return [claim.ref for claim, _ in joined.values()]


async def _join(
    leases: Leases,
    calls: Calls,
    claim: Claim,
    joined: dict[int, tuple[Claim, Joined]],
    *,
    attach: Attach,
    clock: Clock,
) -> None:
    sideband, problem = None, "upstream has asked not to be asked now"
    if not attach.held:
        try:
            sideband = await attach.open(claim.ref.call_id)
        except UpstreamError as exc:
            problem = str(exc)
    if sideband is None:
        log.info("attach_failed", call_id=claim.ref.call_id, problem=problem)
        calls.take_over(claim)
    else:
        joined[claim.ref.key] = claim, Joined(sideband, clock.now_us(), clock.mono())
    try:
        if sideband is None:
            await leases.keep(claim.ref)
        else:
            await leases.attached(claim.ref, joined[claim.ref.key][1].since)
    except StoreError as exc:
        # the others are joined all the same
        log.warning("hand_over_not_told", call_id=claim.ref.call_id, problem=str(exc))


async def _take(leases: Leases, calls: Calls, claim: Claim, joined: Joined, *, writer: Writing) -> None:
    joined = replace(joined, first=await _first(joined.sideband))
    try:
        if joined.first is not None:
            await writer.run(overlap.since(claim.ref, claim.ref.epoch - 1, joined.since, joined.first))
        await leases.keep(claim.ref)
    except StoreError as exc:
        log.warning("overlap_not_marked", call_id=claim.ref.call_id, problem=str(exc))
    calls.take_over(claim, joined, is_handed_over=True)


async def _first(sideband: Sideband) -> bytes | None:
    """Give the first frame that waits, or nothing; what a connection has to say that is over, its observer hears."""
    try:
        async with asyncio.timeout(PEEK_SECONDS):
            return await sideband.receive()
    except (TimeoutError, Detached):
        return None
