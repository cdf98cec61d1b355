"""Files of events and of our own export become the lines of a call."""

from __future__ import annotations

import base64
import json
import re

import pytest

from rtobserver.policy.recordings import BEGINNING_US, RecordingError, read_recording
from rtobserver.realtime.entries import COMMAND, EVENT, JSON, OVERLAP
from rtobserver.store.entries import Entry
from rtobserver.web import shapes


def raw(type_: str, **fields: object) -> bytes:
    return json.dumps({"type": type_, **fields}).encode()


def test_raw_events_come_twenty_milliseconds_apart() -> None:
    frames = [raw("session.created"), b"", raw("response.created", event_id="event_2"), raw("response.done")]
    recording = read_recording(frames)
    assert [line.offset_us for line in recording.lines] == [0, 20_000, 40_000]
    assert [(line.epoch, line.seq, line.kind) for line in recording.lines] == [(1, n, EVENT) for n in (1, 2, 3)]
    assert recording.lines[1].event_id == "event_2"
    assert [line.payload for line in recording.lines] == [frames[0], *frames[2:]]
    assert recording.lines[2].at == BEGINNING_US + 40_000


@pytest.mark.parametrize(
    "payload", [b'{"type":"x","a":"\\ud83d"}', b'{"type" : "y", "payload":1e999}', b'{"type":"z"', b"\xff\x00"]
)
def test_what_we_export_is_read_byte_for_byte(payload: bytes) -> None:
    flags = JSON if payload.startswith(b"{") and payload.endswith(b"}") else 0
    kept = [
        Entry(2, 7, EVENT, 1_800_000_000_123_456, 1_500_250, "x", "event_7", flags | OVERLAP, payload),
        Entry(2, 8, COMMAND, 1_800_000_001_123_456, 2_500_250, "response.cancel", "rto_2_8", JSON, b'{"a":1}'),
    ]
    recording = read_recording(shapes.entry(entry) for entry in kept)
    for line, entry in zip(recording.lines, kept, strict=True):
        for name in ("epoch", "seq", "kind", "at", "offset_us", "type", "event_id", "payload"):
            assert getattr(line, name) == getattr(entry, name), name
    assert recording.lines[0].flags & OVERLAP
    assert recording.started_at == 1_800_000_000_123_456 - 1_500_250
    assert recording.age == 2.50025


def test_a_line_with_a_time_alone_lets_time_pass() -> None:
    recording = read_recording([raw("session.created"), b'{"offset_ms": 30000}', raw("x"), b'{"offset_ms": 60000.5}'])
    assert [line.offset_us for line in recording.lines] == [0, 30_020_000]
    assert recording.age == 60.0005


def test_time_never_goes_back() -> None:
    lines = [b'{"offset_ms": 500, "payload": {"type": "a"}}', b'{"offset_ms": 100, "payload": {"type": "b"}}']
    assert [line.offset_us for line in read_recording(lines).lines] == [500_000, 500_000]


def test_a_few_fields_of_an_entry_are_enough() -> None:
    frame = b"\xff\xfe"
    lines = [
        b'{"offset_ms": 1000, "payload": {"type": "a", "event_id": "e1"}}',
        b'{"payload_base64": "%b"}' % base64.b64encode(frame),
        b'{"kind": "command", "payload": {"type": "response.cancel", "event_id": "rto_1_3"}}',
    ]
    first, second, third = read_recording(lines).lines
    assert (first.type, first.event_id, first.seq) == ("a", "e1", 1)
    assert (second.payload, second.type, second.offset_us) == (frame, None, 1_020_000)
    assert (third.kind, third.type, third.seq) == (COMMAND, "response.cancel", 3)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"nonsense", "line 2: not a JSON object"),
        (b"[1]", "line 2: not a JSON object"),
        (b'{"event_id": "x"}', "line 2: an event has a `type`"),
        (b'{"kind": "bogus", "payload": {}}', "line 2: `kind` is event, command or gap, not 'bogus'"),
        (b'{"offset_ms": "soon", "payload": {}}', "line 2: `offset_ms` is a number of milliseconds, not 'soon'"),
        (b'{"seq": 0, "payload": {}}', "line 2: `seq` is a whole number from 1 on, not 0"),
        (b'{"at": "noon", "payload": {}}', "line 2: `at` is a time such as 2026-01-31T08:00:00Z, not 'noon'"),
        (b'{"payload_base64": "?"}', "line 2: "),
        (b"[" * 100_000, "line 2: not a JSON object"),
    ],
)
def test_a_bad_line_is_named(line: bytes, says: str) -> None:
    with pytest.raises(RecordingError, match=re.escape(says)) as caught:
        read_recording([raw("session.created"), line])
    assert str(caught.value).startswith(says)
