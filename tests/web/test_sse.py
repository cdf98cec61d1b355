from __future__ import annotations

import pytest

from rtobserver.web import sse


def test_an_event_has_its_id_its_name_and_its_data() -> None:
    assert sse.event(b"entry", b"{}", b"1:2") == b"id: 1:2\nevent: entry\ndata: {}\n\n"
    assert sse.event(b"call", b"{}") == b"event: call\ndata: {}\n\n"


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_no_line_of_the_data_is_read_as_a_field(end: bytes) -> None:
    data = end.join([b'{"a":', b"event: call", b"", b"id: 9", b"}"])
    written = sse.event(b"entry", data)
    assert b"\r" not in written
    lines = written.removesuffix(b"\n\n").split(b"\n")
    assert lines[0] == b"event: entry"
    assert all(line.startswith(b"data: ") for line in lines[1:])
    assert [line.removeprefix(b"data: ") for line in lines[1:]] == data.split(end)
