"""Read the query of a request; whatever cannot be read is refused with words, never guessed.

Pure but for what it is told of the time.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from multidict import MultiMapping

from rtobserver.errors import RequestError
from rtobserver.web.access import is_plain

LIMIT_DEFAULT, LIMIT_CAP = 100, 1000
TEXT_CAP = 256
"""Characters of any value."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST_US = 253_402_300_800_000_000  # the year 10000
_MICROSECOND = timedelta(microseconds=1)
_SECONDS = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|m|h|d)?")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}([Tt ].+)?")
# what a `+` before the zone's offset becomes on its way through a query
_LOST_PLUS = re.compile(r" (?=[0-9]{2}:?[0-9]{2}$)")

T = TypeVar("T")


class Parameters:
    """Hold a request's query and give its values, each read as what it must be."""

    def __init__(self, query: MultiMapping[str], known: Iterable[str], *, families: Sequence[str] = ()) -> None:
        """Refuse names that are neither `known` nor begin with one of the `families`.

        Raises:
            RequestError: 400, naming the nearest name there is.

        """
        self._query = query
        known = (*known, *(f"{family}KEY" for family in families))
        for name in query:
            if name not in known and not name.startswith(tuple(families)):
                raise _unknown(name, known)
            for value in query.getall(name):
                if value and not is_plain(value, TEXT_CAP):
                    raise _bad(name, f"takes at most {TEXT_CAP} characters, none of them for control")

    def all(self, name: str) -> tuple[str, ...]:
        """Give each value of a parameter that may be repeated."""
        return tuple(self._query.getall(name, ()))

    def text(self, name: str) -> str | None:
        """Give a value as it is; None where it is absent."""
        values = self._query.getall(name, ())
        if len(values) > 1:
            raise _bad(name, "can be given once only")
        return values[0] if values else None

    def read(self, name: str, read: Callable[[str], T | None], form: str) -> T | None:
        """Give a value as `read` makes it of its text; `form` says what it must be when that gives None."""
        text = self.text(name)
        if text is None:
            return None
        value = read(text)
        if value is None:
            raise _bad(name, f"must be {form}")
        return value

    def choice(self, name: str, choices: Sequence[str]) -> str | None:
        """Give one of the words that there are."""
        return self.read(name, lambda text: text if text in choices else None, one_of(choices))

    def limit(self) -> int:
        """Give how many rows a page may have."""
        value = self.read("limit", _limit, f"a whole number from 1 to {LIMIT_CAP}")
        return LIMIT_DEFAULT if value is None else value

    def moment(self, name: str, now_us: int) -> int | None:
        """Give a time in microseconds since 1970, written as such or as a duration before now."""
        form = 'a time such as 2026-01-31T08:00:00Z, a date, or a duration before now such as "7d"'
        return self.read(name, lambda text: moment(text, now_us), form)

    def duration_us(self, name: str) -> int | None:
        """Give a duration in microseconds."""
        return self.read(name, duration_us, 'a number of seconds, or a duration such as "250ms", "20s", "30m"')

    def family(self, prefix: str) -> dict[str, str]:
        """Give the values of the parameters that begin so, by the rest of their names."""
        names = [name for name in dict.fromkeys(self._query) if name.startswith(prefix)]
        return {name.removeprefix(prefix): self.text(name) or "" for name in names}


def one_of(words: Sequence[str]) -> str:
    """Write the words that there are."""
    return "one of " + ", ".join(words)


def _limit(text: str) -> int | None:
    number = int(text) if re.fullmatch(r"[0-9]{1,4}", text) else 0
    return number if 1 <= number <= LIMIT_CAP else None


def moment(text: str, now_us: int) -> int | None:
    """Read a time, a date, or a duration before now, as microseconds since 1970; None for anything else."""
    match = _SECONDS.fullmatch(text)
    if match and match[2]:
        return max(0, now_us - round(float(match[1]) * _UNITS[match[2]] * 1_000_000))
    if not _TIME.fullmatch(text):
        return None
    try:
        found = datetime.fromisoformat(_LOST_PLUS.sub("+", text.upper()))
    except ValueError:
        return None
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    microseconds = (found - _EPOCH) // _MICROSECOND
    return microseconds if 0 <= microseconds < _LATEST_US else None


def duration_us(text: str) -> int | None:
    """Read a number of seconds or a duration such as "250ms"; None for anything else."""
    match = _SECONDS.fullmatch(text)
    if match is None:
        return None
    # nothing lasts longer than all of our time, and the database's numbers end somewhere
    return min(round(float(match[1]) * _UNITS[match[2] or "s"] * 1_000_000), _LATEST_US)


def _unknown(name: str, known: Sequence[str]) -> RequestError:
    shown = name if name.isprintable() and len(name) <= 64 else "?"
    near = difflib.get_close_matches(name[:64], known, n=1, cutoff=0.6)
    advice = f"did you mean `{near[0]}`?" if near else f"there are {', '.join(known)}." if known else "it takes none."
    return RequestError(400, "unknown_parameter", f"There is no parameter `{shown}`: {advice}")


def _bad(name: str, problem: str) -> RequestError:
    return RequestError(400, "invalid_parameter", f"`{name}` {problem}.")
