"""Say in plain words what rows have as codes."""

from __future__ import annotations

from collections.abc import Mapping

STATUSES: Mapping[str, tuple[str, str]] = {
    "connecting": ("connecting", "warn"),
    "live": ("live", "good"),
    "ended": ("ended", ""),
    "unobserved": ("not observed", "bad"),
    "lost": ("lost", "bad"),
    "failed": ("failed", "bad"),
}
"""How a call stands: words, and the tone of its badge."""

OUTCOMES: Mapping[str, str] = {
    "browser_left": "the caller left",
    "hung_up": "hung up",
    "expired": "the session's time was over",
    "max_duration": "longest duration reached",
    "policy": "ended by a policy",
    "undelivered": "the answer did not reach the caller",
    "refused": "refused by upstream",
    "upstream_error": "upstream failed",
    "timeout": "upstream did not answer in time",
    "no_location": "upstream did not tell the call's id",
    "attach_failed": "the observer could not be connected",
    "lost": "the observer lost it",
}
"""How a call ended."""

COMPLETENESS: Mapping[str, tuple[str, str]] = {
    "complete": ("recorded completely", "good"),
    "complete_with_gaps": ("recorded with gaps", "warn"),
    "incomplete": ("recorded incompletely", "bad"),
}
"""How whole the record of a call is: words, and the tone of its badge."""
