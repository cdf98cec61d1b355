"""Write policies as an operator does, and load them."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from rtobserver import settings
from rtobserver.errors import ConfigError
from rtobserver.policy.rules import Action, Policy, PolicySet, Trigger

REST = """
[upstream]
provider = "compatible"
base_url = "http://127.0.0.1:9000/v1"
auth = "entra"

[[profile]]
name = "default"
session.model = "m"

[[profile]]
name = "support"
session.model = "m"

[[webhook]]
id = "alerts"
url = "https://ops.example.com/hook"
"""


def compiled(text: str, environ: Mapping[str, str] | None = None, **files: str) -> PolicySet:
    """Load a main file of this text, and files beside it that it includes; `_` in a name stands for a dot."""
    return loaded(text, environ, **files).policies


def loaded(text: str, environ: Mapping[str, str] | None = None, **files: str) -> settings.Settings:
    """Load such files, and give all that is in them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.toml"
        path.write_text(text + REST, encoding="utf-8")
        for name, content in files.items():
            (Path(folder) / name.replace("_", ".")).write_text(content, encoding="utf-8")
        return settings.load(path, environ or {})


def refused(text: str, environ: Mapping[str, str] | None = None, **files: str) -> list[str]:
    """Give what such a file is refused with, a line for each mistake: file, key path, problem."""
    with pytest.raises(ConfigError) as caught:
        compiled(text, environ, **files)
    assert all(mistake.help for mistake in caught.value.mistakes)
    return [str(mistake).splitlines()[0] for mistake in caught.value.mistakes]


def policy(lines: str = "", *, trigger: str = 'on = "error"', do: str = '{ tag = "a" }', id_: str = "p") -> str:
    """Write one policy."""
    return f'[[policy]]\nid = "{id_}"\n{trigger}\ndo = [{do}]\n{lines}\n'


def only(text: str, environ: Mapping[str, str] | None = None) -> Policy:
    """Load a file with one policy."""
    (found,) = compiled(text, environ).policies
    return found


def trigger_of(written: str) -> Trigger:
    """Load one trigger."""
    return only(policy(trigger=written)).trigger


def action_of(written: str, trigger: str = 'on = "error"', environ: Mapping[str, str] | None = None) -> Action:
    """Load one action."""
    (found,) = only(policy(trigger=trigger, do=written), environ).actions
    return found


def with_limit(**values: Any) -> str:
    """Write a limit."""
    return "limit = { " + ", ".join(f"{name} = {value!r}".replace("'", '"') for name, value in values.items()) + " }"
