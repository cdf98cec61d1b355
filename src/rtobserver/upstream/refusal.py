"""Read the bodies of upstream's errors, which come in several shapes. Pure.

The API itself sends `{"error": {"message", "type", "code", "param"}}`, the gateway before Azure's
leaves out some of that or sends `{"statusCode", "message"}`, and proxies send pages (protocol.md 1.6).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

LONGEST_MESSAGE = 500

_WORD = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Hold what upstream said; both parts may be empty."""

    code: str = ""
    message: str = ""

    def repeats(self, secrets: Iterable[str]) -> bool:
        """Say whether it quotes a secret or an offer, or looks as if it did."""
        text = f"{self.code}\n{self.message}"
        return any(mark in text for mark in ("ek_", "sk-", "v=0", "ice-")) or any(
            secret in text for secret in secrets if secret
        )


def read_refusal(body: bytes) -> Refusal:
    """Find code and message, as far as there are any."""
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return Refusal()
    if not isinstance(document, dict):
        return Refusal()
    error = document.get("error", document)
    if isinstance(error, str):
        return Refusal("", _sentence(error))
    if not isinstance(error, dict):
        return Refusal()
    code = next((word for key in ("code", "type") if (word := _word(error.get(key)))), "")
    return Refusal(code, _sentence(error.get("message")))


def _word(value: Any) -> str:
    return value if isinstance(value, str) and _WORD.fullmatch(value) else ""


def _sentence(value: Any) -> str:
    if not isinstance(value, str):
        return ""
    clean = "".join(character if character.isprintable() else " " for character in value)
    return clean[:LONGEST_MESSAGE].strip()
