"""Know where frames begin in what is read from a websocket, so that whole ones need no parser. Pure.

Only boundaries are told (RFC 6455, 5.2); what a frame means, and whether it may be, is the library's to judge.
"""

from __future__ import annotations

MESSAGES = (0x81, 0x82)
"""First bytes of frames that are a message each, of text and of anything."""
EMPTY_PONG = 0x8A
"""First byte of an answer to a ping; without payload it answers none of the library's."""
LONGEST = 0xFFFF
"""Bytes of payload in a frame whose head has four bytes at most."""

_FIN, _CONTROL, _LENGTH = 0x80, 0x08, 0x7F


class Place:
    """Say where in the stream of frames the next byte stands."""

    __slots__ = ("_in_pieces", "_owed")

    def __init__(self) -> None:
        self._owed = 0
        """Bytes to come of a frame whose head has passed."""
        self._in_pieces = False
        """Whether a message was begun that is not over."""

    @property
    def is_between(self) -> bool:
        """Whether a frame begins here, and no message is in pieces."""
        return not self._owed and not self._in_pieces

    def pass_over(self, data: bytes, begin: int) -> int:
        """Move over what was read from `begin` on, up to the end, or to a head that is not whole: gives which."""
        at, size = begin + self._owed, len(data)
        self._owed = 0
        while at < size:
            payload = at + _head_bytes(data[at + 1]) if at + 1 < size else size + 1
            if payload > size:
                return at
            first = data[at]
            if not first & _CONTROL:
                self._in_pieces = not first & _FIN
            at = payload + _length(data, at)
        self._owed = at - size
        return size


def _head_bytes(second: int) -> int:
    return {126: 4, 127: 10}.get(second & _LENGTH, 2)


def _length(data: bytes, at: int) -> int:
    length = data[at + 1] & _LENGTH
    if length < 126:
        return length
    return int.from_bytes(data[at + 2 : at + (4 if length == 126 else 10)])
