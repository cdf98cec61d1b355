"""Tell apart a PostgreSQL server that is away, or busy, from one that will never do what it was asked."""

from __future__ import annotations

from collections.abc import Iterator

from rtobserver.store import postgres_driver

_CLASSES = frozenset(
    {
        "08",  # the connection
        "25",  # a transaction in the wrong state: most of all a standby, which only reads
        "40",  # rolled back: serialization, deadlock
        "53",  # no memory, no disk, no connection left
        "55",  # a lock that was not to be had in time, an object in use
        "57",  # stopped by somebody, by a time-out, or still starting
        "58",  # its own system fails
        "XX",  # a fault of its own
    }
)
_AGAIN = frozenset({"40001", "40P01"})


def causes(problem: BaseException) -> Iterator[BaseException]:
    """Give an error and what stands behind it, outermost first."""
    found: BaseException | None = problem
    seen = 0
    while found is not None and seen < 10:
        yield found
        seen += 1
        found = getattr(found, "orig", None) or found.__cause__


def state_of(problem: BaseException) -> str:
    """Give the SQLSTATE behind an error, or nothing."""
    for cause in causes(problem):
        if isinstance(state := getattr(cause, "sqlstate", None), str):
            return state
    return ""


def is_away(problem: BaseException) -> bool:
    """Tell whether the same may succeed later: the server could not be reached, or not do it now."""
    if state := state_of(problem):
        # a role that may not log in, or a database that is not there, can be made while the daemon waits
        return state[:2] in _CLASSES or state[:2] == "28" or state == "3D000"
    return any(isinstance(cause, (OSError, *postgres_driver.BROKEN)) for cause in causes(problem))


def was_rolled_back(problem: BaseException) -> bool:
    """Tell whether a transaction only met another one, is undone for certain, and is worth an immediate second try."""
    return state_of(problem) in _AGAIN


def sentence(problem: BaseException) -> str:
    """Say what the server said, in one line and without the statement."""
    innermost = list(causes(problem))[-1]
    return (str(innermost) or type(innermost).__name__).splitlines()[0]
