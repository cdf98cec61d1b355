"""Policies as frozen values: one trigger, an optional condition, limits, actions.

Pure. `policy/compile.py` makes them of TOML and refuses what is wrong, so whoever holds one need not
check it again. Durations are seconds. Strings of actions may hold `{{ dotted.path }}` templates;
`policy/templates.py` fills them in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from rtobserver.config.sections import Secret

Json = Any
Speaker = Literal["user", "assistant"]
Mode = Literal["observe", "canary", "enforce"]
Meter = Literal["cost_usd", "total_tokens", "output_audio_seconds"]

# --- triggers -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class On:
    """Match server events by type."""

    types: tuple[str, ...]
    """Names or globs; GA names (beta names of events are made GA names before they are compared)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phrase:
    """Match words in what a speaker says, as it is said."""

    speaker: Speaker
    phrases: tuple[str, ...]
    """As written, lists filled in, none empty."""
    whole: bool = False
    """Wait for the boundary after the last word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Regex:
    """Match an RE2 pattern in the last 4 KiB of what a speaker says in one item."""

    speaker: Speaker
    pattern: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """Match a function call with complete arguments."""

    name: str
    """May be a glob."""
    arguments: Mapping[str, Json]
    """Top-level arguments that must have these values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class After:
    """Match once, when the call is so old."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    """Match when no event at all came for so long; once per silence."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadAir:
    """Match when nobody has spoken and nothing has played for so long; once per silence."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class UnansweredTool:
    """Match when a function call has had no output for so long; once per function call."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """Match once, when something did not happen in the call's first seconds."""

    what: On | Phrase | Regex | Tool
    within: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """Match when so many events came within a time; then it counts from zero again."""

    on: On
    at_least: int
    within: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Match once, when the call has used so much."""

    meter: Meter
    at_least: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """Match once, at the turn of the user of this number."""

    at_least: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tampered:
    """Match when somebody else changed the session, or spoke for the system or the model."""

    keys: tuple[str, ...] | None
    """First steps of session keys, `items` or `outputs`; None is any."""


Trigger = (
    On | Phrase | Regex | Tool | After | Idle | DeadAir | UnansweredTool | Absent | Count | Usage | Turns | Tampered
)

# --- actions ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """Send a client event."""

    event: Mapping[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateSession:
    """Change part of the session."""

    session: Mapping[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreSession:
    """Send the expected session again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelResponse:
    """Cancel that response, and stop its sound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Say:
    """Have the model say these words."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateItem:
    """Add an item to the conversation."""

    item: Mapping[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteItem:
    """Take an item out of the conversation."""

    item_id: str | None
    """None is the matched item."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerTool:
    """Answer the function call with what an HTTP endpoint says."""

    url: str
    timeout: float = 10.0
    secret: Secret | None = None
    allow_http: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MuteModel:
    """Have the model make no response by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnmuteModel:
    """Have the model respond by itself again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseRecording:
    """Store no payload until the recording is resumed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeRecording:
    """Store payloads again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HangUp:
    """End the call."""

    goodbye: str | None = None
    after: float = 5.0
    """The longest that the goodbye may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tag:
    """Add a tag to the call."""

    tag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """Notify an address of the configuration."""

    id: str


Action = (
    Send
    | UpdateSession
    | RestoreSession
    | CancelResponse
    | Say
    | CreateItem
    | DeleteItem
    | AnswerTool
    | MuteModel
    | UnmuteModel
    | PauseRecording
    | ResumeRecording
    | HangUp
    | Tag
    | Webhook
)

ACTION_NAMES: Mapping[type, str] = {
    Send: "send",
    UpdateSession: "update_session",
    RestoreSession: "restore_session",
    CancelResponse: "cancel_response",
    Say: "say",
    CreateItem: "create_item",
    DeleteItem: "delete_item",
    AnswerTool: "answer_tool",
    MuteModel: "mute_model",
    UnmuteModel: "unmute_model",
    PauseRecording: "pause_recording",
    ResumeRecording: "resume_recording",
    HangUp: "hang_up",
    Tag: "tag",
    Webhook: "webhook",
}
"""What the configuration and decisions call each action."""

TRIGGER_NAMES: Mapping[type, str] = {
    On: "on",
    Phrase: "phrase",
    Regex: "regex",
    Tool: "tool",
    After: "after",
    Idle: "idle",
    DeadAir: "dead_air",
    UnansweredTool: "unanswered_tool",
    Absent: "absent",
    Count: "count",
    Usage: "usage",
    Turns: "turns",
    Tampered: "tampered",
}
"""What the configuration and decisions call each trigger."""

# --- policies -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """Bound how often a policy acts; 0 is no bound."""

    per_call: int = 0
    cooldown: float = 0.0
    """Seconds after it acted in which it does not act in the same call."""
    consecutive: int = 1
    """Turns in a row that must match until it acts."""
    per_minute: int = 60
    """Over all calls; past it the policy is demoted to observe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Be one rule."""

    id: str
    trigger: Trigger
    actions: tuple[Action, ...]
    mode: Mode = "observe"
    canary_percent: int = 10
    profiles: tuple[str, ...] | None = None
    """None is all of them."""
    when: str | None = None
    """CEL, as written."""
    limit: Limit = Limit()


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyTest:
    """Be one test that stands beside the policies."""

    name: str
    events: str
    """Path of a file of raw events, or of our own export; absolute."""
    expect: tuple[tuple[str, tuple[str, ...]], ...]
    """Policy and names of its actions, in the order of decisions."""
    place: str
    """File and key path where it is written, for messages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySet:
    """Be all policies of a configuration, in file order."""

    policies: tuple[Policy, ...] = ()
    tests: tuple[PolicyTest, ...] = ()
    hash: str = ""
    """16 hex digits over everything that decides: the same for the same policies, however they are written."""
