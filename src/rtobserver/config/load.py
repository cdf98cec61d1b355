"""Read the configuration: one file, those it includes, the environment and secret files.

Nothing else reads the environment. Touches no network and starts nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rtobserver.config import overrides
from rtobserver.config.files import Document, read
from rtobserver.config.places import check_places
from rtobserver.config.reader import Reader
from rtobserver.config.release import take_later_words
from rtobserver.config.sections import Config, FilePath, Profile
from rtobserver.config.storage import absolute_store_url
from rtobserver.errors import ConfigError, Mistake


def load(path: Path, environ: Mapping[str, str]) -> Config:
    """Read a configuration file with the environment's overrides; relative paths become absolute.

    Raises:
        ConfigError: the file cannot be read, or holds mistakes; all of them are in it.
    """
    document = read(path)
    if not document.files:
        raise ConfigError(document.mistakes)
    overrides.apply(document, environ)
    later = [_placed(document, mistake) for mistake in take_later_words(document.table)]
    reader = Reader(document, environ, _unread(document.table))
    config = _completed(reader.section(Config, document.table), document)
    places = [_placed(document, mistake) for mistake in check_places(config, document.files, reader.key_files)]
    mistakes = [*document.mistakes, *later, *reader.mistakes, *places]
    if mistakes:
        raise ConfigError(mistakes)
    return config


def _unread(table: Mapping[str, Any]) -> frozenset[str]:
    """Name the secrets that nobody will use: with Entra, `api_key_env` may stand in the file without being set."""
    upstream = table.get("upstream")
    entra = isinstance(upstream, dict) and upstream.get("auth") == "entra"
    return frozenset({"upstream.api_key"}) if entra else frozenset()


def _completed(config: Config, document: Document) -> Config:
    folder = str(document.origin("store.url").folder)
    journal = config.store.journal_dir
    return replace(
        config,
        path=FilePath(str(document.files[0])),
        profiles=tuple(_typed(profile) for profile in config.profiles),
        store=replace(
            config.store,
            url=absolute_store_url(config.store.url, folder),
            journal_dir=FilePath(str(document.main.folder / journal)) if journal else journal,
        ),
    )


def _typed(profile: Profile) -> Profile:
    return replace(profile, session={"type": "realtime", **profile.session})


def _placed(document: Document, mistake: Mistake) -> Mistake:
    origin = document.origin(mistake.path)
    return replace(mistake, path=origin.path, file=origin.file)
