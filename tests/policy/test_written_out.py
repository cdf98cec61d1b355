"""What is shown of a policy's rule is all of it but its secrets."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from rtobserver.config.sections import Secret
from rtobserver.policy import rules, written_out
from rtobserver.policy.rules import Policy


def policy(trigger: Any = None, *actions: rules.Action) -> Policy:
    return Policy(id="p", trigger=trigger or rules.After(seconds=60.0), actions=actions)


@pytest.mark.parametrize(
    ("trigger", "written"),
    [
        (rules.On(types=("error", "response.*")), {"on": {"types": ["error", "response.*"]}}),
        (
            rules.Phrase(speaker="user", phrases=tuple(map(str, range(9)))),
            {"phrase": {"speaker": "user", "phrases": [*"012345678"], "whole": False}},
        ),
        (rules.Tool(name="pay", arguments={"sum": 3}), {"tool": {"name": "pay", "arguments": {"sum": 3}}}),
        (
            rules.Absent(what=rules.Regex(speaker="assistant", pattern="a+"), within=30.0),
            {"absent": {"what": {"regex": {"speaker": "assistant", "pattern": "a+"}}, "within": 30.0}},
        ),
        (
            rules.Usage(meter="cost_usd", at_least=Decimal("1.50")),
            {"usage": {"meter": "cost_usd", "at_least": "1.50"}},
        ),
        (rules.Tampered(keys=None), {"tampered": {"keys": None}}),
    ],
)
def test_a_trigger_is_written_by_its_word(trigger: Any, written: dict[str, Any]) -> None:
    assert written_out.trigger(policy(trigger)) == written


def test_actions_are_written_in_their_order() -> None:
    done = written_out.actions(policy(None, rules.CancelResponse(), rules.Say(text="{{ match.text }}"), rules.HangUp()))
    assert done == [
        {"cancel_response": True},
        {"say": {"text": "{{ match.text }}"}},
        {"hang_up": {"goodbye": None, "after": 5.0}},
    ]


def test_what_is_secret_is_not_written() -> None:
    tools = [{"type": "mcp", "authorization": "KEY-1", "headers": {"X-Key": "KEY-2"}, "server_label": "shop"}]
    done = written_out.actions(
        policy(
            None,
            rules.AnswerTool(url="https://me:KEY-3@tools.example.com/pay?key=KEY-4", secret=Secret("KEY-5")),
            rules.UpdateSession(session={"tools": tools}),
            rules.Send(event={"type": "x", "nested": [{"api_key": "KEY-6"}]}),
        )
    )
    assert "KEY" not in str(done)
    assert done[0]["answer_tool"]["url"] == "https://***@tools.example.com/pay?***"
    assert done[1]["update_session"]["session"]["tools"][0]["server_label"] == "shop"
