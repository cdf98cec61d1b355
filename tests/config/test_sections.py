"""The example and the documentation say what the sections say."""

import ast
import re
import tomllib
from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest

from rtobserver import settings
from rtobserver.config import sections
from rtobserver.config.load import load
from rtobserver.config.sections import Bytes, Config, Seconds, Secret
from rtobserver.config.shape import Key, Kind, keys
from rtobserver.config.values import parse_duration, parse_size
from rtobserver.policy.rules import ACTION_NAMES, TRIGGER_NAMES, Limit, Policy

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "config.example.toml"
TEXT = EXAMPLE.read_text(encoding="utf-8")
WHOLE = re.sub(r"^#(?=[a-z\[])", "", TEXT, flags=re.MULTILINE)
"""The example with the settings that are off by default switched on."""


def every_setting(table: type[Any] = Config, path: str = "") -> Iterator[tuple[str, type[Any], Key]]:
    for key in keys(table):
        here = f"{path}.{key.name}" if path else key.name
        if key.table is not None:
            yield from every_setting(key.table, here)
        else:
            yield here, table, key


def written(document: dict[str, Any], path: str) -> dict[str, Any]:
    """Find the table of the example that holds a setting."""
    for step in path.split(".")[:-1]:
        inner = document[step]
        document = inner[0] if isinstance(inner, list) else inner
    return document


SETTINGS = [pytest.param(*setting, id=setting[0]) for setting in every_setting()]


@pytest.mark.parametrize("environ", [{}, {"AZURE_OPENAI_API_KEY": "0123"}])
def test_the_example_is_a_valid_configuration(environ: dict[str, str]) -> None:
    assert load(EXAMPLE, environ).default_profile.name == "default"


def test_the_example_works_with_a_key_by_one_override() -> None:
    environ = {"AZURE_OPENAI_API_KEY": "0123", "RTOBSERVER_UPSTREAM__AUTH": "api-key"}
    assert load(EXAMPLE, environ).upstream.api_key == Secret("0123")


def test_what_is_switched_off_in_the_example_is_valid_too(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(WHOLE, encoding="utf-8")
    assert load(path, {"ALERTS_WEBHOOK_SECRET": "s"}).webhooks[0].secret == Secret("s")
    assert settings.load(path, {"ALERTS_WEBHOOK_SECRET": "s"}).policies.tests


def test_each_key_trigger_and_action_of_a_policy_is_named_in_the_example_and_in_the_documentation() -> None:
    example = TEXT.partition("#[lists]")[2]
    documented = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8").partition("## `[[policy]]`")[2]
    own = [field.name for field in fields(Policy) if field.name not in ("trigger", "actions")]
    limits = [field.name for field in fields(Limit)]
    for name in (*own, *limits, *TRIGGER_NAMES.values(), "do", "name", "events", "expect"):
        assert re.search(rf"\b{name}\b", example), name
        assert f"`{name}`" in documented, name
    for name in ACTION_NAMES.values():
        assert re.search(rf"\b{name}\b", example), name


def test_the_defaults_of_a_limit_stand_in_the_example() -> None:
    written = next(line for line in WHOLE.splitlines() if line.startswith("limit = "))
    limit = tomllib.loads(written)["limit"]
    assert Limit(**{**limit, "cooldown": parse_duration(limit["cooldown"])}) == Limit()


@pytest.mark.parametrize(("path", "table", "key"), SETTINGS)
def test_each_setting_stands_in_the_example_with_its_default(path: str, table: type[Any], key: Key) -> None:
    held = written(tomllib.loads(WHOLE), path)
    assert not set(key.spellings) - set(held)
    field = next(field for field in fields(table) if field.name == key.field)
    default = field.default if field.default is not MISSING else None
    if key.kind is Kind.SECRET:
        assert default is None
    elif not key.required and key.kind is not Kind.OBJECT:
        value: Any = held[key.name]
        if key.kind is Kind.DURATION:
            value = parse_duration(value)
        if key.kind is Kind.SIZE:
            value = parse_size(value)
        if key.kind is Kind.NAMES:
            default = {}
        assert (tuple(value) if isinstance(value, list) else value) == default


@pytest.mark.parametrize(("path", "table", "key"), SETTINGS)
def test_each_setting_is_explained_in_the_documentation(path: str, table: type[Any], key: Key) -> None:
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    heading = path.rpartition(".")[0]
    title = f"[[{heading}]]" if heading in ("profile", "webhook") else f"[{heading}]"
    part = text.partition(f"## `{title}`")[2].partition("\n## ")[0]
    assert f"| `{key.name}` |" in part


def test_each_field_is_explained_where_it_is_written() -> None:
    tree = ast.parse(Path(sections.__file__).read_text(encoding="utf-8"))
    self_explaining = {"auth"}
    for section in (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name != "Config"):
        for field, after in zip(section.body, [*section.body[1:], None], strict=True):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                explained = isinstance(after, ast.Expr) or field.target.id in self_explaining
                assert explained, f"{section.name}.{field.target.id}"


def test_a_secret_never_prints_its_value() -> None:
    secret = Secret("hunter2")
    assert "hunter2" not in f"{secret} {secret!r} {[secret]}"
    assert secret == Secret("hunter2")
    assert len({secret, Secret("hunter2"), Secret("other")}) == 2
    assert secret.reveal() == "hunter2"


def test_the_default_profile_is_the_one_of_that_name_or_the_first() -> None:
    upstream = sections.Upstream(provider="openai", base_url="https://api.openai.com/v1", auth="api-key")
    first, named = sections.Profile(name="first", session={"model": "m"}), sections.Profile(name="default")
    assert Config(upstream=upstream, profiles=(first, named)).default_profile is named
    assert Config(upstream=upstream, profiles=(first,)).default_profile.model == "m"
    assert Config(upstream=upstream, profiles=(first,)).profile("other") is None


def test_units_are_plain_numbers_for_those_who_use_them() -> None:
    assert Seconds(1.5) + 1 == 2.5
    assert Bytes(2) * 2 == 4
