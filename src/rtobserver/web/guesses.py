"""Slow down who tries keys, without shutting out who has one.

Keys cannot be guessed; what a guesser costs is a look into the database for each try. After
`WRONG_PER_MINUTE` wrong ones in a minute from one address, further ones are refused unseen until the
minute is over. What was good here lately is always looked at: behind a proxy all operators have one
address, and a guesser there must not keep the others out. Wrong keys are not counted by the key's id,
which is no secret: whoever knows it could keep its owner out. Only digests are remembered.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from dataclasses import dataclass

from rtobserver.clock import Clock
from rtobserver.errors import RequestError

WRONG_PER_MINUTE = 100
COUNTED = 1000
"""Addresses that are counted apart in a minute; all others share one count."""
KNOWN = 10_000
"""What is remembered as good, last used last."""


@dataclass(slots=True)
class _Wrong:
    ends: float
    count: int = 0


class Guesses:
    """Count wrong keys and access tokens; addresses are those of peers, or their networks."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._wrong: dict[str, _Wrong] = {}
        self._good: OrderedDict[bytes, None] = OrderedDict()

    def check(self, address: str, text: str) -> None:
        """Refuse to look at what somebody presents where too much was wrong.

        Raises:
            RequestError: 429.

        """
        now = self._clock.mono()
        wrong = self._wrong.get(self._counted(address))
        if wrong is None or wrong.ends <= now or wrong.count < WRONG_PER_MINUTE or _digest(text) in self._good:
            return
        seconds = math.ceil(wrong.ends - now)
        raise RequestError(429, "too_many_wrong_keys", "Too many keys from here were wrong.", retry_after=seconds)

    def was_good(self, text: str) -> None:
        """Note that it was good."""
        digest = _digest(text)
        self._good[digest] = None
        self._good.move_to_end(digest)
        if len(self._good) > KNOWN:
            self._good.popitem(last=False)

    def was_wrong(self, address: str, text: str) -> None:
        """Note that it was wrong; what was revoked is looked at no more than anything else from then on."""
        now = self._clock.mono()
        self._good.pop(_digest(text), None)
        if len(self._wrong) >= COUNTED:
            self._wrong = {name: wrong for name, wrong in self._wrong.items() if wrong.ends > now}
        wrong = self._wrong.get(name := self._counted(address))
        if wrong is None or wrong.ends <= now:
            wrong = self._wrong[name] = _Wrong(now + 60.0)
        wrong.count += 1

    def _counted(self, address: str) -> str:
        return address if address in self._wrong or len(self._wrong) < COUNTED else "others"


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
