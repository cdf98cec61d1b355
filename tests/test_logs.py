"""Logs are one event a line, and fields with a secret's name are blanked."""

from __future__ import annotations

import json
import logging

import pytest
import structlog

from rtobserver import logs

pytestmark = pytest.mark.usefixtures("own_logs")


def test_a_line_is_one_json_object_with_the_event_and_a_time(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("json")
    structlog.get_logger().info("call_accepted", call_id="rtc_a")
    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["call_id"], line["level"]) == ("call_accepted", "rtc_a", "info")
    assert line["timestamp"].endswith("Z")


def test_fields_with_a_secrets_name_are_blanked(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("json")
    structlog.get_logger().info("x", token="ek_canary", authorization="Bearer canary", sdp="v=0 canary")
    assert "canary" not in capsys.readouterr().err


@pytest.mark.parametrize("format_", ["json", "console"])
def test_a_traceback_shows_no_local_variables(format_: logs.Format, capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up(format_)

    def fail() -> None:
        secret = "-".join(["can", "ary"])
        raise ValueError(len(secret))

    try:
        fail()
    except ValueError:
        structlog.get_logger().exception("failed")
    printed = capsys.readouterr().err
    assert "ValueError" in printed
    assert "can-ary" not in printed


def test_libraries_speak_in_the_same_format_and_not_about_details(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("json")
    logging.getLogger("websockets.client").debug("> Authorization: Bearer canary")
    logging.getLogger("somebody").warning("careful")
    line = json.loads(capsys.readouterr().err)
    assert line["event"] == "careful"
