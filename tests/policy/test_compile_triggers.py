from decimal import Decimal

import pytest

from rtobserver.policy import rules
from tests.policy.written import compiled, only, policy, refused, trigger_of


@pytest.mark.parametrize(
    ("written", "trigger"),
    [
        ('on = "response.done"', rules.On(types=("response.done",))),
        (
            'on = ["response.done", "conversation.*", "response.done"]',
            rules.On(types=("response.done", "conversation.*")),
        ),
        ('on = "some.future_type-2"', rules.On(types=("some.future_type-2",))),
        (
            'phrase = { speaker = "user", any = ["Geld zurück", "stop"] }',
            rules.Phrase(speaker="user", phrases=("Geld zurück", "stop")),
        ),
        (
            'phrase = { speaker = "assistant", any = ["a"], whole = true }',
            rules.Phrase(speaker="assistant", phrases=("a",), whole=True),
        ),
        (
            r"regex = { speaker = 'assistant', pattern = '\b[0-9]{16}\b' }",
            rules.Regex(speaker="assistant", pattern=r"\b[0-9]{16}\b"),
        ),
        ('tool = { name = "get_*" }', rules.Tool(name="get_*", arguments={})),
        (
            'tool = { name = "pay", arguments = { amount = 5, to = { name = "x" } } }',
            rules.Tool(name="pay", arguments={"amount": 5, "to": {"name": "x"}}),
        ),
        ('after = "20m"', rules.After(seconds=1200.0)),
        ('idle = "90s"', rules.Idle(seconds=90.0)),
        ('dead_air = "250ms"', rules.DeadAir(seconds=0.25)),
        ('unanswered_tool = "5s"', rules.UnansweredTool(seconds=5.0)),
        (
            'absent = { phrase = { speaker = "assistant", any = ["recorded"] }, within = "30s" }',
            rules.Absent(what=rules.Phrase(speaker="assistant", phrases=("recorded",)), within=30.0),
        ),
        (
            'absent = { regex = { speaker = "user", pattern = "yes" }, within = "1m" }',
            rules.Absent(what=rules.Regex(speaker="user", pattern="yes"), within=60.0),
        ),
        (
            'absent = { on = "input_audio_buffer.committed", within = "1m" }',
            rules.Absent(what=rules.On(types=("input_audio_buffer.committed",)), within=60.0),
        ),
        (
            'absent = { tool = { name = "verify" }, within = "1m" }',
            rules.Absent(what=rules.Tool(name="verify", arguments={}), within=60.0),
        ),
        (
            'count = { on = "error", at_least = 3, within = "1m" }',
            rules.Count(on=rules.On(types=("error",)), at_least=3, within=60.0),
        ),
        ("usage = { cost_usd = 1.50 }", rules.Usage(meter="cost_usd", at_least=Decimal("1.5"))),
        ("usage = { cost_usd = 2 }", rules.Usage(meter="cost_usd", at_least=Decimal(2))),
        ("usage = { total_tokens = 100000 }", rules.Usage(meter="total_tokens", at_least=Decimal(100_000))),
        ("usage = { output_audio_seconds = 60 }", rules.Usage(meter="output_audio_seconds", at_least=Decimal(60))),
        ("turns = 20", rules.Turns(at_least=20)),
        ("tampered = true", rules.Tampered(keys=None)),
        ('tampered = ["tools", "items"]', rules.Tampered(keys=("tools", "items"))),
    ],
)
def test_a_trigger_is_read(written: str, trigger: rules.Trigger) -> None:
    assert trigger_of(written) == trigger


@pytest.mark.parametrize(
    ("written", "mistake"),
    [
        ("on = 5", "policy[0].on: must be a type of event in quotes, or a list of them, not a whole number"),
        ("on = []", "policy[0].on: is empty"),
        ('on = ["error", ""]', "policy[0].on[1]: is empty"),
        ('on = ["error", "response done"]', 'policy[0].on[1]: is no type of event: "response done"'),
        ('phrase = "refund"', "policy[0].phrase: must be a table, not a text"),
        ('phrase = { any = ["a"] }', "policy[0].phrase.speaker: is missing"),
        ('phrase = { speaker = "user" }', "policy[0].phrase.any: is missing"),
        ('phrase = { speaker = "user", any = "a" }', "policy[0].phrase.any: must be a list of texts, not a text"),
        ('phrase = { speaker = "user", any = [] }', "policy[0].phrase.any: is empty"),
        ('phrase = { speaker = "user", any = ["a", 1] }', "policy[0].phrase.any[1]: must be a text in quotes"),
        ('phrase = { speaker = "user", any = ["a", " "] }', "policy[0].phrase.any[1]: is empty"),
        (
            'phrase = { speaker = "user", any = ["a", "?!"] }',
            "policy[0].phrase.any[1]: cannot be looked for: there is no",
        ),
        (
            'phrase = { speaker = "bot", any = ["a"] }',
            'policy[0].phrase.speaker: must be one of "user", "assistant", not',
        ),
        ('phrase = { speaker = "user", any = ["a"], whole = 1 }', "policy[0].phrase.whole: must be true or false"),
        ('phrase = { speaker = "user", any = ["a"], hole = true }', "policy[0].phrase.hole: is not a setting"),
        (
            'regex = { speaker = "user", pattern = "(a" }',
            "policy[0].regex.pattern: cannot be used: RE2 does not take it",
        ),
        ('regex = { speaker = "user", pattern = "(?=a)b" }', "policy[0].regex.pattern: cannot be used: RE2 does not"),
        (
            'regex = { speaker = "user", pattern = "a*" }',
            "policy[0].regex.pattern: cannot be used: it matches the empty",
        ),
        ('regex = { speaker = "user" }', "policy[0].regex.pattern: is missing"),
        ("tool = { arguments = { a = 1 } }", "policy[0].tool.name: is missing"),
        ('tool = { name = "a", arguments = 1 }', "policy[0].tool.arguments: must be a table, not a whole number"),
        ('tool = { name = "a", arguments = { b = nan } }', "policy[0].tool.arguments.b: has no number in JSON: nan"),
        ("after = 20", "policy[0].after: must be a duration in quotes, not a whole number"),
        ('idle = "20"', 'policy[0].idle: is not a duration: "20"'),
        ('dead_air = "0s"', "policy[0].dead_air: must be longer than nothing"),
        ('unanswered_tool = "1y"', 'policy[0].unanswered_tool: is not a duration: "1y"'),
        ('absent = { within = "1s" }', "policy[0].absent: does not say what may be absent"),
        ('absent = { on = "error" }', "policy[0].absent.within: is missing"),
        (
            'absent = { on = "error", tool = { name = "a" }, within = "1s" }',
            "policy[0].absent: names more than one thing that may be absent",
        ),
        ('absent = { after = "2s", within = "1s" }', "policy[0].absent.after: is not a setting"),
        ('count = { on = "error", at_least = 0, within = "1m" }', "policy[0].count.at_least: must be between 1 and"),
        ('count = { on = 1, at_least = 1, within = "1m" }', "policy[0].count.on: must be a type of event"),
        ("usage = {}", "policy[0].usage: names no meter"),
        ("usage = { cost_usd = 1, total_tokens = 1 }", "policy[0].usage: names more than one meter"),
        ("usage = { cost_usd = 0 }", "policy[0].usage.cost_usd: must be more than 0, not 0"),
        ("usage = { cost_usd = inf }", "policy[0].usage.cost_usd: must be more than 0, not inf"),
        ('usage = { cost_usd = "1" }', "policy[0].usage.cost_usd: must be a number, not a text"),
        ("usage = { total_tokens = 1.5 }", "policy[0].usage.total_tokens: must be a whole number, not a number"),
        ("usage = { cost_eur = 1 }", "policy[0].usage.cost_eur: is not a setting"),
        ("turns = true", "policy[0].turns: must be a whole number, not true or false"),
        ("tampered = false", "policy[0].tampered: cannot be false"),
        ('tampered = "tools"', "policy[0].tampered: must be true, not a text"),
        ('tampered = ["tool"]', 'policy[0].tampered[0]: must be one of "instructions", "tools"'),
        ("", "policy[0]: has no trigger"),
    ],
)
def test_a_trigger_of_another_shape_is_refused(written: str, mistake: str) -> None:
    found = refused(policy(trigger=written))
    assert any(each.startswith(mistake) for each in found), found
    assert all(each.startswith("policy[0]") for each in found)


def test_a_policy_has_one_trigger_and_every_other_is_named() -> None:
    assert refused(policy(trigger='on = "error"\nafter = "1s"\nturns = 3')) == [
        "policy[0].after: is a second trigger beside on",
        "policy[0].turns: is a second trigger beside on",
    ]


def test_old_names_of_events_are_made_present_ones() -> None:
    trigger = trigger_of(
        'on = ["response.audio_transcript.delta", "response.output_audio_transcript.delta", "response.*"]'
    )
    assert trigger == rules.On(types=("response.output_audio_transcript.delta", "response.*"))


def test_lists_are_filled_in_where_they_are_named_each_phrase_once() -> None:
    phrase = 'phrase = { speaker = "user", any = ["chargeback", "@money", "refund"] }'
    assert only('lists.money = ["refund", "money back"]\n' + policy(trigger=phrase)).trigger == rules.Phrase(
        speaker="user", phrases=("chargeback", "refund", "money back")
    )


def test_lists_of_all_files_are_known_to_policies_of_all_files() -> None:
    phrase = 'phrase = { speaker = "user", any = ["@mo", "@ney"] }'
    one, two = 'lists.mo = ["a"]\n' + policy(trigger=phrase), 'lists.ney = ["b"]\n'
    (found,) = compiled('include = ["?.toml"]\n', a_toml=one, b_toml=two).policies
    assert found.trigger == rules.Phrase(speaker="user", phrases=("a", "b"))


@pytest.mark.parametrize(
    ("lists", "any_", "mistakes"),
    [
        ('lists.money = ["a"]', "@mony", ['policy[0].phrase.any[0]: there is no list "mony"']),
        ("lists.money = []", "@money", ["lists.money: is empty"]),
        ('lists.money = ["a", 1]', "@money", ["lists.money[1]: must be a text in quotes, not a whole number"]),
        ('lists.money = "a"', "@money", ["lists.money: must be a list of texts, not a text"]),
        ('lists.money = ["a", "--"]', "@money", ["lists.money[1]: cannot be looked for: there is no word in"]),
        ('lists.money = ["@other"]', "@money", ["lists.money[0]: names a list"]),
        ('lists."a b" = ["c"]', "d", ['lists."a b": is not a name: "a b"']),
        ("lists = 3", "d", ["lists: must be a table of lists, not a whole number"]),
    ],
)
def test_a_list_that_cannot_be_used_is_a_mistake_where_it_stands(lists: str, any_: str, mistakes: list[str]) -> None:
    found = refused(f"{lists}\n" + policy(trigger=f'phrase = {{ speaker = "user", any = ["{any_}"] }}'))
    assert len(found) == len(mistakes)
    assert all(each.startswith(mistake) for each, mistake in zip(found, mistakes, strict=True)), found
