"""Name where an observer stands. Pure.

phase        entered by                              left by
ATTACHING    the start                               attached, give-up, end
ATTACHED     a handshake                             a close, end
REATTACHING  a close of any code                     attached, give-up, end
WAITING      give-up, with a hang-up still to come   end
DETACHED     drain: the call goes on without us      -
ENDED        the call is over or given up            -
"""

from __future__ import annotations

from enum import Enum, auto


class Phase(Enum):
    """Be where an observer stands."""

    ATTACHING = auto()
    ATTACHED = auto()
    REATTACHING = auto()
    WAITING = auto()
    DETACHED = auto()
    ENDED = auto()


GONE = (Phase.DETACHED, Phase.ENDED)
"""Those in which nothing is observed any more."""
