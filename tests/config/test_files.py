from collections.abc import Callable
from pathlib import Path

from rtobserver.config.files import read
from rtobserver.config.sections import Config
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


def test_policies_are_refused_once_wherever_they_stand(refuses: Refuses, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('[[policy]]\nid = "a"\n[[policy]]\nid = "b"\n', encoding="utf-8")
    (mistake,) = refuses('include = ["a.toml"]\n')
    assert mistake.file == "a.toml"
    assert "not available in this release yet" in mistake.problem


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
