"""The daemon is killed: at a time nobody chose, or at a place that was (cases D01 and D02)."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from rtobserver.simulator.faults import EndpointFault, Faults
from rtobserver.simulator.scenario import Scenario
from rtobserver.store.orders import UNKNOWN
from tests.faults import oracle
from tests.faults.acts import FIRST, order, place, secret_hits, settled
from tests.faults.failpoints import PLACES
from tests.faults.figures import Figures
from tests.faults.ground import QUIET, Logged, Site, record, site, stream
from tests.faults.oracle import Json
from tests.faults.table import Case
from tests.process.stage import Daemon, until
from tests.process.test_killed import endless, further, observed

pytestmark = [pytest.mark.timeout(300)]

LOST = 0.1
"""Seconds before a kill from which on an event may be lost: flushes are 50 ms apart, and one takes a while. Beyond that
is granted what this run took from the daemon: the longest that its loop did not turn, and the time in which anything
waited for a processor or a disk while the oldest event that was lost waited for its commit."""
RECOVERY = 3.0
"""Seconds from the start of a daemon until it observes all calls again."""
SHARED = 2.0
"""Seconds more: Python starts on two processors beside two other cases."""


async def killed(daemon: Daemon | Logged) -> None:
    """Wait until a daemon has died of SIGKILL, as its failpoint wanted."""
    command = daemon.command if isinstance(daemon, Daemon) else daemon
    code, _, log = await command.ended()
    assert code == -signal.SIGKILL, log


async def many_kills(case: Case, here: Site, kills: int, calls: int, seed: int) -> None:
    """Kill daemons while they observe and, every second time, while the next one starts."""
    chance = random.Random(seed)
    committed: dict[str, list[bytes]] = {}
    slowest, starved, quickest = 0.0, 0.0, RECOVERY
    before_listening = before_observing = 0
    # on a busy machine 200 restarts take longer than calls may by themselves
    here.configure(profile='max_duration = "0s"')
    call_ids: list[str] = []
    for number in range(kills):
        if number % 2 and number > 1:
            async with here.starting(prefix=FIRST) as begun:
                with contextlib.suppress(TimeoutError):
                    # as long as a start may be, and a little longer
                    await here.simulator.until(lambda: False, chance.random() * 1.2 * quickest)
                before_listening += not begun.events("listening")
                before_observing += not all(here.simulator.calls[call_id].open_sidebands for call_id in call_ids)
                begun.process.kill()
                await begun.ended()
            continue
        async with here.serving(prefix=FIRST) as daemon:
            if not call_ids:
                call_ids = await place(daemon, here, calls)
                for call_id in call_ids:
                    await daemon.get(f"/calls/{call_id}")
            else:
                await observed(here.simulator, call_ids)
                watch = daemon.command.watch
                waited = watch.starved()
                took = watch.seconds() + waited
                slowest, starved = max((slowest, starved), (took, waited))
                quickest = min(quickest, took)
            await further(here.simulator, call_ids[:1], chance.randrange(1, 10))
            chosen = chance.choice(call_ids)
            committed[chosen] = [entry.payload for entry in (await record(daemon, chosen)).entries]
            with contextlib.suppress(TimeoutError):
                # a kill belongs between two events as well as behind one
                await here.simulator.until(lambda: False, chance.random() * 0.3)
            daemon.process.kill()
            await daemon.command.ended()
    async with here.serving(prefix=FIRST) as last:
        await observed(here.simulator, call_ids)
        await further(here.simulator, call_ids, 5)
        await here.end(last, call_ids)
        lost = 0
        for call_id, payloads in committed.items():
            stored = [entry.payload for entry in (await record(last, call_id)).entries]
            lost += payloads != stored[: len(payloads)]
        figures = await here.figures(last, call_ids)
        case.show(
            figures,
            most={"lost_behind_a_commit": 0, "t_recover_s": RECOVERY + SHARED},
            # half of them are meant for a start, and few of these come when it is over
            least={"kills_before_listening": kills // 10, "kills_before_observing": kills // 5},
            kills=kills,
            kills_before_listening=before_listening,
            kills_before_observing=before_observing,
            seed=seed,
            lost_behind_a_commit=lost,
            t_recover_s=round(slowest, 2),
            t_recover_starved_s=round(starved, 2),
        )
        await last.command.stopped()


@pytest.mark.case("D01")
async def test_what_was_committed_survives_20_kills_at_random_times(case: Case, tmp_path: Path) -> None:
    async with site(tmp_path, scenario_for=endless, pace=0.25) as here:
        await many_kills(case, here, 20, 10, random.randrange(10**6))


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.case("D01")
async def test_what_was_committed_survives_200_kills_at_random_times(case: Case, tmp_path: Path) -> None:
    async with site(tmp_path, scenario_for=endless, pace=0.25) as here:
        await many_kills(case, here, 200, 10, random.randrange(10**6))


@pytest.mark.parametrize("how", ["killed", "stopped"])
@pytest.mark.case("D01")
async def test_a_sideband_that_was_dead_unnoticed_is_in_the_gap_of_the_next_run(
    case: Case, tmp_path: Path, how: str
) -> None:
    async with site(tmp_path, scenario_for=one_speaks, proxied=True) as here:
        async with here.serving() as first:
            assert here.proxy is not None
            speaking, quiet = await place(first, here, 2, events=0)
            await further(here.simulator, [speaking], 20)
            heads = [link.head for link in here.proxy.links if speaking.encode() in link.head]
            here.proxy.concerns = lambda head: head in heads
            here.proxy.up.swallow = here.proxy.down.swallow = True
            cut = time.time()
            # nine seconds: the ping that would notice it is sent every twenty
            await further(here.simulator, [speaking], 180)
            assert len(here.simulator.calls[speaking].sidebands) == 1
            if how == "killed":
                first.process.kill()
                await first.command.ended()
            else:
                await first.command.stopped()
        here.proxy.up.heal()
        here.proxy.down.heal()
        async with here.serving() as second:
            await observed(here.simulator, [speaking, quiet])
            back = time.time()
            await further(here.simulator, [speaking], 10)
            await here.end(second, [speaking, quiet])
            figures = await here.figures(second, [speaking, quiet], cut=[(cut, back)])
            case.show(figures)
            # what the dead connection swallowed before the kill, too; the quiet call's lives, and its gap is tight
            assert figures.missing >= 180
            await second.command.stopped()


def one_speaks(_offer: str, number: int) -> Scenario:
    return stream(20) if number == 1 else QUIET


# --- the seventeen places -------------------------------------------------------------------------


async def finished(
    case: Case, here: Site, daemon: Daemon, call_ids: Sequence[str], point: str, *, forgotten: int = 0, **more: Any
) -> Figures:
    """End what still goes on, show the figures of these calls and of those that were forgotten, and stop."""
    alive = [call_id for call_id in call_ids if here.simulator.calls[call_id].ended is None]
    if alive:
        await observed(here.simulator, alive)
        await further(here.simulator, alive, 3)
        await here.end(daemon, alive)
    figures = await here.figures(daemon, call_ids)
    case.show(figures, point=point, forgotten=forgotten, **more)
    await daemon.command.stopped()
    return figures


async def in_vain(daemon: Daemon) -> None:
    with contextlib.suppress(aiohttp.ClientError):
        await daemon.offer()


async def listed(daemon: Daemon) -> list[Json]:
    calls: list[Json] = (await daemon.get("/calls"))["data"]
    return calls


@pytest.mark.parametrize(
    "point", ["mint.before", "mint.after", pytest.param("offer.accepted", marks=pytest.mark.quarter)]
)
@pytest.mark.case("D02")
async def test_a_kill_within_a_negotiation_leaves_no_call_that_pretends_to_go_on(
    case: Case, tmp_path: Path, point: str
) -> None:
    async with site(tmp_path, scenario=stream(20)) as here:
        async with here.serving(f"{point}=kill") as first:
            await in_vain(first)
            await killed(first)
        async with here.serving() as second:
            rows = [(row["call_id"][:4], row["status"], row["outcome"]) for row in await listed(second)]
            # the row of the negotiation may or may not have been committed by then; a call that nobody knows
            # by its id has none of its own
            made = len(here.simulator.calls)
            await finished(case, here, second, [], point, forgotten=made, rows=rows, upstream_calls=made)
    assert len(here.simulator.calls) == (point == "offer.accepted")
    assert rows in ([], [("neg_", "lost", "lost")])


@pytest.mark.parametrize(
    "failpoint",
    [
        *("call.registered=kill", "attach.after=kill", "entry.handed=kill@20"),
        pytest.param("commit.before=kill@40", marks=pytest.mark.quarter),
        *("commit.after=kill@5", "mark.before=kill@3"),
    ],
    ids=lambda text: text.partition("=")[0],
)
@pytest.mark.case("D02")
async def test_a_kill_on_the_way_of_an_entry_costs_only_what_was_not_committed(
    case: Case, tmp_path: Path, failpoint: str
) -> None:
    point = failpoint.partition("=")[0]
    async with site(tmp_path, scenario=stream(40), begin="answered") as here:
        async with here.serving(failpoint) as first:
            await in_vain(first)
            await killed(first)
        late = here.measured_loop_gap()[0] / 1000
        [call_id] = here.simulator.calls
        async with here.serving() as second:
            known = [row["call_id"] for row in await listed(second) if row["call_id"] == call_id]
            assert second.adopted == len(known)
            # before the first commit of its row nothing tells the next daemon of a call; behind it, all does
            assert known or point == "attach.after"
            lost = await lost_with_the_first(here, second, known)
            since, died_at = min(lost, default=(0.0, 0.0))
            granted = late + here.measured.waited(since, died_at) if lost else 0.0
            figures = await finished(
                case,
                here,
                second,
                known,
                point,
                forgotten=1 - len(known),
                adopted=len(known),
                oldest_lost_s=round(died_at - since, 3),
                granted_s=round(granted, 3),
                oldest_lost_beyond_s=round(died_at - since - granted, 3),
                most={"oldest_lost_beyond_s": LOST},
            )
    assert figures.stored > 0 or not known


async def lost_with_the_first(here: Site, daemon: Daemon, call_ids: Sequence[str]) -> list[oracle.Span]:
    """End calls; gives of each event that was lost with their first sideband when it was sent, and that one's end."""
    found: list[oracle.Span] = []
    if call_ids:
        await observed(here.simulator, list(call_ids))
        await further(here.simulator, list(call_ids), 3)
        await here.end(daemon, call_ids)
    told = oracle.read_ledger(here.ledger)
    for call_id in call_ids:
        call = told[call_id]
        for sent in oracle.lost(call, (await record(daemon, call_id)).entries):
            assert sent.sidebands == (call.names[0],)
            found.append((sent.at, call.attached[0][1]))
    return found


@pytest.mark.parametrize("point", ["command.intended", pytest.param("command.sent", marks=pytest.mark.quarter)])
@pytest.mark.case("D02")
async def test_a_kill_around_a_command_never_sends_it_twice(case: Case, tmp_path: Path, point: str) -> None:
    async with site(tmp_path) as here:
        async with here.serving(f"{point}=kill") as first:
            [call_id] = await place(first, here, events=0)
            await first.call_with(call_id, status="live")
            event = {"type": "session.update", "session": {"type": "realtime", "instructions": "Be brief."}}
            given = await order(first, call_id, "commands", event)
            await killed(first)
        sent_before = len(here.simulator.calls[call_id].client_events)
        async with here.serving() as second:
            await observed(here.simulator, [call_id])
            now = await settled(second, given, "acknowledged", "failed", "expired", "unknown")
            await here.end(second, [call_id])
            commands = (await second.get(f"/calls/{call_id}/commands"))["data"]
            sent = len(here.simulator.calls[call_id].client_events)
            states = [command["state"] for command in commands]
            await finished(case, here, second, [call_id], point, cmd_sent=sent, order=now["state"], commands=states)
    assert sent <= 1
    assert sent_before == (point == "command.sent")
    # of what may have been sent nobody claims to know that it was not
    assert now["error"] == UNKNOWN or now["state"] == "acknowledged"


@pytest.mark.quarter
@pytest.mark.case("D02")
async def test_a_kill_while_a_gap_is_written_leaves_a_gap_there(case: Case, tmp_path: Path) -> None:
    async with site(tmp_path, scenario=stream(20)) as here:
        async with here.serving("gap.begun=kill") as first:
            [call_id] = await place(first, here)
            await first.get(f"/calls/{call_id}")
            await here.simulator.drop_sidebands(call_id)
            await killed(first)
        async with here.serving() as second:
            await observed(here.simulator, [call_id])
            await further(here.simulator, [call_id], 3)
            reasons = [gap["reason"] for gap in (await record(second, call_id)).gaps]
            await finished(case, here, second, [call_id], "gap.begun", gaps=reasons)
    assert reasons[-1] == "takeover"


@pytest.mark.quarter
@pytest.mark.case("D02")
async def test_a_kill_between_claim_and_attach_leaves_the_call_to_the_next(case: Case, tmp_path: Path) -> None:
    async with site(tmp_path, scenario=stream(20)) as here:
        async with here.serving() as first:
            [call_id] = await place(first, here)
            await first.get(f"/calls/{call_id}")
            first.process.kill()
            await killed(first)
        async with here.starting("call.claimed=kill") as second:
            await killed(second)
        async with here.serving() as third:
            await observed(here.simulator, [call_id])
            await further(here.simulator, [call_id], 3)
            epochs = {entry.position[0] for entry in (await record(third, call_id)).entries}
            await finished(case, here, third, [call_id], "call.claimed", epochs=sorted(epochs))
    assert epochs == {1, 3}


@pytest.mark.case("D02")
async def test_an_erasure_that_was_cut_off_is_completed_by_the_next_start(case: Case, tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        async with here.serving("erasure.begun=kill") as first:
            [call_id] = await place(first, here, events=0)
            here.simulator.produce(call_id, {"type": "odd", "text": "canaryword"})
            await here.end(first, [call_id])
            headers = {"Authorization": f"Bearer {first.key}"}
            async with first.http.delete(f"{first.operator}/api/v1/calls/{call_id}", headers=headers) as answer:
                assert answer.status < 300, await answer.text()
            await killed(first)
        async with here.serving() as second:

            async def complete() -> bool | None:
                rows = (await second.get("/audit?limit=1000"))["data"]
                return True if any(row["action"] == "calls.erased" for row in rows) else None

            await until(complete)
            status = await second.status(f"/api/v1/calls/{call_id}/entries")
            hits = secret_hits(tmp_path, "canaryword")
            await finished(case, here, second, [], "erasure.begun", status=status, hits=hits)
    assert (status, hits) == (410, 0)


@pytest.mark.quarter
@pytest.mark.case("D02")
async def test_a_migration_that_was_cut_off_is_done_by_the_next_start(case: Case, tmp_path: Path) -> None:
    async with site(tmp_path, scenario=stream(20)) as here:
        async with here.starting("migration.done=kill") as first:
            await killed(first)
        async with here.serving() as second:
            call_ids = await place(second, here)
            await finished(case, here, second, call_ids, "migration.done")


@pytest.mark.case("D02")
async def test_keys_of_the_store_are_made_once_though_the_first_start_died(case: Case, tmp_path: Path) -> None:
    async with site(tmp_path, scenario=stream(20)) as here:
        async with here.starting("key.made=kill@2") as first:
            await killed(first)
        kept = []
        for _ in range(2):
            async with here.serving() as daemon:
                kept.append(await asyncio.to_thread(_secrets, here.store))
                call_ids = await place(daemon, here)
                await here.end(daemon, call_ids)
                if len(kept) == 2:
                    await finished(case, here, daemon, call_ids, "key.made", keys=len(kept[0]))
        assert {name for name, _ in kept[0]} == {"audio_hmac_key", "login_key", "token_key"}
        assert kept[0] == kept[1]


def _secrets(store: Path) -> list[tuple[str, bytes]]:
    with contextlib.closing(sqlite3.connect(store)) as connection:
        return connection.execute("SELECT name, value FROM secret ORDER BY name").fetchall()


@pytest.mark.case("D02")
async def test_a_pause_that_was_ordered_is_in_force_after_the_kill(case: Case, tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        async with here.serving("pause.begun=kill") as first:
            [call_id] = await place(first, here, events=0)
            await first.call_with(call_id, status="live")
            for number in range(3):
                here.simulator.produce(call_id, {"type": "said", "number": number})
            given = await order(first, call_id, "pause")
            await killed(first)
        async with here.serving() as second:
            await observed(here.simulator, [call_id])
            now = await settled(second, given, "acknowledged", "failed", "expired", "unknown")
            gaps = {gap["reason"]: gap["state"] for gap in (await record(second, call_id)).gaps}
            if gaps.get("paused") == "open":
                await settled(second, await order(second, call_id, "resume"), "acknowledged")
            here.simulator.produce(call_id, {"type": "said.again"})
            await here.end(second, [call_id])
            await finished(case, here, second, [call_id], "pause.begun", order=now["state"], gaps=gaps)
    # nobody is told of a pause that there is not
    assert (now["state"] == "acknowledged") == (gaps.get("paused") == "open")


def test_each_of_the_seventeen_places_has_its_case() -> None:
    text = Path(__file__).read_text()
    assert [point for point in PLACES if f'"{point}' not in text] == []


@pytest.mark.parametrize(
    "number",
    [pytest.param(signal.SIGKILL, id="killed", marks=pytest.mark.quarter), pytest.param(signal.SIGTERM, id="stopped")],
)
@pytest.mark.case("D01")
async def test_an_end_while_an_attach_hangs_leaves_all_that_was_missed_in_gaps(
    case: Case, tmp_path: Path, number: signal.Signals
) -> None:
    faults = Faults(attach=EndpointFault(hang=True, after=1, times=1))
    async with site(tmp_path, scenario=stream(20), faults=faults) as here:
        async with here.serving() as first:
            call_ids = await place(first, here, 2, events=10)
            await first.get(f"/calls/{call_ids[0]}")
            await here.simulator.close_sidebands(call_ids[0], 1001)
            await here.simulator.until(lambda: here.simulator.calls[call_ids[0]].attach_count == 2)
            # longer than a frame may be on its way, and than the mark of what is stored is old
            await further(here.simulator, call_ids, 60)
            first.process.send_signal(number)
            await first.command.ended()
        async with here.serving() as second:
            await observed(here.simulator, call_ids)
            await further(here.simulator, call_ids, 3)
            await here.end(second, call_ids)
            reasons = [gap["reason"] for gap in (await record(second, call_ids[0])).gaps]
            case.show(await here.figures(second, call_ids), gaps=reasons)
            await second.command.stopped()
