"""The command line, as far as it needs no process of its own."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog

from rtobserver import __version__, cli
from rtobserver.store import schema, sqlite

pytestmark = pytest.mark.usefixtures("own_logs")

Run = Callable[..., tuple[int, str, str]]

CONFIG = """
[upstream]
provider = "azure"
base_url = "https://example.openai.azure.com/openai/v1"
auth = "api-key"
api_key = "canary-api-key"

[[profile]]
name = "default"
session.model = "gpt-realtime"
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Run a command in a folder with a configuration; gives exit code, stdout and stderr."""
    (tmp_path / "config.toml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)

    def run_it(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["rtobserver", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, said.out, said.err

    yield run_it
    # a command set logs up on a stderr that ends with the test
    structlog.reset_defaults()
    logging.getLogger().handlers.clear()


def test_it_tells_its_version(run: Run) -> None:
    assert run("--version") == (0, f"rtobserver, version {__version__}\n", "")


def test_without_a_command_it_shows_what_there_is(run: Run) -> None:
    code, out, err = run()
    assert code == 2
    for command in ("serve", "demo", "migrate", "check-config", "simulate", "rebuild", "keys"):
        assert command in out + err


@pytest.mark.parametrize("words", [["-h"], ["serve", "--help"], ["keys", "create", "-h"]])
def test_each_command_explains_itself(run: Run, words: list[str]) -> None:
    code, out, err = run(*words)
    assert (code, err) == (0, "")
    assert "Usage: " in out


@pytest.mark.parametrize(
    "words",
    [
        ["serv"],
        ["serve", "--confg", "x"],
        ["keys", "create"],
        ["simulate", "--provider", "acme"],
        ["simulate", "--no-media", "--scenario", "no-such"],
        ["simulate", "--no-media", "--fault", "attach.status=many"],
        ["simulate", "--no-media", "--ice-host", "localhost"],
        ["simulate", "--no-media", "--ice-host", "127.0.0.1,"],
        ["simulate", "--no-media", "--ice-host", "0.0.0.0"],
        ["keys", "create", "--name", "x", "--scope", "everything"],
        ["keys", "create", "--name", "x", "--expires-in", "soon"],
        ["serve", "--config", "missing.toml"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_a_2_and_a_sentence(run: Run, words: list[str]) -> None:
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert err.strip()


def test_all_mistakes_are_named_at_once(run: Run) -> None:
    Path("config.toml").write_text(CONFIG.replace("name =", "nane =") + "[public]\nport = 99999\nhots = 1\n")
    code, _, err = run("check-config")
    assert code == 2
    for place in ("profile[0].nane", "profile[0].name", "public.port", "public.hots"):
        assert place in err


def test_a_good_configuration_is_said_to_be_good(run: Run) -> None:
    code, out, _ = run("check-config")
    assert (code, out.startswith("config.toml is good: 1 profile(s), 0 policies, store sqlite:///")) == (0, True)


def test_policies_are_checked_with_the_configuration(run: Run) -> None:
    policy = '[[policy]]\nid = "p"\non = "{}"\ndo = [{{ tag = "a" }}]\n'
    Path("config.toml").write_text(CONFIG + policy.format("eror"))
    code, out, err = run("check-config")
    assert (code, "1 policy" in out) == (0, True)
    assert "warning: policy p: no event that is known here is of type eror\n    did you mean error?" in err
    Path("config.toml").write_text(CONFIG + policy.format("") + "[lists]\nmoney = 1\n")
    code, _, err = run("check-config")
    assert code == 2
    assert "policy[0].on: is empty" in err
    assert "lists.money: must be a list of texts" in err


def test_the_settings_in_force_are_printed_without_secrets(run: Run) -> None:
    code, out, err = run("check-config", "--print")
    assert code == 0
    assert json.loads(out)["public"]["port"] == 8080
    assert "canary-api-key" not in out + err


def test_a_database_is_migrated_once(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "rtobserver.db"
    assert run("migrate") == (0, f"{path} went from nothing to {schema.head()}\n", "")
    assert run("migrate") == (0, f"{path} is at {schema.head()}\n", "")
    schema.check(path)


def test_keys_are_made_listed_and_revoked(run: Run) -> None:
    code, key, _ = run("keys", "create", "--name", "robot", "--scope", "read", "--scope", "metrics")
    assert (code, key.count("\n")) == (0, 1)
    code, out, _ = run("keys", "list", "--json")
    listed = json.loads(out)
    assert (listed["name"], listed["scopes"], listed["expires_at"]) == ("robot", ["metrics", "read"], None)
    assert listed["key_id"] in key
    assert key.strip() not in out
    assert run("keys", "revoke", listed["key_id"]) == (0, f"{listed['key_id']} is revoked\n", "")
    assert run("keys", "revoke", listed["key_id"])[0] == 1
    code, out, _ = run("keys", "list")
    assert (code, "robot" in out) == (0, True)


@pytest.mark.parametrize("words", [["keys", "list"], ["keys", "revoke", "x"], ["rebuild"]], ids=" ".join)
def test_what_reads_a_database_makes_none(run: Run, tmp_path: Path, words: list[str]) -> None:
    code, _, err = run(*words)
    assert (code, "there is no " in err) == (2, True)
    assert not (tmp_path / "rtobserver.db").exists()


def test_a_held_database_is_a_1_and_another_schema_a_3(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "rtobserver.db"
    with sqlite.hold(path):
        assert run("migrate") == (1, "", f"rtobserver: another rtobserver runs on {path}\n")
    sqlite.create(path)
    code, _, err = run("rebuild")
    assert (code, "run `rtobserver migrate`" in err) == (3, True)
