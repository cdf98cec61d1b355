"""What a policy saw, and what it decides. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from rtobserver.policy.rules import Action, Mode, Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Be what made a policy match."""

    text: str | None = None
    """The matched words, as they were said; None where the trigger is not about words."""
    item_id: str | None = None
    response_id: str | None = None
    """That response: named by the event or its item, else the active one."""
    function_call_id: str | None = None
    name: str | None = None
    """The function's."""
    arguments: str | None = None
    """The function call's, as the model wrote them."""
    keys: tuple[str, ...] = ()
    """What was tampered with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Be what one policy decides at one entry; at most one per policy and entry."""

    policy: Policy
    policy_set: str
    """Hash of the set that decided."""
    match: Match
    mode: Mode
    """`observe` too for a policy that was demoted."""
    acts: bool
    """Whether the actions are to be done; false in observe mode, outside the canary, and for a fault."""
    actions: tuple[Action, ...]
    """With templates filled in, in file order; what would be done where it does not act."""
    causes: frozenset[str]
    """The policies that led to it: this one, and those whose acting caused what it matched."""
    fault: str | None = None
    """Why it could not be decided or filled in; then it does not act."""
    note: str | None = None
    """What else is to be said of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """Be a decision of an earlier epoch, for limits to go on from."""

    policy: str
    age: float
    """The call's age in seconds when it was decided."""
    is_fault: bool = False
    acted: bool = False
    """Whether it acted; then its actions count against the call's budget."""
    actions: int = 0
    """How many actions it has."""
