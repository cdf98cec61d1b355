"""Scenarios from TOML."""

from __future__ import annotations

from pathlib import Path

import pytest

from rtobserver.errors import ConfigError
from rtobserver.simulator.faults import EndpointFault, Faults
from rtobserver.simulator.scenario import STEP_KINDS, Repeat, Scenario, Spoken, Typed
from rtobserver.simulator.scenario_file import load_scenario, parse_scenario, shipped
from tests.simulator.caller import calling, types


def test_the_promised_scenarios_are_shipped() -> None:
    promised = {"default", "three_turns", "typed", "barge_in", "tool", "error", "cap", "quiet", "chatty"}
    assert promised <= set(shipped())
    for name in shipped():
        scenario = load_scenario(name)
        assert scenario.name == name
        assert scenario.description


def test_a_step_has_the_defaults_of_its_kind() -> None:
    scenario = parse_scenario('[[step]]\nkind = "spoken"\nlatency = 1', "mine")
    assert scenario == Scenario(name="mine", steps=(Spoken(latency=1.0),))


def test_every_kind_can_be_written() -> None:
    text = "\n".join(f'[[step]]\nkind = "{step.kind}"' for step in STEP_KINDS)
    assert [step.kind for step in parse_scenario(text, "all").steps] == [step.kind for step in STEP_KINDS]


def test_steps_nest_in_a_repeat() -> None:
    text = '[[step]]\nkind = "repeat"\ntimes = 3\n[[step.step]]\nkind = "typed"'
    assert parse_scenario(text, "mine").steps == (Repeat(times=3, steps=(Typed(),)),)


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("ending = 'go'", "ending: cannot be 'go'"),
        ("endig = 'stay'", "endig: is not known\n    did you mean 'ending'?"),
        ("replies = [1]", "replies: cannot be (1,)"),
        ("step = 1", "step: must be an array of tables"),
        ("step = [1]", "step[0]: must be a table"),
        ("[[step]]", "step[0].kind: cannot be None"),
        ("[[step]]\nkind = 'spokn'", "step[0].kind: cannot be 'spokn'\n    did you mean 'spoken'?"),
        ("[[step]]\nkind = 'spoken'\nlatency = 'long'", "step[0].latency: cannot be 'long'\n    expected a number"),
        ("[[step]]\nkind = 'repeat'\n[[step.step]]\nkind = 'x'", "step[0].step[0].kind: cannot be 'x'"),
        ("[[step]]\nkind = 'leave'\nclose = 'later'", "step[0].close: cannot be 'later'"),
        ("name = 'mine'", "name: is not known"),
        ("x =", "is not TOML"),
    ],
)
def test_a_mistake_is_named_by_its_place(text: str, mistake: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_scenario(text, "mine")
    assert mistake in str(caught.value)


def test_a_scenario_can_hold_faults() -> None:
    text = "[faults]\nlocation = 'two'\nrefused_hosts = ['a', 'b']\n[faults.attach]\nstatus = 404\ntimes = 1\n"
    assert parse_scenario(text, "mine").faults == Faults(
        location="two", refused_hosts=("a", "b"), attach=EndpointFault(status=404, times=1)
    )
    with pytest.raises(ConfigError, match="is not a switch"):
        parse_scenario("[faults.attach]\nstate = 404", "mine")


async def test_a_scenarios_faults_apply_unless_others_are_told() -> None:
    scenario = Scenario(name="mine", steps=(), faults=Faults(location="missing"))
    async with calling(scenario=scenario) as caller:
        assert "location" not in (await caller.offer(await caller.mint())).headers
    async with calling(scenario=scenario, faults=Faults(location="trailing_slash")) as caller:
        assert (await caller.offer(await caller.mint())).headers["location"].endswith("/")


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_scenario("a = 1\nb = 2\n[[step]]\nkind = 'x'", "mine", file="mine.toml")
    assert len(caught.value.mistakes) == 3
    assert {mistake.file for mistake in caught.value.mistakes} == {"mine.toml"}


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'default'"):
        load_scenario("defalt")


async def test_a_file_is_a_scenario_too(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[[step]]\nkind = 'repeat'\ntimes = 2\n[[step.step]]\nkind = 'typed'\n")
    async with calling(scenario=str(path)) as caller, caller.attach(await caller.call()) as observer:
        assert types(await observer.rest()).count("response.done") == 2
    with pytest.raises(ConfigError, match="cannot be read"):
        load_scenario(str(tmp_path / "missing.toml"))
