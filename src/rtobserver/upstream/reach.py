"""Know whether upstream lets through what is brought to it, as far as those who asked of late were told.

Only what is upstream's own fault counts, or that of the way to it and of our credential. An offer that it
refuses, or a limit that it keeps, says that it is there. So does an attach to a call that is over; but where a
call was given up that it accepted and then never knew, that is no fault of the call's.
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
from rtobserver.upstream.attach import AttachFailed, AttachRefused

_NO_CREDENTIAL = (401, 403)
_UNKNOWN, _FAULTS = 404, 500

log = structlog.get_logger()


class Reach:
    """Remember since when nothing gets through; `what` names what should, in one word or two.

    Where one alone may have a fault of its own, it takes `several` of which none gets through.
    """

    def __init__(self, what: str, clock: Clock, *, several: bool = False) -> None:
        self._what, self._clock, self._several = what, clock, several
        self._problem = ""
        self._missed = 0
        self._first = ""
        """Whose miss was the first."""
        self._since: int | None = None
        """Microseconds since 1970; None while things get through, or nothing was tried."""
        self._is_sure = False
        """Whether it is not the fault of one alone."""
        self._good_at = float("-inf")
        """When what got through last was begun, by the clock that is never set."""

    @property
    def is_failing(self) -> bool:
        """Say whether nothing gets through."""
        return self._is_sure

    def missed(self, exc: UpstreamError, began: float, whose: str = "", *, is_given_up: bool = False) -> None:
        """Note why something that began at a monotonic time did not get through.

        It says nothing where something that began later got through before it was given up. With `is_given_up`
        nobody will try again, whatever the reason.
        """
        problem = _problem_of(exc) or (_given_up(exc) if is_given_up else None)
        if problem is None or began < self._good_at:
            return
        self._missed += 1
        self._problem = problem
        if self._since is None:
            self._since, self._first = self._clock.now_us(), whose
        if not self._is_sure and (not self._several or whose != self._first):
            self._is_sure = True
            log.error("upstream_failing", what=self._what, problem=problem)

    def got_through(self, began: float) -> None:
        """Note that something got through; whatever was wrong is over."""
        self._good_at = max(self._good_at, began)
        if self._is_sure and self._since is not None:
            lasted = (self._clock.now_us() - self._since) / 1e6
            log.warning("upstream_reached", what=self._what, missed=self._missed, seconds=round(lasted, 3))
        self._problem, self._missed, self._first, self._since, self._is_sure = "", 0, "", None, False

    def reasons(self) -> dict[str, int | None]:
        """Say in short words what is wrong, and since when, for `/readyz`; empty where nothing is known to be."""
        if not self._is_sure:
            return {}
        tries = "once" if self._missed == 1 else f"{self._missed:,} times"
        return {f"no {self._what} gets through to upstream: {self._problem} ({tries})": self._since}


def _problem_of(exc: UpstreamError) -> str | None:
    """Say what keeps everybody's offers from getting through; None where this one may be to blame itself."""
    match exc:
        case CredentialError():
            return "no credential for it can be had"
        case UpstreamRefused(status=status) | AttachRefused(status=status) if status in _NO_CREDENTIAL:
            return f"it does not take our credential ({status})"
        case AttachRefused(status=status) if status >= _FAULTS:
            return f"it answers {status}"
        case AttachFailed():
            return "no answer"
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


def _given_up(exc: UpstreamError) -> str:
    """Say why a call was given up that upstream had accepted."""
    if not isinstance(exc, AttachRefused):
        return "no answer that can be used"
    return "it knows none of the calls that it accepts (404)" if exc.status == _UNKNOWN else f"it answers {exc.status}"
