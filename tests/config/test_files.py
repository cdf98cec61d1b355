from collections.abc import Callable
from pathlib import Path

from rtobserver.config import load
from rtobserver.config.files import read
from rtobserver.config.policies import Place
from rtobserver.config.sections import Config, Secret
from rtobserver.errors import Mistake

Loads = Callable[..., Config]
Refuses = Callable[..., list[Mistake]]


def test_included_files_add_profiles_and_settings(loads: Loads, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "b.toml").write_text('[[profile]]\nname = "b"\nsession.model = "m"\n', encoding="utf-8")
    (tmp_path / "more" / "a.toml").write_text(
        '[pricing.aliases]\nvoice = "m"\n[[profile]]\nname = "a"\nsession.model = "m"\n', encoding="utf-8"
    )
    config = loads('include = ["more/*.toml", "more/a.toml", "none/*.toml"]\npricing.aliases.other = "m"\n')
    assert [profile.name for profile in config.profiles] == ["default", "a", "b"]
    assert config.pricing.aliases == {"other": "m", "voice": "m"}


def test_a_pattern_that_matches_the_file_itself_does_not_include_it(loads: Loads) -> None:
    assert len(loads('include = ["*.toml"]\n').profiles) == 1


def test_paths_in_an_included_file_are_relative_to_that_file(loads: Loads, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "web").mkdir()
    (tmp_path / "site" / "site.toml").write_text('public.static_dir = "web"\n', encoding="utf-8")
    assert loads('include = ["site/site.toml"]\n').public.static_dir == str(tmp_path / "site" / "web")


def test_a_mistake_in_an_included_file_is_named_as_it_stands_there(refuses: Refuses, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('[[profile]]\nname = "a b"\nsession.model = "m"\n', encoding="utf-8")
    (mistake,) = refuses('include = ["a.toml"]\n')
    assert (mistake.file, mistake.path) == ("a.toml", "profile[0].name")


def test_with_includes_a_mistake_of_the_main_file_is_named_by_it(refuses: Refuses, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("", encoding="utf-8")
    (mistake,) = refuses('include = ["a.toml"]\npublic.port = -1\n')
    assert mistake.file == "config.toml"


def test_policies_are_taken_as_they_are_written_with_the_place_of_each(loads: Loads, tmp_path: Path) -> None:
    loads('include = ["policies/*.toml"]\nlists.a = 1\npolicy = [{ x = 1 }]\n')
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "a.toml").write_text("lists.b = 2\n[[policy]]\ny = 2\n[[policy]]\n", encoding="utf-8")
    (tmp_path / "policies" / "b.toml").write_text("[[policy.test]]\nz = 3\n", encoding="utf-8")
    tables = load.read(tmp_path / "config.toml", {}).tables
    assert tables.lists == {"a": 1, "b": 2}
    assert tables.policies == [{"x": 1}, {"y": 2}, {}, {"test": [{"z": 3}]}]
    folder = str(tmp_path / "policies")
    assert tables.place("policy[0].x") == Place("config.toml", "policy[0].x", str(tmp_path))
    assert tables.place("policy[1].do[3].y") == Place("policies/a.toml", "policy[0].do[3].y", folder)
    assert tables.place("lists.b[0]") == Place("policies/a.toml", "lists.b[0]", folder)
    assert tables.place("policy[3].test[0].events") == Place("policies/b.toml", "policy[0].test[0].events", folder)


def test_settings_are_read_without_a_look_at_policies(loads: Loads) -> None:
    config = loads('lists = 1\npolicy = [{ do = [{ answer_tool = { secret_env = "NOT_SET" } }] }]\n')
    assert config.default_profile.name == "default"


def test_secrets_of_tools_are_read_like_any_other(loads: Loads, tmp_path: Path) -> None:
    text = """
    policy = [
      { do = [1, {}, { tag = "a" }, { answer_tool = { secret_env = "KEY" } }] },
      { do = [{ answer_tool = { secret_file = "key" } }, { answer_tool = { secret_env = "NOT_SET" } }] },
    ]
    """
    (tmp_path / "key").write_text("from a file\n", encoding="utf-8")
    loads(text)
    tables = load.read(tmp_path / "config.toml", {"KEY": "from a variable"}).tables
    assert tables.secrets == {
        "policy[0].do[3].answer_tool": Secret("from a variable"),
        "policy[1].do[0].answer_tool": Secret("from a file"),
    }
    (mistake,) = tables.mistakes
    assert mistake.path == "policy[1].do[1].answer_tool.secret_env"


def test_a_secret_of_a_tool_is_not_served_to_browsers(refuses: Refuses, tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "key").write_text("k", encoding="utf-8")
    text = 'public.static_dir = "web"\npolicy = [{ do = [{ answer_tool = { secret_file = "web/key" } }] }]\n'
    (mistake,) = refuses(text)
    assert mistake.path == "public.static_dir"


def test_bytes_that_are_not_text_and_nests_that_are_too_deep_are_mistakes(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    for content in (b"\xff", b"a = " + b"[" * 5000, b"a = " + b"1" * 5000, b"a.b = 1\na.b.c = 2"):
        path.write_bytes(content)
        (mistake,) = read(path).mistakes
        assert mistake.file == str(path)


def test_deeply_dotted_keys_are_merged_or_refused_without_falling_over(refuses: Refuses, tmp_path: Path) -> None:
    deep = ".".join(["a"] * 3000)
    (tmp_path / "a.toml").write_text(f"pricing.{deep} = 1\n", encoding="utf-8")
    assert refuses(f'include = ["a.toml"]\npricing.{deep} = 1\n')
