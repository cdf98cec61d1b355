"""Faults from text."""

from __future__ import annotations

import pytest

from rtobserver.errors import ConfigError
from rtobserver.simulator.faults import EndpointFault, Faults, fault_keys, parse_faults


def test_switches_are_set_from_text() -> None:
    faults = parse_faults(
        [
            "location=missing",
            "attach.status=503",
            "attach.times=2",
            "deaf=true",
            "idle_close = 0.5",
            "refused_hosts=a.com, b.com",
            "leave_close=abort",
            "location_value=a=b",
        ]
    )
    assert faults == Faults(
        location="missing",
        attach=EndpointFault(status=503, times=2),
        deaf=True,
        idle_close=0.5,
        refused_hosts=("a.com", "b.com"),
        leave_close="abort",
        location_value="a=b",
    )
    assert parse_faults(["leave_close=1001"], faults).leave_close == 1001


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("deaf", "must be written KEY=VALUE"),
        ("deaf=maybe", "must be true or false"),
        ("nothing=1", "is not a switch"),
        ("attach=503", "needs one of"),
        ("attach.state=1", "is not a switch"),
        ("deaf.more=1", "has nothing inside it"),
        ("location=here", "must be one of"),
        ("attach.status=many", "must be a whole number"),
        ("idle_close=soon", "must be a number"),
        ("leave_close=soon", "must be a whole number"),
    ],
)
def test_a_setting_without_sense_is_refused(setting: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_faults([setting, "deaf=true"])
    assert problem in str(caught.value)


def test_a_fault_can_be_limited_to_some_requests() -> None:
    fault = EndpointFault(status=500, after=2, times=2)
    assert [fault.affects(number) for number in range(1, 7)] == [False, False, True, True, False, False]
    assert EndpointFault().affects(1)


def test_every_switch_is_listed() -> None:
    assert {"location", "attach.retry_after", "hangup_order", "leave_close"} <= set(fault_keys())
