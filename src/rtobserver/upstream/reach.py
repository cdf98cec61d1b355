"""Know whether upstream lets through what is brought to it, as far as those who asked of late were told.

Only what is upstream's own fault counts, or that of the way to it and of our credential. An offer that it
refuses, or a limit that it keeps, says that it is there.
"""

from __future__ import annotations

import structlog

from rtobserver.clock import Clock
from rtobserver.errors import (
    CredentialError,
    UpstreamBroken,
    UpstreamError,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)

_NO_CREDENTIAL = (401, 403)

log = structlog.get_logger()


class Reach:
    """Remember since when nothing gets through; `what` names what should, in one word or two."""

    def __init__(self, what: str, clock: Clock) -> None:
        self._what, self._clock = what, clock
        self._problem = ""
        self._missed = 0
        self._since: int | None = None
        """Microseconds since 1970; None while things get through, or nothing was tried."""
        self._good_at = float("-inf")
        """When what got through last was begun, by the clock that is never set."""

    def missed(self, exc: UpstreamError, began: float) -> None:
        """Note why something that began at a monotonic time did not get through.

        It says nothing where something that began later got through before it was given up.
        """
        problem = _problem_of(exc)
        if problem is None or began < self._good_at:
            return
        self._missed += 1
        if self._since is None:
            self._since = self._clock.now_us()
            log.error("upstream_failing", what=self._what, problem=problem)
        self._problem = problem

    def got_through(self, began: float) -> None:
        """Note that something got through; whatever was wrong is over."""
        self._good_at = max(self._good_at, began)
        if self._since is not None:
            lasted = (self._clock.now_us() - self._since) / 1e6
            log.warning("upstream_reached", what=self._what, missed=self._missed, seconds=round(lasted, 3))
        self._problem, self._missed, self._since = "", 0, None

    def reasons(self) -> dict[str, int | None]:
        """Say in short words what is wrong, and since when, for `/readyz`; empty where nothing is known to be."""
        if self._since is None:
            return {}
        tries = "once" if self._missed == 1 else f"{self._missed:,} times"
        return {f"no {self._what} gets through to upstream: {self._problem} ({tries})": self._since}


def _problem_of(exc: UpstreamError) -> str | None:
    """Say what keeps everybody's offers from getting through; None where this one may be to blame itself."""
    match exc:
        case CredentialError():
            return "no credential for it can be had"
        case UpstreamRefused(status=status) if status in _NO_CREDENTIAL:
            return f"it does not take our credential ({status})"
        case UpstreamRefused():
            return None
        case UpstreamTimeout():
            return "no answer in time"
        case UpstreamUnavailable(status=int(status)):
            return f"it answers {status}"
        case UpstreamUnavailable():
            return "no answer"
        case UpstreamBroken():
            return "its answer cannot be used"
    return None
