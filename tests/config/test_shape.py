import tomllib

from hypothesis import given
from hypothesis import strategies as st

from rtobserver.config.sections import Config, Profile, Upstream, Webhook
from rtobserver.config.shape import Kind, join, keys, placeholder


def test_every_annotation_of_the_sections_has_a_way_to_be_written() -> None:
    kinds = {key.kind for key in keys(Config)}
    for key in keys(Config):
        if key.table is not None:
            kinds |= {inner.kind for inner in keys(key.table)}
    assert kinds == set(Kind)


def test_arrays_of_tables_are_written_in_the_singular() -> None:
    names = [key.name for key in keys(Config)]
    assert "profile" in names
    assert "webhook" in names
    assert "path" not in names


def test_a_secret_can_be_written_in_three_ways() -> None:
    key = next(key for key in keys(Webhook) if key.name == "secret")
    assert key.spellings == ("secret", "secret_env", "secret_file")


def test_a_stand_in_can_be_made_for_whatever_is_required() -> None:
    for section in (Config, Upstream, Profile, Webhook):
        assert section(**{key.field: placeholder(key) for key in keys(section) if key.required})


@given(st.text(max_size=80))
def test_a_key_path_can_be_pasted_back_into_toml(key: str) -> None:
    assert tomllib.loads(join("a", key) + " = 1") == {"a": {key: 1}}
