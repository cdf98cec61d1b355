import tomllib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rtobserver.config.load import load
from rtobserver.config.sections import Config, Secret
from rtobserver.config.shape import Key, Kind, join, keys
from rtobserver.config.values import quoted
from rtobserver.errors import ConfigError, Mistake

Loads = Callable[..., Config]
Refuses = Callable[..., list[Mistake]]
KEY = "A" * 43


def test_a_secret_is_read_from_a_variable_or_a_file_or_as_it_stands(loads: Loads, tmp_path: Path) -> None:
    (tmp_path / "seal.key").write_text(f"{KEY}\n", encoding="utf-8")
    for text, environ in (
        (f'public.token_key = "{KEY}"\n', {}),
        ('public.token_key_env = "SEAL"\n', {"SEAL": f"{KEY}\n"}),
        ('public.token_key_file = "seal.key"\npublic.token_key_env = ""\n', {}),
    ):
        assert loads(text, environ).public.token_key == Secret(KEY)


def test_a_secret_at_a_wrong_place_is_not_repeated(refuses: Refuses) -> None:
    shown = "".join(str(mistake) for mistake in refuses('public.port = "hunter2"\npublic.token_key = "hunter2"\n'))
    assert "hunter2" not in shown


def test_a_session_that_is_nested_without_end_is_refused(refuses: Refuses) -> None:
    deep = ".".join(["a"] * 3000)
    (mistake,) = refuses(f'[[profile]]\nname = "deep"\nsession.model = "m"\nsession.{deep} = 1\n')
    assert mistake.problem == "is nested more than 100 deep"


JSON_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def plausible(key: Key) -> st.SearchStrategy[Any]:
    """Draw a value that is often of the right type and sometimes right."""
    if key.table is not None:
        table = section(key.table)
        return table if key.kind is Kind.TABLE else st.lists(table, max_size=3)
    texts = st.sampled_from(
        ["", "default", "30s", "64KiB", "https://a.example", "http://127.0.0.1/openai/v1", "0.0.0.0", "jwt", "entra"]
    )
    of_kind: dict[Kind, st.SearchStrategy[Any]] = {
        Kind.WHOLE: st.integers(-1, 70000),
        Kind.FLAG: st.booleans(),
        Kind.CHOICE: st.sampled_from(key.choices or ("",)),
        Kind.TEXTS: st.lists(texts, max_size=2),
        Kind.NAMES: st.dictionaries(texts, texts, max_size=2),
        Kind.OBJECT: st.dictionaries(st.sampled_from(["model", "type", "audio"]), JSON_LIKE),
    }
    return of_kind.get(key.kind, texts) | JSON_LIKE


def section(table: type[Any]) -> st.SearchStrategy[dict[str, Any]]:
    known = {spelling: key for key in keys(table) for spelling in key.spellings}
    return st.fixed_dictionaries({}, optional={name: plausible(key) for name, key in known.items()})


def written(value: Any) -> str:
    """Write a value as TOML, None as a date."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{join('', key)} = {written(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(written(inner) for inner in value) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return quoted(value)
    return "2026-11-20" if value is None else repr(value)


@given(st.dictionaries(st.text(max_size=8), JSON_LIKE, max_size=3), section(Config))
@example({"include": ["a", "[", "**"]}, {})
@example({"public": {"auth": 1}}, {"profile": [{}]})
@settings(
    max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)
def test_any_document_is_a_configuration_or_refused(
    tmp_path: Path, stray: dict[str, Any], tables: dict[str, Any]
) -> None:
    text = "".join(f"{join('', key)} = {written(value)}\n" for key, value in {**stray, **tables}.items())
    tomllib.loads(text)
    path = tmp_path / "config.toml"
    path.write_text(text, encoding="utf-8")
    with suppress(ConfigError):
        assert load(path, {"30s": "x"}).profiles
