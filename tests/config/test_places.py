from collections.abc import Callable
from pathlib import Path

from rtobserver.config.sections import Config
from rtobserver.errors import Mistake

Loads = Callable[..., Config]
Refuses = Callable[..., list[Mistake]]


def test_a_folder_of_its_own_may_be_served(loads: Loads, tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    assert loads('public.static_dir = "web"\n')


def test_a_link_does_not_hide_what_a_served_folder_holds(refuses: Refuses, tmp_path: Path) -> None:
    (tmp_path / "web").symlink_to(tmp_path, target_is_directory=True)
    (mistake,) = refuses('public.static_dir = "web"\n')
    assert mistake.problem.startswith("holds the configuration and the database and the journal")


def test_names_that_no_file_system_takes_are_just_not_there(refuses: Refuses) -> None:
    paths = [
        mistake.path for mistake in refuses(f'public.static_dir = "{"a" * 5000}"\npricing.file = "{"b" * 5000}"\n')
    ]
    assert paths == ["pricing.file", "public.static_dir"]
