"""Bound how often a policy restores the session of one call, and say what it leaves out for that. Pure.

Somebody who always writes back would be answered for ever. While a restoration is unanswered no second one is sent;
a `hang_up` beside it is the last resort, for when the bound is reached (docs/decisions/0070).
"""

from __future__ import annotations

from collections.abc import Sequence

from rtobserver.policy.rules import Action, HangUp, RestoreSession

GUARD = 3
"""How often a policy restores the session of one call."""
RESTORING = "an earlier restoration of the session was not answered yet"
"""What a decision says that did not restore the session, since that was under way."""
EARLY = f"hang_up waits until the session was restored {GUARD} times"
LATE = f"the session was restored {GUARD} times in this call and is not restored again"


def restores(actions: Sequence[Action]) -> bool:
    """Say whether these restore the session."""
    return any(isinstance(action, RestoreSession) for action in actions)


def kept(actions: Sequence[Action], *, is_waiting: bool, times: int) -> tuple[list[Action], list[str]]:
    """Give what is done of actions that restore the session, and why the rest is not.

    `times` is how often the policy would have restored it, with this one.
    """
    is_last = times > GUARD and not is_waiting
    left_out = RestoreSession if is_last else (RestoreSession, HangUp) if is_waiting else HangUp
    found = [action for action in actions if not isinstance(action, left_out)]
    if is_last:
        return found, [LATE]
    words = [RESTORING] if is_waiting else []
    return found, words + ([EARLY] if any(isinstance(action, HangUp) for action in actions) else [])
