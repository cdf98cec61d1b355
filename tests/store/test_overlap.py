"""What two owners of a call have both received is marked in the earlier one's epoch, and nothing else is."""

from __future__ import annotations

import json
from typing import Any

from rtobserver.realtime.redaction import strip_audio
from rtobserver.store import overlap, tables
from rtobserver.store.places import Place
from rtobserver.store.writing import Writing
from tests.store import stored

CALL = stored.ref("rtc_1")
LATE = 1_000 * 1_000_000
"""By how much a clock is wrong, in microseconds."""


def said(seq: int, event_id: str | None = None, **fields: Any) -> bytes:
    event = {"type": "delta", "event_id": event_id or f"event_{seq}", "delta": f"word {seq}"} | fields
    return json.dumps(event).encode()


def heard(place: Place, count: int, *, epoch: int = 1, first: int = 1, **values: Any) -> None:
    """Have an owner hear so many events; the n-th at START + n ms."""
    rows = []
    for seq in range(first, first + count):
        payload = said(seq)
        rows.append(stored.entry("rtc_1", seq, payload, type="delta", epoch=epoch, **values))
    stored.insert(place, tables.entry, *rows)


def marked(place: Place, epoch: int = 1) -> list[int]:
    entry = tables.entry.c
    wanted = tables.entry.select().where(entry.epoch == epoch).order_by(entry.seq)
    at, flags = (list(entry.keys()).index(name) for name in ("seq", "flags"))
    return [row[at] for row in stored.select(place, wanted) if row[flags] & tables.FLAG_OVERLAP]


async def test_what_the_next_owner_heard_first_and_all_behind_it_is_marked(place: Place, writing: Writing) -> None:
    heard(place, 6)
    await writing.run(overlap.since(CALL, 1, stored.START + 3_000, said(4)))
    assert marked(place) == [4, 5, 6]


async def test_what_the_next_owner_does_not_have_is_not_marked_however_late_it_was_received(
    place: Place, writing: Writing
) -> None:
    heard(place, 6)
    await writing.run(overlap.since(CALL, 1, stored.START, said(7)))
    assert marked(place) == []


async def test_clocks_of_two_machines_may_differ_as_they_like(place: Place, writing: Writing) -> None:
    heard(place, 6)
    await writing.run(overlap.since(CALL, 1, stored.START + LATE, said(5)))
    assert marked(place) == [5, 6]


async def test_an_event_that_has_another_id_on_each_connection_is_known_by_what_it_says(
    place: Place, writing: Writing
) -> None:
    heard(place, 6)
    await writing.run(overlap.since(CALL, 1, stored.START + 3_000, said(4, "of the other connection")))
    assert marked(place) == [4, 5, 6]


async def test_of_two_that_say_the_same_neither_is_known_to_be_meant(place: Place, writing: Writing) -> None:
    heard(place, 3)
    alike = [stored.entry("rtc_1", seq, said(seq, delta="word"), type="delta") for seq in range(4, 9)]
    stored.insert(place, tables.entry, *alike)
    await writing.run(overlap.since(CALL, 1, stored.START + 7_000, said(1, "other", delta="word")))
    assert marked(place) == []


async def test_what_was_said_before_the_join_in_the_same_words_is_not_what_the_next_owner_heard(
    place: Place, writing: Writing
) -> None:
    heard(place, 2)
    await writing.run(overlap.since(CALL, 1, stored.START + 2_001, said(2, "of the next")))
    assert marked(place) == []


async def test_speech_whose_sound_is_not_kept_is_known_by_the_rest(place: Place, writing: Writing) -> None:
    frames = [said(seq, type="response.output_audio.delta", item_id=f"item_{seq}", delta="AAAA") for seq in (1, 2, 3)]
    rows = [
        stored.entry("rtc_1", seq, strip_audio(frame, "response.output_audio.delta", b"key")[0])
        | {"type": "response.output_audio.delta"}
        for seq, frame in enumerate(frames, 1)
    ]
    stored.insert(place, tables.entry, *rows)
    first = frames[1].replace(b"event_2", b"other")
    await writing.run(overlap.since(CALL, 1, stored.START, first))
    assert marked(place) == [2, 3]


async def test_an_event_without_an_id_is_known_by_its_bytes(place: Place, writing: Writing) -> None:
    rows = [stored.entry("rtc_1", seq, b"frame %d" % seq, event_id=None, type=None) for seq in (1, 2, 3)]
    stored.insert(place, tables.entry, *rows)
    await writing.run(overlap.since(CALL, 1, stored.START, b"frame 3"))
    assert marked(place) == [3]
    await writing.run(overlap.since(CALL, 1, stored.START, b"frame 4"))
    assert marked(place) == [3]


async def test_commands_and_gaps_are_their_owners_own(place: Place, writing: Writing) -> None:
    heard(place, 2)
    stored.insert(place, tables.entry, stored.entry("rtc_1", 3, kind=tables.KIND_COMMAND))
    await writing.run(overlap.since(CALL, 1, stored.START, said(1)))
    assert marked(place) == [1, 2]


def taken_over(place: Place, at: int) -> None:
    stored.insert(
        place,
        tables.gap,
        {
            "call_key": CALL.key,
            "day": CALL.day,
            "epoch": 2,
            "seq": 1,
            "reason": "takeover",
            "state": "bounded",
            "from_at": stored.START,
            "to_at": at,
            "lost_by_type": "{}",
            "counted": True,
        },
    )


async def test_what_was_read_too_late_is_marked_from_what_the_next_owner_has_too(
    place: Place, writing: Writing
) -> None:
    heard(place, 6)
    await writing.run(overlap.late(CALL, 1))
    assert marked(place) == []
    taken_over(place, stored.START)
    await writing.run(overlap.late(CALL, 1))
    assert marked(place) == []
    # the first three were sent before the next owner had joined, and are its gap; here they are not lost
    heard(place, 5, epoch=2, first=4)
    await writing.run(overlap.late(CALL, 1))
    assert marked(place) == [4, 5, 6]
    assert marked(place, 2) == []
