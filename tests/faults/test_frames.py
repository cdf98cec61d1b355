"""Frames that are too large, compressed, poisonous, of no known kind, or in no sensible order (cases A11 to A22)."""

from __future__ import annotations

import asyncio
import json
import zlib
from pathlib import Path

import pytest

from tests.faults.acts import place
from tests.faults.ground import Site, record, site
from tests.faults.table import Case
from tests.process.stage import Daemon, until
from tests.process.test_killed import observed
from tests.support.poison import CORPUS

pytestmark = [pytest.mark.timeout(180)]

MIB = 1024 * 1024
OF_NO_KIND = (
    {"type": "response.brand_new.done"},
    {"event_id": "event_without_a_type"},
    {"type": None},
    {"type": 17},
    {"type": "t" * 10_000},
    {"type": "esc\u001b[31m\u0007"},
    {"type": "response.done", "response": [1, 2, 3]},
    {"type": "response.created", "reply": {"id": "resp_renamed"}},
    {"type": "response.output_text.delta", "text": "renamed", "item": "item_1"},
    {"type": "conversation.item.added", "item": None},
)


def tick(number: int) -> bytes:
    return b'{"type":"tick","event_id":"tick_%d"}' % number


async def stored(daemon: Daemon, call_id: str, event_id: str) -> None:
    """Wait until an event is on record."""

    async def asked() -> bool | None:
        found = (await record(daemon, call_id)).entries
        return True if any(entry.fields["event_id"] == event_id for entry in found) else None

    await until(asked)


@pytest.mark.case("A11")
async def test_every_size_up_to_the_bound_is_stored_and_a_larger_one_is_a_gap_that_says_so(
    case: Case, tmp_path: Path
) -> None:
    sizes = (MIB + 1, 3_500_000, 15 * MIB, 33 * MIB)
    async with site(tmp_path) as here, here.serving() as daemon:
        [call_id] = await place(daemon, here, events=0)
        for number, size in enumerate(sizes):
            head = b'{"type":"large","event_id":"large_%d","text":"' % number
            here.simulator.emit(call_id, head + b"x" * (size - len(head) - 2) + b'"}', text=True)
        await here.simulator.until(lambda: "sb2" in here.simulator.calls[call_id].sidebands, 40)
        await observed(here.simulator, [call_id])
        here.simulator.emit(call_id, tick(1), text=True)
        await stored(daemon, call_id, "tick_1")
        await here.end(daemon, [call_id])
        reasons = [gap["reason"] for gap in (await record(daemon, call_id)).gaps]
        figures = await here.figures(daemon, [call_id])
        # the one that it leaves with 1009
        case.show(figures, closes_by_us=1, gaps=reasons, largest_stored=max(sizes[:3]))
        assert reasons == ["before_attach", "oversize"]
        assert figures.missing == 1
        # two copies of the largest frame, and what waits for the database
        assert figures.rss < 400
        await daemon.command.stopped()


def compressed(text: bytes) -> bytes:
    """Give a message as one frame with the bit of per-message deflate."""
    packer = zlib.compressobj(9, wbits=-15)
    body = packer.compress(text) + packer.flush(zlib.Z_SYNC_FLUSH)
    return b"\xc1\x7f" + len(body).to_bytes(8) + body


@pytest.mark.case("A13")
async def test_a_bomb_is_not_inflated_and_costs_its_connection_alone(case: Case, tmp_path: Path) -> None:
    async with site(tmp_path) as here, here.serving() as daemon:
        [call_id] = await place(daemon, here, events=0)
        here.simulator.emit(call_id, tick(1), text=True)
        await stored(daemon, call_id, "tick_1")
        before = here.measured.rss
        bomb = await asyncio.to_thread(compressed, bytes(200 * MIB))
        here.simulator.calls[call_id].sidebands["sb1"].transport.write(bomb)
        await here.simulator.until(lambda: "sb2" in here.simulator.calls[call_id].sidebands, 40)
        here.simulator.emit(call_id, tick(2), text=True)
        await stored(daemon, call_id, "tick_2")
        await here.end(daemon, [call_id])
        reasons = [gap["reason"] for gap in (await record(daemon, call_id)).gaps]
        figures = await here.figures(daemon, [call_id])
        growth = here.measured.rss - before
        # the one that it leaves with 1002
        case.show(figures, closes_by_us=1, gaps=reasons, bomb_bytes=len(bomb), rss_growth=round(growth, 1))
        assert reasons == ["before_attach", "protocol"]
        assert growth <= 40
        await daemon.command.stopped()


@pytest.mark.quarter
@pytest.mark.case("A14")
async def test_what_is_no_text_or_no_json_is_stored_as_its_bytes(case: Case, tmp_path: Path) -> None:
    frames = [(b"event: odd", True), (b"", True), (bytes(range(256)), False), (b'{"a":"\xff\xfe"}', True), (b"", False)]
    async with site(tmp_path) as here, here.serving() as daemon:
        [call_id] = await place(daemon, here, events=0)
        for number, (frame, text) in enumerate(frames):
            here.simulator.emit(call_id, frame, text=text)
            here.simulator.emit(call_id, tick(number), text=True)
        await here.end(daemon, [call_id])
        embedded = [entry.embedded for entry in (await record(daemon, call_id)).entries if entry.kind == "event"]
        figures = await here.figures(daemon, [call_id])
        case.show(figures, in_base64=embedded.count(False))
        assert embedded[::2] == [False] * len(frames)
        assert figures.missing == 0
        await daemon.command.stopped()


async def poisoned(here: Site, daemon: Daemon) -> str:
    """Play the whole corpus in one call, each frame between two good ones."""
    [call_id] = await place(daemon, here, events=0)
    here.simulator.emit(call_id, tick(0), text=True)
    for number, poison in enumerate(CORPUS, 1):
        here.simulator.emit(call_id, poison.frame, text=poison.text)
        here.simulator.emit(call_id, tick(number), text=True)
    await here.end(daemon, [call_id])
    return call_id


@pytest.mark.quarter
@pytest.mark.case("A15")
async def test_poison_is_stored_byte_for_byte(case: Case, tmp_path: Path) -> None:
    async with site(tmp_path) as here, here.serving() as daemon:
        call_id = await poisoned(here, daemon)
        entries = [entry for entry in (await record(daemon, call_id)).entries if entry.kind == "event"]
        exact = sum(
            entry.payload == poison.frame and entry.embedded is poison.verbatim
            for entry, poison in zip(entries[1::2], CORPUS, strict=True)
        )
        figures = await here.figures(daemon, [call_id])
        case.show(figures, frames=len(CORPUS), exact=exact)
        assert exact == len(CORPUS)
        assert figures.missing == 0
        await daemon.command.stopped()


@pytest.mark.case("A16")
async def test_one_bad_frame_costs_its_neighbours_nothing(case: Case, tmp_path: Path) -> None:
    async with site(tmp_path) as here, here.serving() as daemon:
        call_ids = await place(daemon, here, 8, events=0)
        for call_id, poison in zip(call_ids, CORPUS[:: len(CORPUS) // 7], strict=False):
            for number in range(500):
                if number == 250:
                    here.simulator.emit(call_id, poison.frame, text=poison.text)
                here.simulator.emit(call_id, tick(number), text=True)
        await here.end(daemon, call_ids)
        figures = await here.figures(daemon, call_ids)
        case.show(figures)
        assert figures.produced >= 7 * 501
        assert figures.missing == 0
        await daemon.command.stopped()


@pytest.mark.case("A17")
async def test_every_way_to_read_a_poisoned_call_works(case: Case, tmp_path: Path) -> None:
    async with site(tmp_path) as here, here.serving() as daemon:
        call_id = await poisoned(here, daemon)
        of_call = ("", "/entries?limit=1000", "/gaps", "/commands", "/transcript", "/turns", "/usage", "/decisions")
        paths = [f"/calls/{call_id}{path}" for path in of_call]
        paths += ["/calls?has=error", "/calls?has=gap", "/search?q=half", "/stats", "/system"]
        statuses = {path: await daemon.status(f"/api/v1{path}") for path in paths}
        statuses |= {path: await daemon.status(path) for path in ("/metrics", "/readyz")}
        exports = [("entries", "ndjson"), ("entries", "parquet"), ("items", "csv"), ("responses", "ndjson")]
        for what, form in exports:
            path = f"/export?what={what}&format={form}"
            statuses[path] = await daemon.status(f"/api/v1{path}")
        pages = [
            "/",
            "/calls",
            "/calls?has=error",
            f"/calls/{call_id}",
            "/search?q=half",
            "/stats",
            "/policies",
            "/system",
        ]
        statuses |= {f"page {path}": await daemon.status(path) for path in pages}
        figures = await here.figures(daemon, [call_id])
        failed = {path: status for path, status in statuses.items() if status != 200}
        case.show(figures, reads=len(statuses), pages=len(pages), failed=failed)
        assert failed == {}
        await daemon.command.stopped()


@pytest.mark.quarter
@pytest.mark.case("A20")
async def test_events_of_no_known_kind_are_stored_and_become_no_label(case: Case, tmp_path: Path) -> None:
    async with site(tmp_path) as here, here.serving() as daemon:
        [call_id] = await place(daemon, here, events=0)
        for _ in range(20):
            for event in OF_NO_KIND:
                here.simulator.emit(call_id, json.dumps(event), text=True)
        for number in range(1_000):
            here.simulator.emit(call_id, json.dumps({"type": f"made.up.{number}"}), text=True)
        await here.end(daemon, [call_id])
        headers = {"Authorization": f"Bearer {daemon.key}"}
        async with daemon.http.get(f"{daemon.operator}/metrics", headers=headers) as answer:
            metrics = await answer.text()
        figures = await here.figures(daemon, [call_id])
        faults = len(daemon.command.events("observer_failed"))  # type: ignore[attr-defined]
        case.show(figures, observer_faults=faults, labels_from_input=metrics.count("made.up"))
        assert (figures.missing, faults) == (0, 0)
        assert "made.up" not in metrics
        await daemon.command.stopped()


@pytest.mark.case("A22")
async def test_responses_out_of_order_and_without_end_cost_bounded_memory(case: Case, tmp_path: Path) -> None:
    async with site(tmp_path) as here, here.serving() as daemon:
        [call_id] = await place(daemon, here, events=0)
        produce = here.simulator.produce
        produce(call_id, {"type": "response.done", "response": {"id": "resp_never_created", "status": "completed"}})
        produce(call_id, {"type": "response.output_text.delta", "response_id": "resp_never_created", "delta": "late"})

        for number in range(5_000):
            response = {"id": f"resp_{number}", "status": "in_progress", "output": []}
            produce(call_id, {"type": "response.created", "response": response})
            delta = {"response_id": f"resp_{number}", "item_id": f"item_{number}", "content_index": 0}
            produce(call_id, {"type": "response.output_text.delta", "output_index": 0, "delta": "word", **delta})
        here.simulator.emit(call_id, tick(1), text=True)
        await stored(daemon, call_id, "tick_1")
        half = here.measured.rss
        for number in range(5_000, 10_000):
            response = {"id": f"resp_{number}", "status": "in_progress", "output": []}
            produce(call_id, {"type": "response.created", "response": response})
        here.simulator.emit(call_id, tick(2), text=True)
        await stored(daemon, call_id, "tick_2")
        await here.end(daemon, [call_id])
        figures = await here.figures(daemon, [call_id])
        case.show(figures, rss_growth_of_5000=round(figures.rss - half, 1))
        assert figures.missing == 0
        # what is open is 2 kB each at most
        assert figures.rss - half < 30
        await daemon.command.stopped()
