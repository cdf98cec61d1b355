"""Compile policies, and index them by what they look at. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from rtobserver.policy import globs, rules, templates
from rtobserver.policy.cel import Condition, compile_condition
from rtobserver.policy.phrases import Lexicon, Phrases
from rtobserver.policy.regexes import Pattern, compile_pattern
from rtobserver.policy.rules import Policy, Speaker, Trigger
from rtobserver.realtime.names import canonical

MAX_TYPES = 4096
"""Types of events whose plan is remembered; they come from outside."""
MAX_TYPE = 200
"""Longest type that is looked at, in characters; of a longer one the beginning."""

SPEAKERS: tuple[Speaker, ...] = ("user", "assistant")
SPOKEN: Mapping[str, Speaker] = {
    "response.output_audio_transcript.delta": "assistant",
    "response.output_audio_transcript.done": "assistant",
    "response.output_text.delta": "assistant",
    "response.output_text.done": "assistant",
    "conversation.item.input_audio_transcription.delta": "user",
    "conversation.item.input_audio_transcription.completed": "user",
    "conversation.item.added": "user",
    "conversation.item.done": "user",
}
"""Events that bring text, by who says it."""

_CALLING = ("response.function_call_arguments.done", "response.output_item.done", "conversation.item.done")
_ITEMS = ("conversation.item.added", "conversation.item.deleted", *_CALLING)
_USING = ("response.done", "conversation.item.input_audio_transcription.completed")
_TURNING = ("input_audio_buffer.", "conversation.item.", "response.output_item.")
_SOUNDING = ("input_audio_buffer.", "output_audio_buffer.")


class Rule:
    """Be one policy, compiled."""

    __slots__ = ("condition", "number", "paths", "pattern", "phrases", "policy", "what")

    def __init__(self, number: int, policy: Policy) -> None:
        trigger = policy.trigger
        self.number = number
        """Its place in the file."""
        self.policy = policy
        self.what: Trigger = trigger.what if isinstance(trigger, rules.Absent) else trigger
        """The trigger, or what is to be absent."""
        self.condition: Condition | None = None if policy.when is None else compile_condition(policy.when)
        self.phrases: Phrases | None = None
        self.pattern: Pattern | None = None
        if isinstance(self.what, rules.Phrase):
            self.phrases = Phrases(self.what.phrases, whole=self.what.whole)
        elif isinstance(self.what, rules.Regex):
            self.pattern = compile_pattern(self.what.pattern)
        self.paths = tuple(path for action in policy.actions for path in templates.paths(action))
        """What the strings of its actions name."""


class Compiled:
    """Be a set of policies, compiled; hundreds take long enough to be left to a thread.

    Raises what the compilers of phrases, patterns and conditions raise.
    """

    __slots__ = ("lexicons", "rules")

    def __init__(self, policies: Iterable[Policy]) -> None:
        self.rules = tuple(Rule(number, policy) for number, policy in enumerate(policies))
        self.lexicons: dict[Speaker, Lexicon] = {}
        """The phrases of all rules, by who would say them; calls of all profiles share them."""
        for speaker in SPEAKERS:
            if spoken := [rule for rule in self.rules if _listens(rule, speaker)]:
                self.lexicons[speaker] = Lexicon((rule.number, rule.phrases) for rule in spoken if rule.phrases)


@dataclass(frozen=True, slots=True)
class Plan:
    """Be what is to be done about one type of event."""

    on: tuple[Rule, ...] = ()
    speaker: Speaker | None = None
    """Whose text the event brings, where a rule listens to it."""
    tools: tuple[Rule, ...] = ()
    usage: tuple[Rule, ...] = ()
    turns: tuple[Rule, ...] = ()
    waits: bool = False
    """Whether functions that wait for an output are to be looked at."""
    sounds: bool = False
    """Whether it can make or break a silence that a rule looks at."""


@dataclass(slots=True)
class _Sorted:
    """Be the rules by trigger."""

    on: list[Rule] = field(default_factory=list)
    tools: list[Rule] = field(default_factory=list)
    usage: list[Rule] = field(default_factory=list)
    turns: list[Rule] = field(default_factory=list)


class Book:
    """Be the rules for calls of one profile."""

    __slots__ = (
        "_dead_air",
        "_globs",
        "_on",
        "_sorted",
        "_waiting",
        "lexicons",
        "patterns",
        "plans",
        "rules",
        "tampered",
        "timed",
        "wants_turns",
    )

    def __init__(self, compiled: Compiled, profile: str) -> None:
        self.rules = {
            rule.number: rule
            for rule in compiled.rules
            if rule.policy.profiles is None or profile in rule.policy.profiles
        }
        self.plans: dict[str | None, Plan | None] = {None: None}
        """What is to be done about types of events that came before; None is nothing."""
        self.timed: list[Rule] = []
        self.tampered: list[Rule] = []
        self._sorted = _Sorted()
        self.lexicons: dict[Speaker, Lexicon] = {}
        self.patterns: dict[Speaker, tuple[Rule, ...]] = {}
        by_class: dict[type, list[Rule]] = {
            rules.On: self._sorted.on,
            rules.Count: self._sorted.on,
            rules.Tool: self._sorted.tools,
            rules.Usage: self._sorted.usage,
            rules.Turns: self._sorted.turns,
            rules.Tampered: self.tampered,
        }
        timed = (rules.After, rules.Idle, rules.DeadAir, rules.UnansweredTool, rules.Absent)
        for rule in self.rules.values():
            by_class.get(type(rule.what), []).append(rule)
            if isinstance(rule.policy.trigger, timed):
                self.timed.append(rule)
        self.wants_turns = any(rule.policy.limit.consecutive > 1 for rule in self.rules.values())
        """Whether it matters which turn an item belongs to."""
        self._on = [(rule, _types(rule)) for rule in self._sorted.on]
        # types come from outside, and many rules name the same: each pattern is tried once for a type
        self._globs = {pattern for _, patterns in self._on for pattern in patterns}
        self._waiting = any(isinstance(rule.what, rules.UnansweredTool) for rule in self.timed)
        self._dead_air = any(isinstance(rule.what, rules.DeadAir) for rule in self.timed)
        for speaker in SPEAKERS:
            if speaker in compiled.lexicons and any(_listens(rule, speaker) for rule in self.rules.values()):
                self.lexicons[speaker] = compiled.lexicons[speaker]
            patterns = [
                rule
                for rule in self.rules.values()
                if isinstance(rule.what, rules.Regex) and rule.what.speaker == speaker
            ]
            if patterns:
                self.patterns[speaker] = tuple(patterns)

    def plan(self, event_type: str) -> Plan | None:
        """Say what is to be done about a type of event, and remember it."""
        name = canonical(event_type)[:MAX_TYPE]
        is_meant = {pattern: globs.matches(pattern, name) for pattern in self._globs}
        speaker = SPOKEN.get(name)
        if speaker not in self.lexicons and speaker not in self.patterns:
            speaker = None
        plan: Plan | None = Plan(
            on=tuple(rule for rule, patterns in self._on if any(map(is_meant.__getitem__, patterns))),
            speaker=speaker,
            tools=tuple(self._sorted.tools) if name in _CALLING else (),
            usage=tuple(self._sorted.usage) if name in _USING else (),
            turns=tuple(self._sorted.turns) if name.startswith(_TURNING) else (),
            waits=self._waiting and name in _ITEMS,
            sounds=self._dead_air and name.startswith(_SOUNDING),
        )
        if plan == _NOTHING:
            plan = None
        if len(event_type) <= MAX_TYPE:
            if len(self.plans) >= MAX_TYPES:
                self.plans.clear()
                self.plans[None] = None
            self.plans[event_type] = plan
        return plan


_NOTHING = Plan()


def _listens(rule: Rule, speaker: Speaker) -> bool:
    return isinstance(rule.what, rules.Phrase) and rule.what.speaker == speaker


def _types(rule: Rule) -> tuple[str, ...]:
    what = rule.what.on if isinstance(rule.what, rules.Count) else rule.what
    return tuple(map(canonical, what.types)) if isinstance(what, rules.On) else ()
