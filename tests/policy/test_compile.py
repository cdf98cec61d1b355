import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rtobserver.config.policies import PolicyTables
from rtobserver.config.sections import Config, Profile, Secret, Upstream, Webhook
from rtobserver.errors import Mistake
from rtobserver.policy import rules
from rtobserver.policy.compile import compile_policies, fingerprint
from rtobserver.policy.rules import ACTION_NAMES, TRIGGER_NAMES, Limit
from rtobserver.settings import load
from tests.policy.written import compiled, only, policy, refused

CONFIG = Config(
    upstream=Upstream(provider="compatible", base_url="http://127.0.0.1:9000/v1", auth="entra"),
    profiles=(Profile(name="default", session={"model": "m"}), Profile(name="support", session={"model": "m"})),
    webhooks=(Webhook(id="alerts", url="https://ops.example.com/hook"),),
)
DESIGNED = """
[lists]
money = ["refund", "chargeback", "money back"]

[[policy]]
id = "refund-needs-manager"
mode = "canary"
canary_percent = 25
profiles = ["support"]
phrase = { speaker = "assistant", any = ["@money"] }
when = "call.turn_count > 1"
limit = { per_call = 2, cooldown = "20s", consecutive = 1, per_minute = 60 }
do = [
  { cancel_response = true },
  { say = "Let me check that with a colleague." },
  { tag = "refund" },
]

[[policy.test]]
name = "a phrase split over deltas"
events = "tests/refund.ndjson"
expect = [{ policy = "refund-needs-manager", actions = ["cancel_response", "say", "tag"] }]
"""


def test_the_policy_of_the_design_is_read_to_the_letter() -> None:
    found = compiled(DESIGNED)
    assert found.policies == (
        rules.Policy(
            id="refund-needs-manager",
            mode="canary",
            canary_percent=25,
            profiles=("support",),
            trigger=rules.Phrase(speaker="assistant", phrases=("refund", "chargeback", "money back")),
            when="call.turn_count > 1",
            limit=Limit(per_call=2, cooldown=20.0, consecutive=1, per_minute=60),
            actions=(
                rules.CancelResponse(),
                rules.Say(text="Let me check that with a colleague."),
                rules.Tag(tag="refund"),
            ),
        ),
    )
    (test,) = found.tests
    assert (test.name, test.expect) == (
        "a phrase split over deltas",
        (("refund-needs-manager", ("cancel_response", "say", "tag")),),
    )


def test_what_is_left_out_has_its_default() -> None:
    found = only(policy())
    assert found == rules.Policy(id="p", trigger=rules.On(types=("error",)), actions=(rules.Tag(tag="a"),))
    assert (found.mode, found.profiles, found.limit) == ("observe", None, Limit(per_call=0, per_minute=60))


def test_no_policies_are_a_set_too() -> None:
    assert compiled("").policies == ()
    assert compiled("lists.a = ['b']\n").hash == compiled("").hash


@pytest.mark.parametrize(
    ("lines", "mistake"),
    [
        ('mode = "enforced"', 'policy[0].mode: must be one of "observe", "canary", "enforce", not "enforced"'),
        ("mode = true", "policy[0].mode: must be a text in quotes, not true or false"),
        ("canary_percent = 20", 'policy[0].canary_percent: has no effect: mode is "observe"'),
        ('mode = "enforce"\ncanary_percent = 20', 'policy[0].canary_percent: has no effect: mode is "enforce"'),
        ('mode = "canary"\ncanary_percent = 0', "policy[0].canary_percent: must be between 1 and 100, not 0"),
        ('mode = "canary"\ncanary_percent = 101', "policy[0].canary_percent: must be between 1 and 100, not 101"),
        ('profiles = "default"', "policy[0].profiles: must be a list of texts, not a text"),
        ("profiles = []", "policy[0].profiles: is empty"),
        ('profiles = ["default", "suport"]', 'policy[0].profiles[1]: there is no profile "suport"'),
        ("limit = 2", "policy[0].limit: must be a table, not a whole number"),
        ("limit = { per_call = -1 }", "policy[0].limit.per_call: must be between 0 and"),
        ("limit = { consecutive = 0 }", "policy[0].limit.consecutive: must be between 1 and"),
        ("limit = { cooldown = 20 }", "policy[0].limit.cooldown: must be a duration in quotes, not a whole number"),
        ("limit = { per_hour = 2 }", "policy[0].limit.per_hour: is not a setting"),
        ("per_call = 2", "policy[0].per_call: is not a setting"),
        ("when = true", "policy[0].when: must be a text in quotes, not true or false"),
        ('when = ""', "policy[0].when: is empty"),
        ('when = "call.turn_count >"', "policy[0].when: is no condition: "),
        ('when = "call.turn_count + 1"', "policy[0].when: is no condition: it gives INT"),
        ("when = \"call.turn_count > '1'\"", "policy[0].when: can never be evaluated"),
        ("test = 5", "policy[0].test: must be an array of tables, not a whole number"),
        ("test = [5]", "policy[0].test[0]: must be a table, not a whole number"),
    ],
)
def test_a_policy_with_one_wrong_setting_is_refused_with_one_mistake(lines: str, mistake: str) -> None:
    (found,) = refused(policy(lines))
    assert found.startswith(mistake)


def test_ids_are_names_and_unique_over_all_files() -> None:
    assert refused(policy(id_="a b")) == ['policy[0].id: is not a name: "a b"']
    assert refused('[[policy]]\non = "error"\ndo = [{ tag = "a" }]\n') == ["policy[0].id: is missing"]
    assert refused(policy() + policy()) == ['policy[1].id: "p" is the id of policy[0] too']
    assert refused('include = ["a.toml"]\n' + policy(), a_toml=policy(id_="q") + policy()) == [
        'a.toml: policy[1].id: "p" is the id of policy[0] in config.toml too'
    ]


def test_a_policy_without_actions_is_refused() -> None:
    assert refused('[[policy]]\nid = "p"\non = "error"\n') == ["policy[0].do: is missing"]
    assert refused(policy(do="")) == ["policy[0].do: is empty"]
    assert refused('[[policy]]\nid = "p"\non = "error"\ndo = "tag"\n') == [
        "policy[0].do: must be a list of actions, not a text"
    ]


def test_policies_that_are_no_array_of_tables_are_refused() -> None:
    assert refused('[policy]\nid = "p"\n') == ["policy: must be an array of tables, not a table"]
    assert refused("policy = [1]\n") == ["policy[0]: must be a table, not a whole number"]


def test_turns_in_a_row_make_no_sense_for_what_matches_once() -> None:
    assert refused(policy("limit = { consecutive = 2 }", trigger="turns = 3")) == [
        "policy[0].limit.consecutive: is never reached: turns matches once in a call"
    ]


def test_fifteen_mistakes_in_two_files_are_fifteen_messages_each_with_file_and_key_path() -> None:
    main = """
include = ["policies.toml"]
public.prot = 8080
lists.money = ["refund", "..."]

[[policy]]
id = "one"
mode = "enforced"
phrase = { speaker = "assistant", any = ["a", "@mony"] }
do = [{ cancel_response = false }, { say = "{{ match.text }}" }]

[[policy]]
id = "two"
phrase = { speaker = "assistant", any = ["@money"] }
do = [{ tag = "{{ event.itm_id }}" }]
"""
    other = """
[[policy]]
id = "two"
regex = { speaker = "user", pattern = "(" }
do = [{ send = { type = "input_audio_buffer.append", audio = "" } }]

[[policy]]
id = "four"
after = "20 minutes"
when = "call.turn_cuont > 1"
canary_percent = 5
do = [{ webhook = "alarm" }]

[[policy.test]]
name = "a test"
events = "a.ndjson"
expect = [{ policy = "five", actions = ["tag"] }]
"""
    found = [each.split(": ") for each in refused(main, policies_toml=other)]
    assert sorted((file, path) for file, path, *_ in found) == [
        ("config.toml", "lists.money[1]"),
        ("config.toml", "policy[0].do[0].cancel_response"),
        ("config.toml", "policy[0].do[1].say"),
        ("config.toml", "policy[0].mode"),
        ("config.toml", "policy[0].phrase.any[1]"),
        ("config.toml", "policy[1].do[0].tag"),
        ("config.toml", "public.prot"),
        ("policies.toml", "policy[0].do[0].send.type"),
        ("policies.toml", "policy[0].id"),
        ("policies.toml", "policy[0].regex.pattern"),
        ("policies.toml", "policy[1].after"),
        ("policies.toml", "policy[1].canary_percent"),
        ("policies.toml", "policy[1].do[0].webhook"),
        ("policies.toml", "policy[1].test[0].expect[0].policy"),
        ("policies.toml", "policy[1].when"),
    ]


@pytest.mark.parametrize(
    ("text", "places"),
    [
        (
            policy(do='{ mute_model = false }, { tag = "{{ call.turn }}" }, { say = "{{ match.text" }'),
            ["do[0].mute_model", "do[1].tag", "do[2].say"],
        ),
        (
            policy(do='{ create_item = { type = "messages", role = "bot", id = "{{ event.itm }}" } }'),
            ["do[0].create_item.id", "do[0].create_item.id", "do[0].create_item.role", "do[0].create_item.type"],
        ),
        (
            policy(do='{ send = { event_id = "a", response = { instructions = "{{ match.text }}" } } }'),
            [
                "do[0].send.event_id",
                "do[0].send.response.instructions",
                "do[0].send.response.instructions",
                "do[0].send.type",
            ],
        ),
        (policy(do='{ hang_up = { goodbye = "", after = "1" } }'), ["do[0].hang_up.after", "do[0].hang_up.goodbye"]),
        (policy(trigger='after = "1s"', do="{ answer_tool = {} }"), ["do[0].answer_tool", "do[0].answer_tool.url"]),
        (policy("when = \"call.trun_count > 1 && match.txt == 'a'\"", trigger="after = 1"), ["after", "when", "when"]),
        (policy("when = \"event.itm_id == 'a'\"", trigger="on = 1"), ["on", "when"]),
        (policy(trigger="on = 1", do='{ tag = "{{ call.turn }}{{ match.texts }}" }'), ["do[0].tag", "do[0].tag", "on"]),
        ('lists.a = [1, "@b", "...", "!", "good"]\n', ["lists.a[0]", "lists.a[1]", "lists.a[2]", "lists.a[3]"]),
        (
            policy() + '[[policy.test]]\nname = "a"\nevents = "b"\nexpect = [{ policy = "q", actions = ["tga"] }]\n',
            ["test[0].expect[0].actions[0]", "test[0].expect[0].policy"],
        ),
        (
            policy() + '[[policy.test]]\nname = "a"\nevents = "b"\nexpect = [{ actions = ["tga"] }]\n',
            ["test[0].expect[0].actions[0]", "test[0].expect[0].policy"],
        ),
    ],
)
def test_a_mistake_hides_no_other(text: str, places: list[str]) -> None:
    assert sorted(each.split(": ")[0].removeprefix("policy[0].") for each in refused(text)) == places


def test_what_hangs_on_something_wrong_is_not_judged_before_that_is_right() -> None:
    text = '[[policy]]\nid = "p"\nphrase = 5\nprofiles = ["nobody"]\ndo = [{ tag = "{{ match.text }}" }]\n'
    assert refused("profile = 1\n" + text.replace("[[profile", "")) != []
    tables = PolicyTables(policies=[{**GOOD, "profiles": ["nobody"]}], profiles_known=False)
    assert compile_policies(CONFIG, tables)[1] == []


def test_without_the_extra_a_condition_is_refused_with_that_explanation() -> None:
    # in a process of its own, since the library stays loaded in this one
    probe = """
import sys
sys.modules["cel_expr_python"] = None
from tests.policy.written import policy, refused
print(*refused(policy('when = "true"')) + refused(policy('when = "call.a("', id_="b")), sep="\\n")
print(len(refused(policy('when = "true"') + policy(id_="b", do="1"))))
"""
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, env=environ)
    first, second, count = done.stdout.splitlines()
    assert first == second
    assert first.startswith("policy[0].when: ")
    assert "rtobserver[cel]" in first
    assert count == "2"


# --- tests beside policies ------------------------------------------------------------------------


def test_tests_belong_to_their_file_and_so_do_their_paths() -> None:
    beside = '[[policy.test]]\nname = "{}"\nevents = "{}"\nexpect = []\n'
    with tempfile.TemporaryDirectory() as folder:
        policies = Path(folder) / "policies"
        policies.mkdir()
        (policies / "a.toml").write_text(policy(id_="a") + beside.format("one", "tests/one.ndjson"), encoding="utf-8")
        (policies / "b.toml").write_text(beside.format("two", "../two.ndjson"), encoding="utf-8")
        config = Path(folder) / "config.toml"
        text = 'include = ["policies/*.toml"]\n' + policy(id_="m") + beside.format("three", "three.ndjson")
        upstream = '[upstream]\nprovider = "compatible"\nbase_url = "http://localhost:9/v1"\nauth = "entra"\n'
        config.write_text(f'{text}{upstream}[[profile]]\nname = "d"\nsession.model = "m"\n', encoding="utf-8")
        found = load(config, {})
        assert [each.id for each in found.policies.policies] == ["m", "a"]
        assert {(test.name, test.events, test.place) for test in found.policies.tests} == {
            ("three", f"{folder}/three.ndjson", "config.toml: policy[0].test[0]"),
            ("one", f"{policies}/tests/one.ndjson", "policies/a.toml: policy[0].test[0]"),
            ("two", f"{folder}/two.ndjson", "policies/b.toml: policy[0].test[0]"),
        }
        assert found.files == (config, policies / "a.toml", policies / "b.toml")


@pytest.mark.parametrize(
    ("lines", "mistake"),
    [
        ('events = "a"\nexpect = []', "policy[0].test[0].name: is missing"),
        ('name = "a"\nexpect = []', "policy[0].test[0].events: is missing"),
        ('name = "a"\nevents = "b"', "policy[0].test[0].expect: is missing"),
        ('name = "a"\nevents = "b"\nexpect = {}', "policy[0].test[0].expect: must be a list of tables, not a table"),
        ('name = "a"\nevents = "b"\nexpect = ["p"]', "policy[0].test[0].expect[0]: must be a table, not a text"),
        (
            'name = "a"\nevents = "b"\nexpect = [{ actions = ["tag"] }]',
            "policy[0].test[0].expect[0].policy: is missing",
        ),
        ('name = "a"\nevents = "b"\nexpect = [{ policy = "p" }]', "policy[0].test[0].expect[0].actions: is missing"),
        (
            'name = "a"\nevents = "b"\nexpect = [{ policy = "p", actions = ["tga"] }]',
            "policy[0].test[0].expect[0].actions[0]: must be one of",
        ),
        ('name = "a"\nevents = "b"\nexpect = []\nexpects = 1', "policy[0].test[0].expects: is not a setting"),
    ],
)
def test_a_test_of_another_shape_is_refused(lines: str, mistake: str) -> None:
    (found,) = refused(policy() + f"[[policy.test]]\n{lines}\n")
    assert found.startswith(mistake)


# --- the set's hash -------------------------------------------------------------------------------

GOOD: dict[str, Any] = {"id": "p", "on": "error", "do": [{"tag": "a"}]}


def test_the_hash_is_the_same_however_the_same_policies_are_written() -> None:
    phrase = {"speaker": "user", "any": ["@a", "c"]}
    one = {"id": "p", "phrase": phrase, "profiles": ["support", "default"], "do": [{"tag": "a"}], "mode": "observe"}
    two = {**one, "phrase": {"any": ["b", "c"], "speaker": "user", "whole": False}, "profiles": ["default", "support"]}
    del two["mode"]
    first, mistakes = compile_policies(CONFIG, PolicyTables(lists={"a": ["b"]}, policies=[one]))
    assert mistakes == []
    test = {"name": "t", "events": "e", "expect": []}
    second, _ = compile_policies(CONFIG, PolicyTables(policies=[{**two, "test": [test]}]))
    assert first.hash == second.hash
    assert len(first.hash) == 16
    assert int(first.hash, 16) >= 0


def test_whatever_decides_changes_the_hash() -> None:
    plain = rules.Policy(id="p", trigger=rules.After(seconds=1.0), actions=(rules.Tag(tag="a"),))
    tool = rules.AnswerTool(url="https://a.example")
    variants = [
        replace(plain, id="q"),
        replace(plain, mode="enforce"),
        replace(plain, profiles=("a",)),
        replace(plain, when="true"),
        replace(plain, limit=Limit(per_call=1)),
        replace(plain, trigger=rules.After(seconds=2.0)),
        replace(plain, trigger=rules.Idle(seconds=1.0)),
        replace(plain, trigger=rules.Tampered(keys=None)),
        replace(plain, actions=(rules.Tag(tag="b"),)),
        replace(plain, actions=(rules.Say(text="a"),)),
        replace(plain, actions=(rules.Tag(tag="a"), rules.MuteModel())),
        replace(plain, actions=(tool,)),
        replace(plain, actions=(replace(tool, secret=Secret("s")),)),
    ]
    hashes = [fingerprint([each]) for each in (plain, *variants)]
    assert len(set(hashes)) == len(hashes)
    assert fingerprint([plain, variants[0]]) != fingerprint([variants[0], plain])


def test_a_secret_is_in_the_hash_only_as_being_there() -> None:
    one, two = (rules.AnswerTool(url="https://a.example", secret=Secret(each)) for each in "ab")
    hashes = {
        fingerprint([rules.Policy(id="p", trigger=rules.Turns(at_least=1), actions=(each,))]) for each in (one, two)
    }
    assert len(hashes) == 1


# --- whatever is written --------------------------------------------------------------------------

WORDS = st.sampled_from(
    [
        *(
            "id",
            "mode",
            "canary_percent",
            "profiles",
            "when",
            "limit",
            "do",
            "test",
            "per_call",
            "cooldown",
            "consecutive",
        ),
        *("per_minute", "speaker", "any", "whole", "pattern", "name", "arguments", "within", "at_least", "cost_usd"),
        *("url", "timeout", "secret_env", "goodbye", "type", "session", "item", "response", "instructions", "tools"),
        *("role", "content", "policy", "actions", "events", "expect", "audio", "a b", ""),
        *ACTION_NAMES.values(),
        *TRIGGER_NAMES.values(),
    ]
)
TEXTS = st.sampled_from(
    [
        *("p", "observe", "canary", "user", "assistant", "error", "*", "@a", "@b", "20s", "", "{{ event.item.id }}"),
        *(
            "{{ match.text",
            "{{ call.user }}",
            "call.turn_count > 1",
            "event.a.b == 1",
            "(",
            "[a-z]+",
            "message",
            "system",
        ),
        *("https://a.example", "session.update", "conversation.item.create", "response.create", "alerts", "default"),
    ]
)
PLAIN = st.one_of(
    TEXTS,
    st.text(max_size=8),
    st.integers(-2, 200),
    st.booleans(),
    st.floats(allow_nan=True),
    st.just(date(2026, 1, 1)),
)
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(WORDS, inner, max_size=4)),
    max_leaves=12,
)
TRIGGERS = st.dictionaries(st.sampled_from(sorted(TRIGGER_NAMES.values())), VALUES, min_size=1, max_size=1)
ACTIONS = st.lists(st.dictionaries(st.sampled_from(sorted(ACTION_NAMES.values())), VALUES, min_size=1, max_size=1))
POLICIES = st.builds(
    lambda trigger, do, rest: {"id": "p", **trigger, "do": do, **rest},
    TRIGGERS,
    ACTIONS,
    st.dictionaries(WORDS, VALUES, max_size=2),
)


def deep(levels: int) -> Any:
    value: Any = {"a": 1}
    for _ in range(levels):
        value = {"a": value}
    return value


def check_compiled(lists: Any, policies: Any) -> None:
    found, mistakes = compile_policies(CONFIG, PolicyTables(lists=lists, policies=policies))
    assert all(isinstance(mistake, Mistake) and mistake.problem and mistake.help for mistake in mistakes)
    assert len(set(mistakes)) == len(mistakes)
    if not mistakes:
        assert len(found.policies) == sum(set(each) != {"test"} for each in policies)


@settings(max_examples=400, deadline=None)
@given(lists=VALUES, policies=st.one_of(VALUES, st.lists(POLICIES, max_size=2)))
@example(lists={"a": ["x"]}, policies=[GOOD])
@example(lists={}, policies=[{**GOOD, "do": [{"send": {"type": "session.update", "session": "{{ call }}"}}]}])
def test_whatever_is_written_gives_policies_or_mistakes(lists: Any, policies: Any) -> None:
    check_compiled(lists, policies)


# no examples of the law above: what tries them spells them out, and does not get to the bottom of these
@pytest.mark.parametrize(
    ("lists", "policies"),
    [
        ({}, [{**GOOD, "do": [{"send": {"type": "response.create", "response": deep(3000)}}]}]),
        ({}, [{"id": "p", "tool": {"name": "a", "arguments": deep(3000)}, "do": [{"tag": "a"}]}]),
        (deep(3000), deep(3000)),
    ],
    ids=["an event", "arguments", "everything"],
)
def test_whatever_is_nested_deeply_gives_policies_or_mistakes(lists: Any, policies: Any) -> None:
    check_compiled(lists, policies)
