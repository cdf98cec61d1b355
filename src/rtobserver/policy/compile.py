"""Compile the tables of policies into frozen values, naming every mistake at once. Pure.

What is compiled was tried: patterns, phrases and conditions are accepted by what will run them, and
templates and conditions were run over samples of the events that they can meet.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any, cast, get_args

from rtobserver.config.policies import PolicyTables
from rtobserver.config.sections import Config, Secret
from rtobserver.config.values import Wrong, described, name, quoted
from rtobserver.errors import Mistake
from rtobserver.policy import rules, written_triggers
from rtobserver.policy.findings import Findings, Table, meant
from rtobserver.policy.rules import ACTION_NAMES, TRIGGER_NAMES, Action, Limit, Policy, PolicySet, PolicyTest, Trigger
from rtobserver.policy.weights import heaviness, searched_at, too_heavy
from rtobserver.policy.written_actions import Reader
from rtobserver.policy.written_paths import check_condition, check_templates
from rtobserver.policy.written_triggers import Lists

MODES: tuple[str, ...] = get_args(rules.Mode)

_CANARY_PERCENT = 10
"""Share of the calls in which a canary acts, if nothing else is said."""
_ONCE = (rules.After, rules.Absent, rules.Usage, rules.Turns)
"""Triggers that match once in a call."""
_WITHOUT_ITEM = (rules.After, rules.Idle, rules.DeadAir, rules.Absent, rules.Usage)
_WITH_FUNCTION_CALL = (rules.Tool, rules.UnansweredTool)


def compile_policies(config: Config, tables: PolicyTables) -> tuple[PolicySet, list[Mistake]]:
    """Compile all policies of a configuration; the set is whole exactly if there are no mistakes."""
    found = Findings(tables)
    lists = _lists(tables.lists, found)
    webhooks = tuple(webhook.id for webhook in config.webhooks) if tables.webhooks_known else None
    profiles = tuple(profile.name for profile in config.profiles) if tables.profiles_known else None
    compiler = _Compiler(found, lists, Reader(found, webhooks, tables.secrets), profiles)
    policies, tests, places = [], [], []
    ids: dict[str, str] = {}
    for path, raw in _tables(tables.policies, "policy", found):
        tests += [(f"{path}.test", raw["test"])] if "test" in raw else []
        if set(raw) != {"test"}:
            table = Table(found, raw, path)
            table.take("test")
            places.append(path)
            policies.append(compiler.policy(table, ids))
    # a test may name a policy of any file, so all ids are known first
    read = [test for path, raw in tests for test in _tests(raw, path, ids, found, tables)]
    kept = tuple(policy for policy in policies if policy is not None)
    if len(kept) == len(policies):
        for number, speaker in too_heavy(kept):
            found.wrong(f"{places[number]}.{searched_at(kept[number])}", *heaviness(speaker))
    return PolicySet(policies=kept, tests=tuple(read), hash=fingerprint(kept)), found.mistakes


def fingerprint(policies: Iterable[Policy]) -> str:
    """Give 16 hex digits over everything that decides; of a secret only that there is one."""
    written = [_plain(policy) for policy in policies]
    text = json.dumps(written, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class _Compiler:
    found: Findings
    lists: Lists
    reader: Reader
    profiles: tuple[str, ...] | None
    """The names of profiles; None where they are not known."""

    def policy(self, table: Table, ids: dict[str, str]) -> Policy | None:
        """Compile one policy; None if there is a mistake in it. `ids` has those before it, and where they stand."""
        before = len(self.found.mistakes)
        id_ = self._id(table, ids)
        mode, percent = self._mode(table)
        profiles = self._profiles(table)
        trigger = written_triggers.trigger(table, self.found, self.lists)
        when = table.take("when")
        if when is not None:
            when = self.found.text(when, table.at("when"), "call.turn_count > 1")
            if when is not None:
                check_condition(self.found, when, trigger, table.at("when"))
        limit = self._limit(table, trigger)
        actions = self._actions(table, trigger)
        table.close()
        if len(self.found.mistakes) > before or id_ is None or trigger is None or actions is None:
            return None
        return Policy(
            id=id_,
            trigger=trigger,
            actions=actions,
            mode=cast("rules.Mode", mode),
            canary_percent=percent,
            profiles=profiles,
            when=when,
            limit=limit,
        )

    def _id(self, table: Table, ids: dict[str, str]) -> str | None:
        value, path = table.need("id", "write a name of letters, digits, hyphens and underscores"), table.at("id")
        if "id" not in table:
            return None
        if not isinstance(value, str):
            self.found.wrong(path, f"must be a text in quotes, not {described(value)}", 'as in "refund"')
            return None
        try:
            name(value)
        except Wrong as wrong:
            self.found.caught(path, wrong)
            return None
        if value in ids:
            self.found.wrong(path, f"{quoted(value)} is the id of {self.found.shown(ids[value])} too", "choose another")
            return None
        ids[value] = table.path
        return value

    def _mode(self, table: Table) -> tuple[str | None, int]:
        mode, percent = table.take("mode"), table.take("canary_percent")
        read = "observe" if mode is None else self.found.choice(mode, table.at("mode"), MODES)
        if percent is None:
            return read, _CANARY_PERCENT
        path = table.at("canary_percent")
        count = self.found.whole(percent, path, 1, 100)
        if read not in ("canary", None):
            self.found.wrong(path, f"has no effect: mode is {quoted(read)}", 'write mode = "canary", or leave it out')
        return read, count or 1

    def _profiles(self, table: Table) -> tuple[str, ...] | None:
        value = table.take("profiles")
        if value is None:
            return None
        names = self.found.texts(value, table.at("profiles"), '["default"]')
        for index, each in enumerate(names or ()):
            if self.profiles is not None and each not in self.profiles:
                remedy = meant(each, self.profiles) or f"there is {', '.join(self.profiles)}"
                self.found.wrong(f"{table.at('profiles')}[{index}]", f"there is no profile {quoted(each)}", remedy)
        return None if names is None else tuple(dict.fromkeys(names))

    def _limit(self, table: Table, trigger: Trigger | None) -> Limit:
        value = table.take("limit")
        inner = None if value is None else self.found.table(value, table.at("limit"), "{ per_call = 1 }")
        if inner is None:
            return Limit()
        read: dict[str, Any] = {}
        for key, least in (("per_call", 0), ("consecutive", 1), ("per_minute", 0)):
            if (each := inner.take(key)) is not None:
                read[key] = self.found.whole(each, inner.at(key), least, 1_000_000)
        if (each := inner.take("cooldown")) is not None:
            read["cooldown"] = self.found.duration(each, inner.at("cooldown"), zero=True)
        inner.close()
        if isinstance(trigger, _ONCE) and (read.get("consecutive") or 1) > 1:
            problem = f"is never reached: {TRIGGER_NAMES[type(trigger)]} matches once in a call"
            self.found.wrong(inner.at("consecutive"), problem, "leave it out")
        return Limit(**{key: each for key, each in read.items() if each is not None})

    def _actions(self, table: Table, trigger: Trigger | None) -> tuple[Action, ...] | None:
        value = table.need("do", 'write a list of actions, as in [{ tag = "refund" }]')
        if "do" not in table:
            return None
        actions = self.reader.actions(value, table.at("do"))
        for action, path in self.reader.drafts(value, table.at("do")):
            check_templates(self.found, action, trigger, path)
            if trigger is not None and (problem := _unfit(action, trigger)):
                self.found.wrong(f"{path}.{ACTION_NAMES[type(action)]}", *problem)
        return actions


def _unfit(action: Action, trigger: Trigger) -> tuple[str, str] | None:
    """Give why an action can do nothing with what a trigger matches."""
    word = TRIGGER_NAMES[type(trigger)]
    if isinstance(action, rules.DeleteItem) and action.item_id is None and isinstance(trigger, _WITHOUT_ITEM):
        return f"deletes the matched item, and {word} matches none", "name an item by its id"
    if isinstance(action, rules.AnswerTool) and not isinstance(trigger, _WITH_FUNCTION_CALL):
        return f"answers a function call, and {word} matches none", 'use the trigger tool, as in { name = "*" }'
    return None


def _lists(value: Any, found: Findings) -> Lists:
    if not isinstance(value, dict):
        found.wrong("lists", f"must be a table of lists, not {described(value)}", 'as in money = ["refund"]')
        return Lists(found, {})
    texts: dict[str, tuple[str, ...] | None] = {}
    table = Table(found, value, "lists")
    for key in value:
        texts[key] = None
        try:
            name(key)
        except Wrong as wrong:
            found.caught(table.at(key), wrong)
        read = found.texts(value[key], table.at(key), '["refund", "chargeback"]')
        good = True
        for index, text in enumerate(value[key] if isinstance(value[key], list) else ()):
            at = f"{table.at(key)}[{index}]"
            if isinstance(text, str) and text.startswith("@"):
                found.wrong(at, "names a list", "lists hold no other lists")
                good = False
            elif isinstance(text, str) and text.strip():
                good = written_triggers.has_words(found, text, at) and good
        texts[key] = read if good else None
    return Lists(found, texts)


def _tables(value: Any, path: str, found: Findings) -> list[tuple[str, dict[str, Any]]]:
    """Give the tables of an array with their key paths."""
    if not isinstance(value, list):
        remedy = "its name stands in double brackets on a line of its own"
        found.wrong(path, f"must be an array of tables, not {described(value)}", remedy)
        return []
    for at, each in enumerate(value):
        if not isinstance(each, dict):
            found.wrong(f"{path}[{at}]", f"must be a table, not {described(each)}", f"write [[{path}]]")
    return [(f"{path}[{at}]", each) for at, each in enumerate(value) if isinstance(each, dict)]


def _tests(
    value: Any, path: str, ids: Mapping[str, str], found: Findings, tables: PolicyTables
) -> Iterable[PolicyTest]:
    for at, raw in _tables(value, path, found):
        table = Table(found, raw, at)
        title = table.need("name", "say in a few words what is tested")
        events = table.need("events", 'write a file\'s path, as in "tests/refund.ndjson"')
        expect = table.need("expect", "write the decisions, or [] if there are none")
        table.close()
        title = found.text(title, table.at("name"), "a phrase split over deltas") if "name" in table else None
        events = found.text(events, table.at("events"), "tests/refund.ndjson") if "events" in table else None
        if "expect" not in table or not isinstance(expect, list):
            if "expect" in table:
                remedy = 'as in [{ policy = "refund", actions = ["tag"] }], or []'
                found.wrong(table.at("expect"), f"must be a list of tables, not {described(expect)}", remedy)
            continue
        rows = [_expected(each, f"{table.at('expect')}[{index}]", ids, found) for index, each in enumerate(expect)]
        kept = tuple(row for row in rows if row is not None)
        if title is not None and events is not None and len(kept) == len(rows):
            place = tables.place(at)
            file = posixpath.normpath(posixpath.join(place.folder, events))
            shown = ": ".join(part for part in (place.file, place.path) if part)
            yield PolicyTest(name=title, events=file, expect=kept, place=shown)


def _expected(value: Any, path: str, ids: Mapping[str, str], found: Findings) -> tuple[str, tuple[str, ...]] | None:
    table = found.table(value, path, '{ policy = "refund", actions = ["tag"] }')
    if table is None:
        return None
    policy = table.need("policy", "write the id of a policy")
    actions = table.need("actions", "write the names of its actions, in their order")
    table.close()
    is_known = isinstance(policy, str) and policy in ids
    if "policy" in table and not is_known:
        problem = f"there is no policy {quoted(policy)}" if isinstance(policy, str) else "must be a text in quotes"
        found.wrong(table.at("policy"), problem, meant(str(policy), ids) or "write the id of a policy")
    if "actions" not in table:
        return None
    elements = found.elements(actions, table.at("actions"), "names of actions", '["cancel_response", "tag"]')
    names = [found.choice(each, at, ACTION_NAMES.values()) for at, each in elements]
    kept = tuple(each for each in names if each is not None)
    return (policy, kept) if is_known and kept and len(kept) == len(names) else None


def _plain(value: Any) -> Any:
    """Give a value as JSON, the same for the same meaning."""
    match value:
        case Secret():
            return True
        case Decimal():
            return str(value.normalize())
        case Policy(profiles=tuple() as profiles):
            return {**_members(value), "profiles": sorted(profiles)}
        case rules.Tampered(keys=tuple() as keys):
            return {"is": "Tampered", "keys": sorted(keys)}
        case Mapping():
            return {str(key): _plain(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_plain(inner) for inner in value]
        case _ if hasattr(value, "__dataclass_fields__"):
            return _members(value)
    return value


def _members(value: Any) -> dict[str, Any]:
    return {"is": type(value).__name__, **{field.name: _plain(getattr(value, field.name)) for field in fields(value)}}
