"""What a scenario may say: the steps of a call as values.

Durations are seconds of the conversation; the simulator's pace scales them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from rtobserver.simulator.beats import Close
from rtobserver.simulator.faults import Faults


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoken:
    """Have the user say something and the model answer."""

    kind: ClassVar[str] = "spoken"
    user: str = "Hello, is anybody there?"
    assistant: str = "Hello! How can I help you today?"
    user_seconds: float = 0.0
    """0 is the time that the words take."""
    assistant_seconds: float = 0.0
    """How long the answer plays; 0 is the time that the words take."""
    latency: float = 0.4
    """From the end of the user's speech to the first word of the answer."""
    transcription_error: str = ""
    """A code with which the user's transcription fails, such as `DeploymentNotFound`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Typed:
    """Have the page send a line of text and ask for an answer."""

    kind: ClassVar[str] = "typed"
    user: str = "Say hello."
    assistant: str = "Hello there."
    latency: float = 0.4
    assistant_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BargeIn:
    """Have the user cut the model's answer short by speaking."""

    kind: ClassVar[str] = "barge_in"
    user: str = "Tell me a long story."
    assistant: str = "Once upon a time, in a village by the sea, there lived an old woman and her three goats."
    when: Literal["response", "playback"] = "response"
    """`response`: while the answer is generated; `playback`: it is complete, but still to be heard."""
    at: float = 0.5
    """After which part of the answer's words, or of its sound."""
    interruption: str = "Stop, that is enough."
    """Empty is a false interruption: speech that holds no words."""
    answer: str = "All right."
    """The model's answer to the interruption."""
    latency: float = 0.4


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """Have the model call a function and go on when somebody has answered it."""

    kind: ClassVar[str] = "tool_call"
    user: str = "What is the weather in Oslo?"
    spoken: bool = True
    name: str = "get_weather"
    arguments: str = '{"city":"Oslo"}'
    output: str = '{"sky":"clear","celsius":4}'
    """What the page answers; empty leaves the answer to a sideband."""
    output_after: float = 0.6
    """How long the page's function takes."""
    patience: float = 5.0
    """Real seconds to wait for a sideband's output, or for its `response.create`, before going on without."""
    assistant: str = "It is clear and four degrees in Oslo."
    latency: float = 0.4


@dataclass(frozen=True, slots=True, kw_only=True)
class Error:
    """Have upstream report an error."""

    kind: ClassVar[str] = "error"
    code: str = "server_error"
    message: str = "The server had an error while processing your request."
    type: str = "server_error"
    param: str = ""
    cause: Literal["upstream", "browser"] = "upstream"
    """`browser`: something the page sent was wrong; whether sidebands see that is a switch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """Have a response fail, be cut off by a limit, or be stopped by a filter."""

    kind: ClassVar[str] = "failed"
    user: str = "Tell me something."
    assistant: str = "Well, let me see what"
    status: Literal["failed", "incomplete"] = "failed"
    reason: str = "insufficient_quota"
    """For `failed` the error's code, for `incomplete` the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionUpdate:
    """Have the page change the session, as the official browser client does when its channel opens."""

    kind: ClassVar[str] = "session_update"
    session: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Let time pass."""

    kind: ClassVar[str] = "wait"
    seconds: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    """Stay silent until the call is ended from outside."""

    kind: ClassVar[str] = "idle"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Wait until `Simulator.release` names this point."""

    kind: ClassVar[str] = "hold"
    name: str = "go"


@dataclass(frozen=True, slots=True, kw_only=True)
class Flood:
    """Produce deltas of one long answer at a steady rate."""

    kind: ClassVar[str] = "flood"
    rate: float = 100.0
    """Events a second, before the pace."""
    seconds: float = 10.0
    """0 goes on for ever."""
    text: str = " word"


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """Produce a frame as it stands, whatever it is."""

    kind: ClassVar[str] = "frame"
    text: str = ""
    binary: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Leave:
    """Have the browser hang up."""

    kind: ClassVar[str] = "leave"
    close: Close | None = None
    """None is what the vendor does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cap:
    """End the call at upstream's maximum duration."""

    kind: ClassVar[str] = "cap"
    minutes: float = 60.0
    scale: float = 0.001
    """How much faster than real time the cap comes; 1 waits the whole hour."""
    error_first: bool = False
    """Send the `session_expired` error that older sessions got."""

    @property
    def seconds(self) -> float:
        """Give the time from the beginning of the call to the cap."""
        return self.minutes * 60 * self.scale


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """Do steps several times; `times` 0 is for ever."""

    kind: ClassVar[str] = "repeat"
    times: int = 2
    steps: tuple[Step, ...] = ()


Step = (
    Spoken | Typed | BargeIn | ToolCall | Error | Failed | SessionUpdate | Wait | Idle | Hold | Flood | Frame | Leave
    | Cap | Repeat
)  # fmt: skip

STEP_KINDS: tuple[type[Step], ...] = (
    Spoken, Typed, BargeIn, ToolCall, Error, Failed, SessionUpdate, Wait, Idle, Hold, Flood, Frame, Leave, Cap, Repeat,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Script one call."""

    name: str
    steps: tuple[Step, ...]
    description: str = ""
    ending: Literal["leave", "stay"] = "leave"
    """After the last step the browser leaves, or the call goes on in silence."""
    transcription: str = ""
    """A model for user transcripts. If the session has none, the page turns it on when its channel opens."""
    replies: tuple[str, ...] = ("All right.",)
    """What the model says to a `response.create` for which no step has prepared an answer; in turn."""
    voice: Literal["script", "caller"] = "script"
    """Who begins spoken turns, in a call with media: the script at its times, or the caller by really speaking."""
    faults: Faults = field(default_factory=Faults)
    """Switches of a simulator that was started with this scenario and told no others."""
