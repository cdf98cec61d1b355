"""Check what the configuration says about the file system."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from rtobserver.config.sections import Config
from rtobserver.config.storage import store_path
from rtobserver.errors import Mistake


def check_places(config: Config, config_files: Iterable[Path], key_files: Iterable[Path]) -> Iterator[Mistake]:
    """Give the mistakes about files and folders that must exist, or must not be served to browsers."""
    if config.pricing.file and not _is(Path(config.pricing.file), "file"):
        yield Mistake("pricing.file", "there is no such file", "leave it empty for the built-in prices")
    if not config.public.static_dir:
        return
    folder = Path(config.public.static_dir)
    if not _is(folder, "folder"):
        yield Mistake("public.static_dir", "there is no such folder", "leave it empty to serve no files")
        return
    private = {
        "the configuration": list(config_files),
        "a key file": list(key_files),
        "the database": [Path(path) for path in (store_path(config.store.url),) if path],
        "the journal": [Path(path) for path in (config.store.journal_dir,) if path],
    }
    found = [
        what for what, paths in private.items() if any(_real(path).is_relative_to(_real(folder)) for path in paths)
    ]
    if found:
        held = " and ".join(found)
        yield Mistake("public.static_dir", f"holds {held}, which browsers could then fetch", "serve another folder")


def _is(path: Path, what: str) -> bool:
    try:
        return path.is_file() if what == "file" else path.is_dir()
    except OSError:  # a name that is too long
        return False


def _real(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # a loop of links
        return path.absolute()
