"""Choose what the simulated upstream says in each call: an example's scenario, or a talk with whoever calls.

An example names itself in its offer, in the session's name (`s=`), which nobody else looks at.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rtobserver.simulator.scenario import Scenario
from rtobserver.simulator.scenario_file import load_scenario

_FOLDER = Path(__file__).parent
_PREFIX = "rtobserver-demo-"
_NAME = re.compile(rf"^s={_PREFIX}([a-z]+)\r?$", re.MULTILINE)


def session_name(example: str) -> str:
    """Give the session's name of an example's offer."""
    return f"{_PREFIX}{example}"


def choosing(*, media: bool) -> Callable[[str, int], Scenario]:
    """Give what chooses the scenario by the offer."""
    talk = load_scenario("talk" if media else "default")
    examples = {name: load_scenario(str(_FOLDER / f"{name}.toml")) for name in ("talk", "claims", "order")}
    if media:
        # then the caller really speaks, and leaves when it has heard enough
        examples["talk"] = replace(examples["talk"], voice="caller", ending="stay")

    def choose(offer: str, _number: int) -> Scenario:
        found = _NAME.search(offer)
        return examples.get(found[1], talk) if found else talk

    return choose
