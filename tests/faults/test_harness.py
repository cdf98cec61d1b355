"""The harness itself: the oracle sees what is wrong, the proxy does what it is told, failpoints are a test's alone."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.faults import failpoints, oracle, run
from tests.faults.oracle import Json, Record
from tests.faults.proxy import Proxy
from tests.faults.table import QUARTER, SHARE
from tests.support.stage import Entry

pytestmark = [pytest.mark.faults, pytest.mark.quarter]

BEGAN = 1_000_000.0


def frame(number: int) -> bytes:
    return json.dumps({"type": "tick", "event_id": f"event_{number}"}).encode()


def written(path: Path, count: int = 10) -> Path:
    """Write the ledger of a call that says something each second, with an outage from 5 to 7."""
    head = {"call_id": "rtc_1"}
    lines: list[Json] = [{"kind": "answer", "at": BEGAN}, {"kind": "attach", "sideband": "sb1", "at": BEGAN}]
    for number in range(1, count + 1):
        if number == 5:
            lines.append({"kind": "detach", "sideband": "sb1", "at": BEGAN + 4.5, "code": 1006, "end": "aborted"})
        if number == 8:
            lines.append({"kind": "attach", "sideband": "sb2", "at": BEGAN + 7.5})
        digest = hashlib.sha256(frame(number)).hexdigest()
        event = {"ordinal": number, "sha256": digest, "event_id": f"event_{number}", "at": BEGAN + number}
        names = ["sb1"] if number < 5 else ["sb2"] if number >= 8 else []
        lines.append({"kind": "event", "sidebands": names, **event})
    lines.append({"kind": "end", "at": BEGAN + count + 1})
    path.write_text("".join(json.dumps(head | line) + "\n" for line in lines))
    return path


def time(seconds: float) -> str:
    return datetime.fromtimestamp(BEGAN + seconds, UTC).isoformat()


def entry(seq: int, kind: str, payload: bytes, **fields: Any) -> Entry:
    known = {"epoch": 1, "seq": seq, "kind": kind, "type": None, "event_id": None, "stripped": False}
    return Entry(known | fields, payload, embedded=True)


def sound() -> tuple[list[Entry], list[Json]]:
    """Give a good record of that call."""
    stored = [*range(1, 5), None, *range(8, 11)]
    entries = [
        entry(seq, "gap", b"{}") if number is None else entry(seq, "event", frame(number), event_id=f"event_{number}")
        for seq, number in enumerate(stored, 1)
    ]
    gap = {"reason": "reattach", "from": time(4.5), "to": time(7.5), "lost": None, "epoch": 1}
    return entries, [gap]


def spoilt(entries: list[Entry], gaps: list[Json], what: str) -> None:
    match what:
        case "missing_unexplained":
            del entries[6]
            entries[6:] = [entry(7, "event", each.payload) for each in entries[6:]]
        case "missing_unexplained in time":
            gaps[0] |= {"from": time(20), "to": time(21)}
        case "missing_unexplained in place":
            entries[4], entries[5] = entry(5, "event", frame(8)), entry(6, "gap", b"{}")
        case "dup":
            entries.append(entry(9, "event", frame(10)))
        case "holes":
            entries[7] = entry(9, "event", frame(10))
        case "conflicts":
            entries[0] = entry(1, "event", b'{"type":"tick","event_id":"event_1","more":1}', event_id="event_1")
        case "inversions":
            entries[0], entries[1] = entry(1, "event", frame(2)), entry(2, "event", frame(1))
        case "gap_overhang_s":
            gaps[0]["to"] = time(10)
        case "empty_gaps":
            gaps.append({"reason": "reattach", "from": time(8.6), "to": time(8.7), "lost": None, "epoch": 1})
        case "empty_gaps that count":
            gaps.append({"reason": "shed", "from": time(8.6), "to": time(8.7), "lost": 0, "epoch": 1})
        case "double_gaps":
            gaps.append(gaps[0] | {"reason": "takeover", "from": time(7.2)})
            gaps[1]["to"] = time(7.6)
        case "overcounted":
            del entries[0]
            gaps.append({"reason": "shed", "from": time(0.9), "to": time(1.1), "lost": 3, "epoch": 1})
        case "overcounted in a damaged file":
            del entries[0]
            gaps.append({"reason": "corrupt", "from": time(0), "to": time(4), "lost": 2, "epoch": 1})
        case "missing_unexplained behind the handshake":
            del entries[0:2]
            gaps.insert(0, {"reason": "before_attach", "from": time(-1), "to": time(2.5), "lost": None, "epoch": 1})
            entries.insert(0, entry(1, "gap", json.dumps(gaps[0]).encode()))


def test_a_good_record_is_lawful(tmp_path: Path) -> None:
    entries, gaps = sound()
    figures = oracle.verify(
        oracle.read_ledger(written(tmp_path / "l")).values(), {"rtc_1": Record(entries, gaps)}, rss=1, loop_gap=2
    )
    assert figures.is_lawful
    assert (figures.produced, figures.stored, figures.missing) == (10, 7, 3)
    assert (figures.gap_s, figures.gap_overhang_s, figures.rss, figures.loop_gap) == (3.0, 0.0, 1, 2)


@pytest.mark.parametrize(
    "what",
    [
        *("missing_unexplained", "missing_unexplained in time", "missing_unexplained in place"),
        *("missing_unexplained behind the handshake", "dup", "holes", "conflicts", "inversions", "gap_overhang_s"),
        *("empty_gaps", "empty_gaps that count", "overcounted", "overcounted in a damaged file", "double_gaps"),
    ],
)
def test_the_oracle_sees_each_thing_that_can_be_wrong(tmp_path: Path, what: str) -> None:
    entries, gaps = sound()
    spoilt(entries, gaps, what)
    told = oracle.read_ledger(written(tmp_path / "l")).values()
    figures = oracle.verify(told, {"rtc_1": Record(entries, gaps)}, rss=0, loop_gap=0)
    assert getattr(figures, what.partition(" ")[0]) > 0


@pytest.mark.parametrize(
    ("deaths", "excuse", "unexplained"),
    [
        pytest.param([], "", 10, id="nobody died"),
        pytest.param([], "it was late", 10, id="an excuse that nobody promised"),
        pytest.param([(BEGAN, BEGAN + 0.1)], "", 0, id="killed at once"),
        pytest.param([(BEGAN + 2, BEGAN + 2.1)], "", 10, id="killed when the row had to be there"),
        pytest.param([], "the answer broke off", 0, id="the answer broke off"),
    ],
)
def test_a_call_of_which_nobody_knows_is_counted(
    tmp_path: Path, deaths: list[oracle.Span], excuse: str, unexplained: int
) -> None:
    told = oracle.read_ledger(written(tmp_path / "l")).values()
    figures = oracle.verify(told, {}, rss=0, loop_gap=0, deaths=deaths, excuse=excuse)
    assert (figures.forgotten, figures.produced, figures.missing) == (1, 10, 10)
    assert figures.missing_unexplained == unexplained


def test_a_forgotten_call_that_said_nothing_is_unexplained_all_the_same(tmp_path: Path) -> None:
    told = oracle.read_ledger(written(tmp_path / "l", count=0)).values()
    figures = oracle.verify(told, {}, rss=0, loop_gap=0)
    assert (figures.missing, figures.missing_unexplained) == (0, 1)


def test_who_was_killed_before_anything_was_stored_has_made_no_handshake(tmp_path: Path) -> None:
    entries, gaps = sound()
    gaps[0] |= {"reason": "before_attach", "from": time(-1)}
    entries = [entry(1, "gap", json.dumps(gaps[0]).encode()), *entries[5:]]
    records = {"rtc_1": Record(entries, gaps)}
    told = oracle.read_ledger(written(tmp_path / "l")).values()
    killed = oracle.verify(told, records, rss=0, loop_gap=0, deaths=[(BEGAN + 4.4, BEGAN + 4.5)])
    assert (killed.missing, killed.missing_unexplained) == (7, 0)
    assert oracle.verify(told, records, rss=0, loop_gap=0).missing_unexplained > 0


def test_nobody_is_away_before_the_first_attach_nor_behind_the_end(tmp_path: Path) -> None:
    path = written(tmp_path / "l")
    lines = path.read_text().splitlines()
    detach = {"kind": "detach", "sideband": "sb2", "at": BEGAN + 10.5, "code": 1000, "end": "closed"}
    path.write_text("".join(f"{line}\n" for line in [*lines, json.dumps({"call_id": "rtc_1", **detach})]))
    [told] = oracle.read_ledger(path).values()
    assert told.absences == [(BEGAN + 4.5, BEGAN + 7.5)]
    assert told.away == [(BEGAN + 4.5, BEGAN + 7.5), (BEGAN + 10.5, BEGAN + 11)]


async def test_the_time_that_a_loop_stood_still_is_told_whole_whoever_had_the_processor(tmp_path: Path) -> None:
    gap = run.LoopGap(tmp_path / "gap")
    loop = asyncio.get_running_loop()
    until = loop.time() + 0.3
    while loop.time() < until:
        pass
    # the beat that was due meanwhile comes first
    after: asyncio.Future[None] = loop.create_future()
    loop.call_later(0.0, after.set_result, None)
    await after
    gap.stop()
    longest, starved = map(float, (tmp_path / "gap").read_text().split())
    assert longest >= 280
    assert 0 <= starved <= longest


def test_a_gap_that_counts_explains_no_more_than_it_counts(tmp_path: Path) -> None:
    entries, gaps = sound()
    gaps.append({"reason": "shed", "from": time(1), "to": time(3), "lost": 1, "epoch": 1})
    del entries[0:2]
    told = oracle.read_ledger(written(tmp_path / "l")).values()
    figures = oracle.verify(told, {"rtc_1": Record(entries, gaps)}, rss=0, loop_gap=0)
    assert (figures.missing, figures.missing_unexplained) == (5, 1)


def test_what_waited_in_buffers_is_looked_for_when_it_arrived(tmp_path: Path) -> None:
    entries, gaps = sound()
    late = {1: 20.0, 2: 20.0, 4: 20.0}
    entries[2:3] = []
    for each in entries:
        number = int(each.fields["event_id"].removeprefix("event_")) if each.kind == "event" else 0
        each.fields["at"] = time(number + late.get(number, 0.0))
    # the third event was sent at 3, and given up when it came at last
    gaps.append({"reason": "shed", "from": time(22.9), "to": time(23.1), "lost": 1, "epoch": 1})
    told = oracle.read_ledger(written(tmp_path / "l")).values()
    figures = oracle.verify(told, {"rtc_1": Record(entries, gaps)}, rss=0, loop_gap=0)
    assert (figures.missing, figures.missing_unexplained, figures.gap_overhang_s) == (4, 0, 0.0)


def test_a_gap_may_stand_beside_what_was_not_to_be_recorded_and_begin_where_another_ends(tmp_path: Path) -> None:
    entries, gaps = sound()
    gaps.append({"reason": "paused", "from": time(6), "to": time(9), "lost": None, "epoch": 1})
    gaps.append({"reason": "takeover", "from": time(7.5), "to": time(7.6), "lost": None, "epoch": 1})
    told = oracle.read_ledger(written(tmp_path / "l")).values()
    assert oracle.verify(told, {"rtc_1": Record(entries, gaps)}, rss=0, loop_gap=0).double_gaps == 0


ROW: Json = {
    "status": "ended",
    "ended_at": time(11),
    "completeness": "complete_with_gaps",
    "entry_count": 8,
    "gap_count": 1,
}


@pytest.mark.parametrize(
    ("changes", "false"),
    [
        pytest.param({}, 0, id="true"),
        pytest.param({"completeness": "incomplete"}, 0, id="modest"),
        pytest.param({"completeness": "complete"}, 1, id="complete with a gap"),
        pytest.param({"completeness": "complete", "gap_count": 0}, 1, id="a gap that is not counted"),
        pytest.param({"completeness": None}, 1, id="no verdict"),
        pytest.param({"gap_count": 2}, 1, id="a gap that there is not"),
        pytest.param({"entry_count": 7}, 1, id="an entry that is not counted"),
        pytest.param({"entry_count": 9}, 1, id="an entry that there is not"),
        pytest.param({"ended_at": None, "status": "live"}, 1, id="a verdict before the end"),
        pytest.param({"ended_at": None, "status": "live", "completeness": None, "entry_count": 2}, 0, id="not ended"),
    ],
)
def test_what_a_call_says_of_itself_is_held_to_its_record(tmp_path: Path, changes: Json, false: int) -> None:
    entries, gaps = sound()
    told = oracle.read_ledger(written(tmp_path / "l")).values()
    record = Record(entries, gaps, ROW | changes)
    assert oracle.verify(told, {"rtc_1": record}, rss=0, loop_gap=0).false_verdicts == false


def unheard(path: Path) -> list[oracle.Told]:
    """Write the ledger of that call as if nobody had ever attached."""
    lines = [
        line for line in written(path).read_text().splitlines() if '"attach"' not in line and '"detach"' not in line
    ]
    path.write_text("".join(f"{line}\n" for line in lines))
    return list(oracle.read_ledger(path).values())


@pytest.mark.parametrize(("said", "false"), [("complete", 1), ("incomplete", 0)])
def test_a_call_of_which_nothing_was_heard_is_not_complete(tmp_path: Path, said: str, false: int) -> None:
    gaps = [{"reason": "before_attach", "from": time(0), "to": time(11), "lost": None, "epoch": 1}]
    row = ROW | {"completeness": said, "gap_count": 0, "entry_count": 1}
    record = Record([entry(1, "gap", json.dumps(gaps[0]).encode())], gaps, row)
    figures = oracle.verify(unheard(tmp_path / "l"), {"rtc_1": record}, rss=0, loop_gap=0)
    assert figures.false_verdicts == false


def test_what_is_missing_behind_the_handshake_leaves_no_call_complete(tmp_path: Path) -> None:
    entries, _ = sound()
    told = oracle.read_ledger(written(tmp_path / "l")).values()
    # a record that lost the row of its gap and says so nowhere
    row = ROW | {"completeness": "complete", "gap_count": 0}
    assert oracle.verify(told, {"rtc_1": Record(entries, [], row)}, rss=0, loop_gap=0).false_verdicts == 1


# --- the proxy --------------------------------------------------------------------------------------


@asynccontextmanager
async def echoing() -> AsyncIterator[Proxy]:
    """Run a proxy before a server that sends back what it gets."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while piece := await reader.read(65536):
                writer.write(piece)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, Proxy("127.0.0.1", server.sockets[0].getsockname()[1]) as proxy:
        yield proxy


async def test_without_a_fault_the_proxy_changes_nothing() -> None:
    async with echoing() as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"x" * 200_000)
        assert await reader.readexactly(200_000) == b"x" * 200_000
        writer.close()


@pytest.mark.parametrize(
    ("fault", "least"),
    [
        pytest.param({"delay": 0.2}, 0.2, id="delay"),
        pytest.param({"rate": 500.0}, 0.2, id="rate"),
        pytest.param({"slices": 7}, 0.0, id="slices"),
    ],
)
async def test_what_is_slow_arrives_whole(fault: Json, least: float) -> None:
    async with echoing() as proxy:
        for name, value in fault.items():
            setattr(proxy.down, name, value)
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        began = asyncio.get_running_loop().time()
        writer.write(b"0123456789" * 10)
        assert await reader.readexactly(100) == b"0123456789" * 10
        # the last piece of a paced message has nothing to wait for
        assert asyncio.get_running_loop().time() - began >= least * 0.9 or fault == {"rate": 500.0}
        writer.close()


async def test_bytes_are_turned_over_where_they_should_be() -> None:
    async with echoing() as proxy:
        proxy.down.flip_every = 10
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(bytes(30))
        assert await reader.readexactly(30) == (bytes(9) + b"\x10") * 3
        writer.close()


async def test_a_black_hole_swallows_until_it_is_healed() -> None:
    async with echoing() as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"one")
        assert await reader.readexactly(3) == b"one"
        proxy.down.swallow = True
        writer.write(b"two")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await reader.read(3)
        proxy.down.heal()
        writer.write(b"three")
        assert await reader.readexactly(5) == b"three"
        writer.close()


async def test_a_stalled_way_gives_everything_when_it_is_healed() -> None:
    async with echoing() as proxy:
        proxy.down.stall = True
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"waits")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await reader.read(5)
        proxy.down.heal()
        proxy.switched()
        assert await reader.readexactly(5) == b"waits"
        writer.close()


async def test_a_fault_concerns_those_that_are_picked() -> None:
    async with echoing() as proxy:
        proxy.concerns = lambda head: head.startswith(b"bad")
        proxy.down.swallow = True
        good, bad = [await asyncio.open_connection("127.0.0.1", proxy.port) for _ in range(2)]
        bad[1].write(b"bad")
        good[1].write(b"good")
        assert await good[0].readexactly(4) == b"good"
        assert [link.head for link in proxy.picked()] == [b"bad"]
        good[1].close()
        bad[1].close()


async def test_a_reset_and_a_half_close_are_seen_as_what_they_are() -> None:
    async with echoing() as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"one")
        await reader.readexactly(3)
        proxy.links[0].half_close()
        assert await reader.read() == b""
        writer.write(b"still taken")
        await writer.drain()
        other, other_writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        other_writer.write(b"two")
        await other.readexactly(3)
        proxy.links[-1].reset()
        with pytest.raises(ConnectionResetError):
            await other.read()
        writer.close()
        other_writer.close()


# --- failpoints -------------------------------------------------------------------------------------


def passes(count: int, install: Callable[[Any], None]) -> int:
    """Lay a failpoint that raises over a function of this module; gives how many of its passings failed."""
    failed = 0

    class Holder:
        def work(self) -> None:
            pass

    install(Holder)
    for _ in range(count):
        try:
            Holder().work()
        except failpoints.Failed:
            failed += 1
    return failed


@pytest.mark.parametrize(("when", "failures"), [("", 1), ("@3", 1), ("@3+", 3), ("@9", 0)])
def test_a_failpoint_acts_at_its_passing(
    when: str, failures: int, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    def install(holder: type) -> None:
        monkeypatch.setattr(request.module, "Held", holder, raising=False)
        monkeypatch.setitem(failpoints.OTHERS, "held", failpoints.Place(f"{__name__}:Held.work"))
        failpoints.install(f"held=raise{when}")

    assert passes(5, install) == failures


@pytest.mark.parametrize("order", ["nowhere=kill", "mint.before", "mint.before=explode"])
def test_a_failpoint_that_makes_no_sense_is_refused(order: str) -> None:
    with pytest.raises(ValueError, match=r"no failpoint|no action"):
        failpoints.install(order)


def test_a_release_knows_of_no_failpoint() -> None:
    sources = (Path(__file__).parents[2] / "src").rglob("*.py")
    assert [path.name for path in sources if "failpoint" in path.read_text().lower()] == []


def test_there_are_seventeen_places_of_d02() -> None:
    assert len(failpoints.PLACES) == 17


def test_every_run_has_a_quarter_of_the_cases(pytestconfig: pytest.Config) -> None:
    chosen, all_of_them = pytestconfig.stash[SHARE]
    assert chosen >= QUARTER * all_of_them, "mark further cases, cheap ones, with `quarter`"
