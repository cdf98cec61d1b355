"""Replace recorded voice by its length and a keyed hash.

Pure. The rest of the frame keeps its exact bytes: the strings are cut out of the text, nothing is
parsed and written again. The hash is keyed because a plain one of a short sound can be guessed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re

import msgspec

MIN_AUDIO_CHARS = 1024
"""Shorter base64 in an `audio` field stays (design, section 5)."""

AUDIO_DELTAS = frozenset({"response.output_audio.delta", "response.audio.delta"})
"""Events whose `delta` is audio; the second name is the beta's."""

# A quote inside a JSON string is always escaped, so these can only match a key and its value. One
# class of characters, never a choice of two, takes the base64: a choice costs the engine 160 bytes
# of memory for each character. The backslash is there for what is written as `\/` or `\u002B`.
# They begin with what is literal: that is what the engine can look for without trying each byte.
_BASE64 = rb'"([A-Za-z0-9+/=_\\-]++)"'
_AUDIO = re.compile(rb'("audio"(?<!\\"audio")\s*:\s*)' + _BASE64)
_DELTA = re.compile(rb'("delta"(?<!\\"delta")\s*:\s*)' + _BASE64)
_PLAIN = re.compile(r"[A-Za-z0-9+/=_-]+")


def strip_audio(frame: bytes, type_: str | None, key: bytes) -> tuple[bytes, bool]:
    """Replace base64 audio by `{"bytes": N, "hmac_sha256": "…"}`; N counts the decoded bytes.

    Takes a frame that is JSON. The second value says whether anything was replaced.
    """
    pattern, shortest = (_DELTA, 1) if type_ in AUDIO_DELTAS else (_AUDIO, MIN_AUDIO_CHARS + 1)
    if len(frame) < shortest or (pattern is _AUDIO and b'"audio"' not in frame):
        return frame, False

    def summary(match: re.Match[bytes]) -> bytes:
        text = _unescaped(match[2]) if b"\\" in match[2] else match[2]
        if len(text) < shortest:
            return match[0]
        audio = _decoded(text)
        digest = hmac.new(key, audio, hashlib.sha256).hexdigest().encode()
        return match[1] + b'{"bytes":%d,"hmac_sha256":"%s"}' % (len(audio), digest)

    stripped = pattern.sub(summary, frame)
    return stripped, stripped != frame


def _unescaped(text: bytes) -> bytes:
    """Give what a JSON string of base64 stands for; nothing where it is no base64."""
    try:
        plain: str = msgspec.json.decode(b'"%b"' % text)
    except msgspec.DecodeError:
        return b""
    return plain.encode() if _PLAIN.fullmatch(plain) else b""


def _decoded(text: bytes) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return text
