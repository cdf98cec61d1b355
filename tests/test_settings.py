"""A configuration and its policies are loaded together, or not at all."""

from pathlib import Path

import pytest

from rtobserver import settings
from rtobserver.config.load import load as load_config
from rtobserver.errors import ConfigError

MAIN = """
include = ["policies/*.toml"]
[upstream]
provider = "compatible"
base_url = "http://127.0.0.1:9000/v1"
auth = "entra"
[[profile]]
name = "default"
session.model = "m"
"""
POLICY = '[[policy]]\nid = "{}"\non = "error"\ndo = [{{ tag = "a" }}]\n'


def write(folder: Path, main: str = MAIN, **files: str) -> Path:
    (folder / "policies").mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / "policies" / f"{name}.toml").write_text(text, encoding="utf-8")
    path = folder / "config.toml"
    path.write_text(main, encoding="utf-8")
    return path


def test_policies_of_all_files_are_one_set_in_their_order(tmp_path: Path) -> None:
    path = write(tmp_path, MAIN + POLICY.format("main"), b=POLICY.format("b"), a=POLICY.format("a"))
    found = settings.load(path, {})
    assert [policy.id for policy in found.policies.policies] == ["main", "a", "b"]
    assert found.config == load_config(path, {})
    assert found.files == (path, tmp_path / "policies" / "a.toml", tmp_path / "policies" / "b.toml")


def test_all_mistakes_of_settings_and_policies_are_reported_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, "public.port = -1\n" + MAIN, a=POLICY.format("a b"), b="not TOML")
    with pytest.raises(ConfigError) as caught:
        settings.load(path, {})
    assert sorted((mistake.file, mistake.path) for mistake in caught.value.mistakes) == [
        ("config.toml", "public.port"),
        ("policies/a.toml", "policy[0].id"),
        ("policies/b.toml", ""),
    ]


def test_what_only_needs_the_settings_does_not_judge_policies(tmp_path: Path) -> None:
    path = write(tmp_path, MAIN, a="[[policy]]\nnonsense = true\n")
    assert load_config(path, {}).default_profile.name == "default"
    with pytest.raises(ConfigError):
        settings.load(path, {})


def test_a_webhook_or_profile_that_is_wrong_does_not_make_the_policies_that_name_it_wrong(tmp_path: Path) -> None:
    rest = '[[webhook]]\nid = "alerts"\nurl = "ftp://a.example"\nsekret = 1\n'
    text = '[[policy]]\nid = "a"\non = "error"\nprofiles = ["other"]\ndo = [{ webhook = "alerts" }]\n'
    path = write(tmp_path, MAIN.replace('name = "default"', 'name = "de fault"') + rest, a=text)
    with pytest.raises(ConfigError) as caught:
        settings.load(path, {})
    assert sorted(mistake.path for mistake in caught.value.mistakes) == [
        "profile[0].name",
        "webhook[0].sekret",
        "webhook[0].url",
    ]


def test_a_set_has_the_same_hash_wherever_its_policies_stand(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    together = settings.load(write(tmp_path / "one", MAIN + POLICY.format("a") + POLICY.format("b")), {})
    apart = settings.load(write(tmp_path / "two", x=POLICY.format("a"), y=POLICY.format("b")), {})
    assert together.policies.hash == apart.policies.hash
    assert together.policies.policies == apart.policies.policies
