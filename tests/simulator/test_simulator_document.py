"""docs/simulator.md names everything that can be set."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from rtobserver.simulator.faults import fault_keys
from rtobserver.simulator.scenario import STEP_KINDS, Step
from rtobserver.simulator.scenario_file import shipped

TEXT = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("key", fault_keys())
def test_every_switch_is_documented(key: str) -> None:
    endpoint, dot, part = key.partition(".")
    assert (f"`*.{part}`" if dot else f"`{endpoint}`") in TEXT


@pytest.mark.parametrize("name", shipped())
def test_every_scenario_is_documented(name: str) -> None:
    assert f"| `{name}` |" in TEXT


@pytest.mark.parametrize("step", STEP_KINDS)
def test_every_step_is_documented_with_its_keys(step: type[Step]) -> None:
    line = [line for line in TEXT.splitlines() if line.startswith(f"| `{step.kind}` |")][-1]
    for key in fields(step):
        assert key.name == "steps" or f"`{key.name}`" in line
