"""Read a policy's trigger as it is written. Pure.

Each function gives the trigger, or None after it has noted what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, cast, get_args

from rtobserver.config.values import described, quoted
from rtobserver.policy import rules
from rtobserver.policy.findings import Findings, Table, meant
from rtobserver.policy.phrases import PhraseError, Phrases
from rtobserver.policy.regexes import PatternError, compile_pattern
from rtobserver.policy.rules import TRIGGER_NAMES, Trigger
from rtobserver.realtime.names import canonical

NAMES = tuple(TRIGGER_NAMES.values())
SPEAKERS: tuple[str, ...] = get_args(rules.Speaker)
METERS: tuple[str, ...] = get_args(rules.Meter)
TAMPERED_KEYS = (
    *("instructions", "tools", "tool_choice", "voice", "turn_detection", "transcription", "output_modalities"),
    *("noise_reduction", "format", "speed", "max_output_tokens", "truncation", "tracing", "include", "prompt"),
    *("reasoning", "parallel_tool_calls"),
    *("items", "outputs"),
)
"""What a `tampered` trigger can name; within `audio` what is set for input or output."""

_PHRASE = '{ speaker = "assistant", any = ["refund"] }'
_REGEX = '{ speaker = "user", pattern = "account [0-9]+" }'
_TOOL = '{ name = "get_weather" }'
_COUNT = '{ on = "error", at_least = 3, within = "1m" }'
_ABSENT = '{ phrase = { speaker = "assistant", any = ["recorded"] }, within = "30s" }'
_USAGE = "{ cost_usd = 1.5 }"
_IN_TIME = ("phrase", "regex", "on", "tool")
"""Triggers that `absent` can wait for in vain."""


@dataclass(frozen=True, slots=True)
class Lists:
    """Be the operator's lists of texts."""

    found: Findings
    texts: Mapping[str, tuple[str, ...] | None]
    """None for a list that is wrong."""

    def phrases(self, value: Any, path: str) -> tuple[str, ...] | None:
        """Give phrases with `@list` filled in; each that nothing can be found by is a mistake."""
        gathered: dict[str, None] = {}
        elements = self.found.elements(value, path, "texts", '["refund", "@money"]')
        is_good = bool(elements)
        for at, each in elements:
            phrase = self.found.text(each, at, "refund")
            if phrase is None:
                is_good = False
            elif phrase.startswith("@"):
                listed = self._listed(phrase[1:], at)
                is_good = is_good and listed is not None
                gathered.update(dict.fromkeys(listed or ()))
            else:
                is_good = has_words(self.found, phrase, at) and is_good
                gathered[phrase] = None
        return tuple(gathered) if is_good else None

    def _listed(self, name: str, at: str) -> tuple[str, ...] | None:
        if name not in self.texts:
            remedy = meant(name, self.texts) or "lists stand under [lists]"
            self.found.wrong(at, f"there is no list {quoted(name)}", remedy)
            return None
        return self.texts[name]


def trigger(table: Table, found: Findings, lists: Lists) -> Trigger | None:
    """Read the one trigger of a policy."""
    written = [name for name in NAMES if name in table]
    if not written:
        found.wrong(table.path, "has no trigger", f"write one of {', '.join(NAMES)}")
    for name in written[1:]:
        found.wrong(table.at(name), f"is a second trigger beside {written[0]}", "write a policy for each")
    read = [_READERS[name](table.take(name), table.at(name), found, lists) for name in written]
    # so that a misspelt key is compared with triggers too
    for name in NAMES:
        table.take(name)
    return read[0] if len(read) == 1 else None


def _on(value: Any, path: str, found: Findings, _lists: Lists) -> rules.On | None:
    types: tuple[str | None, ...]
    if isinstance(value, str):
        types = (_type(value, path, found),)
    elif isinstance(value, list):
        types = tuple(_type(each, at, found) for at, each in found.elements(value, path, "texts", '["response.done"]'))
    else:
        found.wrong(path, f"must be a type of event in quotes, or a list of them, not {described(value)}", _EVENT)
        return None
    kept = tuple(dict.fromkeys(each for each in types if each))
    return rules.On(types=kept) if kept and None not in types else None


_EVENT = 'as in "response.done" or "conversation.item.*"'
_TYPE_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-*?")


def _type(value: Any, path: str, found: Findings) -> str | None:
    type_ = found.text(value, path, "response.done")
    if type_ is not None and (not _TYPE_CHARACTERS.issuperset(type_) or len(type_) > 200):
        found.wrong(path, f"is no type of event: {quoted(type_)}", f"{_EVENT}; * and ? stand for other characters")
        return None
    return canonical(type_) if type_ else None


def _phrase(value: Any, path: str, found: Findings, lists: Lists) -> rules.Phrase | None:
    table = found.table(value, path, _PHRASE)
    if table is None:
        return None
    speaker = _speaker(table, found)
    phrases = _needed(table, "any", lists.phrases, "write the phrases that are looked for", found)
    whole = table.take("whole")
    if whole is not None and not isinstance(whole, bool):
        found.wrong(table.at("whole"), f"must be true or false, not {described(whole)}", "without quotes")
        whole = None
    table.close()
    if speaker is None or phrases is None:
        return None
    return rules.Phrase(speaker=cast("rules.Speaker", speaker), phrases=phrases, whole=bool(whole))


def has_words(found: Findings, phrase: str, path: str) -> bool:
    """Check that something can be found by a phrase."""
    try:
        Phrases([phrase], whole=False)
    except PhraseError as error:
        found.wrong(path, f"cannot be looked for: {error}", "write the words as they are said")
        return False
    return True


def _regex(value: Any, path: str, found: Findings, _lists: Lists) -> rules.Regex | None:
    table = found.table(value, path, _REGEX)
    if table is None:
        return None
    speaker = _speaker(table, found)
    pattern = _needed(table, "pattern", _pattern(found), "write an RE2 pattern", found)
    table.close()
    if speaker is None or pattern is None:
        return None
    return rules.Regex(speaker=cast("rules.Speaker", speaker), pattern=pattern)


def _pattern(found: Findings) -> Callable[[Any, str], str | None]:
    def read(value: Any, path: str) -> str | None:
        pattern = found.text(value, path, "account [0-9]+")
        if pattern is None:
            return None
        try:
            compile_pattern(pattern)
        except PatternError as error:
            found.wrong(path, f"cannot be used: {error}", "patterns are RE2's, which matches in bounded time")
            return None
        return pattern

    return read


def _tool(value: Any, path: str, found: Findings, _lists: Lists) -> rules.Tool | None:
    table = found.table(value, path, _TOOL)
    if table is None:
        return None
    name = _needed(table, "name", found.text, 'write the function\'s name, or "*" for any', found)
    arguments = table.take("arguments")
    if arguments is not None and not isinstance(arguments, dict):
        found.wrong(table.at("arguments"), f"must be a table, not {described(arguments)}", 'as in { city = "Oslo" }')
        name = None
    elif arguments and found.json(arguments, table.at("arguments")) is None:
        name = None
    table.close()
    return None if name is None else rules.Tool(name=name, arguments=arguments or {})


def _timer(kind: Callable[..., Trigger]) -> _Reader:
    def read(value: Any, path: str, found: Findings, _lists: Lists) -> Trigger | None:
        seconds = found.duration(value, path)
        return None if seconds is None else kind(seconds=seconds)

    return read


def _absent(value: Any, path: str, found: Findings, lists: Lists) -> rules.Absent | None:
    table = found.table(value, path, _ABSENT)
    if table is None:
        return None
    written = [name for name in _IN_TIME if name in table]
    if len(written) != 1:
        problem = "names more than one thing that may be absent" if written else "does not say what may be absent"
        found.wrong(path, problem, f"write one of {', '.join(_IN_TIME)}")
    read = [_READERS[name](table.take(name), table.at(name), found, lists) for name in written]
    for name in _IN_TIME:
        table.take(name)
    within = _needed(table, "within", found.duration, 'write it as in "30s", from the start of the call', found)
    table.close()
    if len(read) != 1 or within is None or read[0] is None:
        return None
    return rules.Absent(what=cast("rules.On | rules.Phrase | rules.Regex | rules.Tool", read[0]), within=within)


def _count(value: Any, path: str, found: Findings, lists: Lists) -> rules.Count | None:
    table = found.table(value, path, _COUNT)
    if table is None:
        return None
    on = _needed(table, "on", lambda each, at: _on(each, at, found, lists), f"write types of events, {_EVENT}", found)
    least = _needed(table, "at_least", lambda each, at: found.whole(each, at, 1, 100_000), "as in 3", found)
    within = _needed(table, "within", found.duration, 'write it as in "1m"', found)
    table.close()
    if on is None or least is None or within is None:
        return None
    return rules.Count(on=on, at_least=least, within=within)


def _usage(value: Any, path: str, found: Findings, _lists: Lists) -> rules.Usage | None:
    table = found.table(value, path, _USAGE)
    if table is None:
        return None
    written = [name for name in METERS if name in table]
    if len(written) != 1:
        problem = "names more than one meter" if written else "names no meter"
        found.wrong(path, problem, f"write one of {', '.join(METERS)}, as in {_USAGE}")
    amounts = [_amount(table.take(name), table.at(name), found, is_whole=name == "total_tokens") for name in written]
    for name in METERS:
        table.take(name)
    table.close()
    if len(amounts) != 1 or amounts[0] is None:
        return None
    return rules.Usage(meter=cast("rules.Meter", written[0]), at_least=amounts[0])


def _amount(value: Any, path: str, found: Findings, *, is_whole: bool) -> Decimal | None:
    if is_whole:
        count = found.whole(value, path, 1)
        return None if count is None else Decimal(count)
    if isinstance(value, bool) or not isinstance(value, int | float):
        found.wrong(path, f"must be a number, not {described(value)}", "as in 1.5, without quotes")
    elif not 0 < value <= 1_000_000_000:
        found.wrong(path, f"must be more than 0, not {str(value)[:20]}", "as in 1.5")
    else:
        return Decimal(str(value)).normalize()
    return None


def _turns(value: Any, path: str, found: Findings, _lists: Lists) -> rules.Turns | None:
    number = found.whole(value, path, 1, 100_000)
    return None if number is None else rules.Turns(at_least=number)


def _tampered(value: Any, path: str, found: Findings, _lists: Lists) -> rules.Tampered | None:
    if not isinstance(value, list):
        remedy = 'write true for any change, or a list as in ["instructions", "tools"]'
        return rules.Tampered(keys=None) if found.yes(value, path, remedy) else None
    elements = found.elements(value, path, "texts", '["instructions", "tools"]')
    keys = [found.choice(each, at, TAMPERED_KEYS) for at, each in elements]
    kept = tuple(dict.fromkeys(key for key in keys if key is not None))
    return rules.Tampered(keys=kept) if kept and None not in keys else None


def _speaker(table: Table, found: Findings) -> str | None:
    remedy = 'write "user" or "assistant"'
    speaker: str | None = _needed(table, "speaker", lambda each, at: found.choice(each, at, SPEAKERS), remedy, found)
    return speaker


_Reader = Callable[[Any, str, Findings, Lists], Trigger | None]


def _needed(table: Table, key: str, read: Callable[[Any, str], Any], remedy: str, found: Findings) -> Any:
    """Read a key that must be there; None where it is not, or is wrong."""
    value = table.need(key, remedy)
    return read(value, table.at(key)) if key in table else None


_READERS: Mapping[str, _Reader] = {
    "on": _on,
    "phrase": _phrase,
    "regex": _regex,
    "tool": _tool,
    "after": _timer(rules.After),
    "idle": _timer(rules.Idle),
    "dead_air": _timer(rules.DeadAir),
    "unanswered_tool": _timer(rules.UnansweredTool),
    "absent": _absent,
    "count": _count,
    "usage": _usage,
    "turns": _turns,
    "tampered": _tampered,
}
