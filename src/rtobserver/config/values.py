"""Check single values: durations, sizes, numbers, names and keys.

Each function takes what the file says and gives what the setting holds, or raises `Wrong`. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal

from rtobserver.config.sections import Bytes, Seconds, Secret

_DURATION_UNITS: Mapping[str, Decimal] = {
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86400),
}
_SIZE_UNITS: Mapping[str, int] = {
    "B": 1,
    "kB": 1000,
    "KB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "KiB": 1024,
    "MiB": 1024**2,
    "GiB": 1024**3,
}
_LONGEST = 36_500 * 86_400
_LARGEST = 1024**4
_QUANTITY = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)([A-Za-z]+)")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LABELS = 16
_DOTTED = re.compile(r"[A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)*")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_SEALING_KEY = re.compile(r"[A-Za-z0-9_-]{43}=?")
ALGORITHMS = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "HS256", "HS384", "HS512",
)  # fmt: skip
"""Signatures that a token may carry; `none` is not among them and never will be."""


class Wrong(ValueError):
    """Say what is wrong with one value; the reader knows where it stands."""

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy


class WrongAt(Wrong):
    """Say what is wrong with another key than the one that is read: a twin of a secret."""

    def __init__(self, key: str, problem: str, remedy: str = "") -> None:
        super().__init__(problem, remedy)
        self.key = key


def parse_duration(text: str) -> Seconds:
    """Read a duration such as "250ms", "20s", "1.5h" or "7d".

    Raises:
        Wrong: it is none, or longer than a hundred years.
    """
    match = _QUANTITY.fullmatch(text)
    unit = _DURATION_UNITS.get(match[2]) if match else None
    if match is None or unit is None:
        raise Wrong(f"is not a duration: {quoted(text)}", 'write a number and ms, s, m, h or d, as in "30s"')
    seconds = Decimal(match[1]) * unit
    if seconds > _LONGEST:
        raise Wrong(f"is longer than a hundred years: {quoted(text)}", 'the longest duration is "36500d"')
    return Seconds(float(round(seconds, 6)))


def format_duration(seconds: Seconds) -> str:
    """Write a duration as `parse_duration` reads it, in the largest unit that keeps it whole."""
    exact = Decimal(repr(float(seconds)))
    for unit in ("d", "h", "m", "s", "ms"):
        count = exact / _DURATION_UNITS[unit]
        if exact and count == count.to_integral_value():
            return f"{count:.0f}{unit}"
    return f"{exact:f}s" if exact else "0s"


def parse_size(text: str) -> Bytes:
    """Read a size such as "512B", "64KiB" or "32MiB".

    Raises:
        Wrong: it is none, not a whole number of bytes, or larger than 1024 GiB.
    """
    match = _QUANTITY.fullmatch(text)
    unit = _SIZE_UNITS.get(match[2]) if match else None
    if match is None or unit is None:
        raise Wrong(f"is not a size: {quoted(text)}", 'write a number and B, KiB, MiB or GiB, as in "64KiB"')
    size = Decimal(match[1]) * unit
    if size != size.to_integral_value():
        raise Wrong(f"is not a whole number of bytes: {quoted(text)}", "choose a smaller unit")
    if size > _LARGEST:
        raise Wrong(f"is larger than 1024 GiB: {quoted(text)}", "no message is as large as that")
    return Bytes(int(size))


def format_size(size: Bytes) -> str:
    """Write a size as `parse_size` reads it, in the largest binary unit that keeps it whole."""
    for unit in ("GiB", "MiB", "KiB"):
        count, rest = divmod(size, _SIZE_UNITS[unit])
        if count and not rest:
            return f"{count}{unit}"
    return f"{size}B"


def quoted(text: str) -> str:
    """Show a value inside a message as TOML would write it, cut short."""
    shown = text if len(text) <= 80 else text[:77] + "..."
    return f'"{"".join(_escaped(character) for character in shown)}"'


def described(value: object) -> str:
    """Name a value's type; the value itself could be a secret at the wrong place."""
    kinds = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", dict: "a table"}
    if isinstance(value, list):
        return "an array of tables" if value and all(isinstance(part, dict) for part in value) else "a list"
    return kinds.get(type(value), "a date or time")


def duration_within(least: str, most: str = "36500d") -> Callable[[Seconds], Seconds]:
    """Make a check that a duration lies between two others, both included."""
    low, high = parse_duration(least), parse_duration(most)

    def check(value: Seconds) -> Seconds:
        if not low <= value <= high:
            limits = f"between {least} and {most}" if most != "36500d" else f"at least {least}"
            raise Wrong(f"must be {limits}, not {format_duration(value)}", f'write "{least if value < low else most}"')
        return value

    return check


def size_at_least(least: str) -> Callable[[Bytes], Bytes]:
    """Make a check that a size is not below another."""
    low = parse_size(least)

    def check(value: Bytes) -> Bytes:
        if value < low:
            raise Wrong(f"must be at least {least}, not {format_size(value)}", f'write "{least}"')
        return value

    return check


def port(value: int) -> int:
    """Check a TCP port; 0 is allowed and picks a free one."""
    if not 0 <= value <= 65535:
        raise Wrong(f"is not a port: {str(value)[:20]}", "ports go from 1 to 65535; 0 picks a free one")
    return value


def limit(value: int) -> int:
    """Check a limit; 0 is allowed and means none."""
    if not 0 <= value <= 1_000_000_000:
        raise Wrong(f"is not a limit: {str(value)[:20]}", "write a positive number, or 0 for no limit")
    return value


def name(value: str) -> str:
    """Check a name that stands in addresses, logs and tables."""
    if not _NAME.fullmatch(value):
        raise Wrong(f"is not a name: {quoted(value)}", "use 1 to 64 letters, digits, hyphens and underscores")
    return value


def text(value: str) -> str:
    """Check a text that may not be empty or hold control characters."""
    if not value.strip() or not value.isprintable():
        problem = "is empty" if not value.strip() else "holds control characters"
        raise Wrong(problem, "leave the key out to have its default")
    return value


def header(value: str) -> str:
    """Check the name of a request header."""
    if not _HEADER.fullmatch(value):
        raise Wrong(f"is not the name of a header: {quoted(value)}", "write it as in X-Forwarded-User")
    return value


def each(check: Callable[[str], str]) -> Callable[[tuple[str, ...]], tuple[str, ...]]:
    """Make a check of every text in a list, which may not hold one twice either."""

    def checked(values: tuple[str, ...]) -> tuple[str, ...]:
        kept = tuple(check(value) for value in values)
        for index, value in enumerate(kept):
            if value in kept[:index]:
                raise Wrong(f"names {quoted(value)} twice", "leave one of them out")
        return kept

    return checked


def algorithm(value: str) -> str:
    """Check the name of a token's signature algorithm."""
    if value not in ALGORITHMS:
        raise Wrong(f"is not a signature algorithm that is accepted: {quoted(value)}", f"use {', '.join(ALGORITHMS)}")
    return value


def algorithms(values: tuple[str, ...]) -> tuple[str, ...]:
    """Check the list of accepted signature algorithms."""
    if not values:
        raise Wrong("names no algorithm", 'write the one your issuer signs with, as in ["RS256"]')
    return each(algorithm)(values)


def label_claims(values: tuple[str, ...]) -> tuple[str, ...]:
    """Check the list of claims that become labels under their own names."""
    if len(values) > _LABELS:
        raise Wrong(f"names {len(values)} claims", f"a call has at most {_LABELS} labels")
    for value in values:
        if not _NAME.fullmatch(value):
            raise Wrong(
                f"cannot be a label: {quoted(value)}",
                "labels have 1 to 64 letters, digits, hyphens and underscores; have the issuer name the claim so",
            )
    return each(name)(values)


def session_key(value: str) -> str:
    """Check a dotted key that a browser's session part may set."""
    if not _DOTTED.fullmatch(value):
        raise Wrong(f"is not a dotted key: {quoted(value)}", 'write keys as in "audio.output.voice"')
    if value.partition(".")[0] in ("model", "type"):
        raise Wrong(
            f"lets a browser choose {quoted(value)}", "model and type belong to the profile alone; leave it out"
        )
    return value


def sealing_key(secret: Secret | None) -> Secret | None:
    """Check that a key is 32 bytes in base64url, padded or not; None passes."""
    if secret is None:
        return None
    # 43 characters of 6 bits are 32 bytes and two bits that count for nothing.
    if not _SEALING_KEY.fullmatch(secret.reveal()):
        raise Wrong(
            "is not 32 bytes in base64url",
            'make one: python -c "import base64, os; print(base64.urlsafe_b64encode(os.urandom(32)).decode())"',
        )
    return secret


def _escaped(character: str) -> str:
    if character.isprintable() and character not in '"\\':
        return character
    return f"\\u{ord(character):04x}" if ord(character) < 0x10000 else f"\\U{ord(character):08x}"
