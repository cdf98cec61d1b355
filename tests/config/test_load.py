import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rtobserver.config.load import load
from rtobserver.config.sections import Config, Public, PublicAuth
from rtobserver.errors import ConfigError, Mistake

Loads = Callable[..., Config]
Refuses = Callable[..., list[Mistake]]


def test_a_minimal_file_gives_the_defaults_of_the_sections(loads: Loads, tmp_path: Path) -> None:
    config = loads()
    assert config.public == Public()
    assert config.default_profile.session == {"type": "realtime", "model": "gpt-realtime-2.1"}
    assert config.path == str(tmp_path / "config.toml")


def test_relative_paths_are_found_from_the_file(loads: Loads, tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    config = loads('public.static_dir = "web"\nstore.url = "sqlite:///data/calls.db"\n')
    assert config.public.static_dir == str(tmp_path / "web")
    assert config.store.url == f"sqlite:///{tmp_path}/data/calls.db"
    assert config.store.journal_dir == str(tmp_path / "journal")


def test_a_relative_path_to_the_file_gives_absolute_ones_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("config.toml").write_text(
        'profile = [{ name = "default", session.model = "m" }]\n'
        '[upstream]\nprovider = "compatible"\nbase_url = "http://127.0.0.1:1/v1"\nauth = "entra"\n',
        encoding="utf-8",
    )
    config = load(Path("config.toml"), {})
    assert config.path == str(tmp_path / "config.toml")
    assert config.store.url == f"sqlite:///{tmp_path}/rtobserver.db"


def test_no_path_at_all_stays_empty(loads: Loads) -> None:
    config = loads('store.journal_dir = ""\npublic.static_dir = ""\n')
    assert (config.store.journal_dir, config.public.static_dir, config.pricing.file) == ("", "", "")


def test_with_entra_the_key_named_by_a_variable_is_not_looked_for(loads: Loads) -> None:
    config = loads(upstream=ENTRA_WITH_KEY)
    assert config.upstream.api_key is None


def test_the_override_to_a_key_finds_the_one_that_the_file_names(loads: Loads) -> None:
    environ = {"RTOBSERVER_UPSTREAM__AUTH": "api-key", "AZURE_OPENAI_API_KEY": "0123"}
    api_key = loads(environ=environ, upstream=ENTRA_WITH_KEY).upstream.api_key
    assert api_key is not None
    assert api_key.reveal() == "0123"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "none.toml", {})
    (mistake,) = caught.value.mistakes
    assert mistake.file == str(tmp_path / "none.toml")
    assert mistake.problem == "there is no such file"


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path, {})


def test_twelve_mistakes_are_reported_at_once_each_with_its_key_path(refuses: Refuses) -> None:
    mistakes = refuses(
        """
        include = ["no-such-file.toml"]
        obsever.idle_probe = "60s"
        pricing.file = "no-prices.toml"
        recording.audio = "kepe"
        store.url = "mysql://localhost/calls"
        store.journal = "journal"
        limits.concurrent_calls = -1
        retention.calls = "1d"
        observer = { attach_timeout = 30 }
        webhook = [{ id = "alerts", url = "http://ops.example.com" }, { id = "alerts", url = "https://a.example" }]
        [public]
        host = "0.0.0.0"
        """,
        upstream='\n[upstream]\nprovider = "azure"\nbase_url = "https://a.example/v1"\nauth = "entra"\n',
    )
    assert sorted(mistake.path for mistake in mistakes) == [
        "include[0]",
        "limits.concurrent_calls",
        "observer.attach_timeout",
        "obsever",
        "pricing.file",
        "public.auth.mode",
        "recording.audio",
        "retention.entries",
        "store.journal",
        "store.url",
        "upstream.base_url",
        "webhook[0].url",
        "webhook[1].id",
    ]


def test_the_help_names_what_was_probably_meant(refuses: Refuses) -> None:
    (mistake,) = refuses("public.hots = '127.0.0.1'\n")
    assert mistake == Mistake("public.hots", "is not a setting", "did you mean host?")
    (mistake,) = refuses("public.token_mode = 'seald'\n")
    assert mistake.help == 'did you mean "sealed"?'
    (mistake,) = refuses("xyzzy = 1\n")
    assert {"include", "lists", "policy", "upstream", "webhook"} <= set(mistake.help.replace(",", "").split())
    (mistake,) = refuses("public.include = []\n")
    assert "at the top of the file" in mistake.help


def test_one_wrong_setting_does_not_set_off_the_rules_that_look_at_it(refuses: Refuses) -> None:
    mistakes = refuses('[public]\nhost = "0.0.0.0"\nauth.mode = "noone"\n')
    assert [mistake.path for mistake in mistakes] == ["public.auth.mode"]


def test_a_door_without_a_lock_can_be_opened_to_proxies(loads: Loads) -> None:
    config = loads('public = { host = "::", auth = { mode = "forwarded", trusted_proxies = ["10.0.0.0/8"] } }\n')
    assert config.public.auth == PublicAuth(mode="forwarded", trusted_proxies=("10.0.0.0/8",))


def test_loading_settings_does_not_load_the_daemon() -> None:
    probe = "import sys, rtobserver.config.load as _; print(*sys.modules)"
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    loaded = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, env=environ)
    assert not {"asyncio", "aiohttp", "sqlalchemy", "msgspec", "azure", "click", "ssl"} & set(loaded.stdout.split())


ENTRA_WITH_KEY = """
[upstream]
provider = "azure"
base_url = "https://voice.openai.azure.com/openai/v1"
auth = "entra"
api_key_env = "AZURE_OPENAI_API_KEY"
"""
