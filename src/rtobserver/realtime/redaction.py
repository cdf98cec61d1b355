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

MIN_AUDIO_CHARS = 1024
"""Shorter base64 in an `audio` field stays (design, section 5)."""

AUDIO_DELTAS = frozenset({"response.output_audio.delta", "response.audio.delta"})
"""Events whose `delta` is audio; the second name is the beta's."""

_BASE64 = rb"((?:[A-Za-z0-9+/=_-]|\\/)"
# A quote inside a JSON string is always escaped, so these can only match a key and its value.
_AUDIO = re.compile(rb'(?<!\\)("audio"\s*:\s*)"' + _BASE64 + rb'{%d,})"' % (MIN_AUDIO_CHARS + 1))
_DELTA = re.compile(rb'(?<!\\)("delta"\s*:\s*)"' + _BASE64 + rb'+)"')


def strip_audio(frame: bytes, type_: str | None, key: bytes) -> tuple[bytes, bool]:
    """Replace base64 audio by `{"bytes": N, "hmac_sha256": "…"}`; N counts the decoded bytes.

    Takes a frame that is JSON. The second value says whether anything was replaced.
    """
    pattern = _DELTA if type_ in AUDIO_DELTAS else _AUDIO
    if pattern is _AUDIO and (len(frame) <= MIN_AUDIO_CHARS or b'"audio"' not in frame):
        return frame, False

    def summary(match: re.Match[bytes]) -> bytes:
        audio = _decoded(match[2].replace(b"\\/", b"/"))
        digest = hmac.new(key, audio, hashlib.sha256).hexdigest().encode()
        return match[1] + b'{"bytes":%d,"hmac_sha256":"%s"}' % (len(audio), digest)

    stripped, count = pattern.subn(summary, frame)
    return stripped, count > 0


def _decoded(text: bytes) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return text
