"""What the patterns of a set cost is bounded when it is loaded, and ordinary ones cost little."""

from __future__ import annotations

import itertools

from rtobserver.policy.rules import Absent, Regex
from rtobserver.policy.weights import MAX_TOGETHER, too_heavy, weight
from tests.policy.play import Play, ids, policy
from tests.policy.written import compiled, refused
from tests.policy.written import policy as written
from tests.support.watch import quickest

ORDINARY = (
    r"\b(?:[0-9][ -]?){12,18}[0-9]\b",
    r"\b[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]){11,30}\b",
    r"\b[0-9]{3}-[0-9]{2}-[0-9]{4}\b",
    r"\b[\w.+-]{1,40}@[\w-]{1,40}\.[a-z]{2,10}\b",
    r"(?i)\bpassword is \w{3,40}",
    r"\b\+?[0-9]{1,3}[ -]?(?:[0-9][ -]?){6,14}\b",
    r"(?i)\bcvv\W{0,20}[0-9]{3,4}\b",
    r"(?i)\bpin\W{0,20}[0-9]{4,6}\b",
)
HARD = "[ab]*a[ab]{900}c"


def test_fifty_ordinary_patterns_are_taken_and_cost_little_over_a_long_item() -> None:
    made = [
        policy(Regex(speaker="user", pattern=ORDINARY[number % len(ORDINARY)]), id=f"p{number}") for number in range(50)
    ]
    assert too_heavy(made) == []
    play = Play(*made)
    text = "well you see my " * 310 + "password is hunter2 and pin 4711, ok"
    play.transcribe("warm", final=text)
    names = (f"u{number}" for number in itertools.count())
    found = play.transcribe(next(names), final=text)
    assert quickest(lambda: play.transcribe(next(names), final=text), 0.02) < 0.02
    assert {ORDINARY[int(id_[1:]) % len(ORDINARY)] for id_ in ids(found)} == {ORDINARY[4], ORDINARY[7]}


def test_patterns_that_are_too_much_together_are_a_mistake_at_the_first_too_many() -> None:
    user = [written(trigger=f'regex = {{ speaker = "user", pattern = "{HARD}" }}', id_=f"u{n}") for n in range(2)]
    absent = 'absent = { regex = { speaker = "user", pattern = "[ab]*a[ab]{901}c" }, within = "9s" }'
    assert compiled("".join(user)).policies
    problem = "is one too many: together the patterns for the user are too large to be searched at once"
    assert refused("".join(user) + written(trigger=absent, id_="u2")) == [f"policy[2].absent.regex.pattern: {problem}"]


def test_patterns_of_other_speakers_and_profiles_do_not_add_up() -> None:
    hard = Regex(speaker="user", pattern=HARD)
    made = [policy(hard, id=f"p{n}", profiles=(f"profile{n}",)) for n in range(5)]
    other = [policy(Regex(speaker="assistant", pattern=HARD), id=f"q{n}") for n in range(2)]
    assert too_heavy([*made, *other, policy(hard)]) == []
    assert too_heavy([*made, *other, policy(hard), policy(Absent(what=hard, within=3))]) == [(8, "user")]


def test_a_class_of_characters_weighs_one_place_in_any_script() -> None:
    assert weight(r"\pL+ \pN") < 10
    assert weight("漢{400}") == weight("a{400}")
    assert 0 < weight(r"\x{4e00}") < MAX_TOGETHER
