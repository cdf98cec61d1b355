import json
from collections.abc import Callable

from rtobserver.config.display import changed, redacted
from rtobserver.config.sections import Config

Loads = Callable[..., Config]


def test_no_secret_is_shown(loads: Loads) -> None:
    config = loads(
        """
        store.url = "postgresql://me:hunter2@db/calls?password=hunter2"
        [[webhook]]
        id = "a"
        url = "https://hooks.example.com/services/hunter2?x=hunter2"
        secret = "hunter2"
        [[profile]]
        name = "tools"
        [profile.session]
        model = "m"
        max_output_tokens = 4096
        tools = [{ type = "mcp", authorization = "hunter2", headers = { X-Any = "hunter2" }, api_key = "hunter2" }]
        """,
        {
            "RTOBSERVER_UPSTREAM__PROXY": "http://me:hunter2@proxy:1",
            "RTOBSERVER_PUBLIC__TOKEN_KEY": "hunter2" + "A" * 36,
        },
    )
    shown = json.dumps(redacted(config))
    assert "hunter2" not in shown
    assert "hunter2" not in repr(config.public)
    assert redacted(config)["public"]["token_key"] == "***"
    assert redacted(config)["operator"]["auth"]["secret"] is None
    assert redacted(config)["profile"][0]["session"]["max_output_tokens"] == 4096
    assert redacted(config)["webhook"][0]["url"] == "https://hooks.example.com/***?***"


def test_what_is_shown_is_written_as_in_the_file(loads: Loads) -> None:
    shown = redacted(loads('public.allowed_origins = ["https://a.example"]\n'))
    assert shown["observer"]["max_frame"] == "32MiB"
    assert shown["profile"][0]["max_duration"] == "30m"
    assert shown["public"]["allowed_origins"] == ["https://a.example"]
    assert shown["upstream"]["base_url"] == "https://voice.openai.azure.com/openai/v1"


def test_what_is_not_at_its_default_is_named(loads: Loads) -> None:
    shown = redacted(
        loads(
            """
            public.port = 9000
            observer.idle_probe = "60s"
            operator.auth.user_claim = "email"
            [[profile]]
            name = "more"
            max_duration = "5m"
            session = { type = "realtime", model = "gpt-realtime" }
            """
        )
    )
    found = changed(shown)
    assert {"public.port", "operator.auth.user_claim", "profile.0.max_duration"} <= set(found)
    # an idle_probe that is written as it would be anyway is at its default
    assert not {
        "store.journal_dir",
        "observer.idle_probe",
        "public.host",
        "store.durability",
        "profile.0.webrtcfilter",
    } & set(found)
