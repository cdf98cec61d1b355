"""What is to be done about a type of event is looked up once, whoever chose its name."""

import pytest

from rtobserver.policy import globs
from rtobserver.policy.book import Book, Compiled
from rtobserver.policy.rules import Count, On, Trigger
from tests.policy.play import policy


def test_patterns_that_many_policies_share_are_tried_once_for_a_type(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[tuple[str, str]] = []
    plain = globs.matches

    def matches(pattern: str, name: str) -> bool:
        tried.append((pattern, name))
        return plain(pattern, name)

    monkeypatch.setattr(globs, "matches", matches)
    everything, responses = On(types=("*",)), On(types=("session.updated", "response.*"))
    triggers: list[Trigger] = [
        everything,
        Count(on=responses, at_least=2, within=60.0),
        responses,
        On(types=("error",)),
    ] * 50
    book = Book(Compiled(policy(trigger, id=f"p{number}") for number, trigger in enumerate(triggers)), "default")

    plan = book.plan("response.done")

    assert plan is not None
    assert [rule.number for rule in plan.on] == [number for number in range(200) if number % 4 != 3]
    assert sorted(tried) == [(each, "response.done") for each in ("*", "error", "response.*", "session.updated")]
