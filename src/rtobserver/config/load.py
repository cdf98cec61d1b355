"""Read the configuration: one file, those it includes, the environment and secret files.

Nothing else reads the environment. Touches no network and starts nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rtobserver.config import files, overrides
from rtobserver.config.files import Document
from rtobserver.config.places import check_places
from rtobserver.config.policies import WORDS, Place, PolicyTables
from rtobserver.config.reader import Reader
from rtobserver.config.sections import Config, FilePath, Profile, Secret
from rtobserver.config.storage import absolute_store_url
from rtobserver.errors import ConfigError, Mistake


@dataclass(frozen=True, slots=True)
class Loaded:
    """Be what the files and the environment say, and all that is wrong with it but for the policies."""

    config: Config
    """With stand-ins where there are mistakes."""
    tables: PolicyTables
    files: tuple[Path, ...]
    """Those that were read, the main one first; absolute."""
    mistakes: tuple[Mistake, ...]


def load(path: Path, environ: Mapping[str, str]) -> Config:
    """Read a configuration file with the environment's overrides; relative paths become absolute.

    Its policies are not looked at: `settings.load` does that too.

    Raises:
        ConfigError: the file cannot be read, or holds mistakes; all of them are in it.
    """
    loaded = read(path, environ)
    if loaded.mistakes:
        raise ConfigError(list(loaded.mistakes))
    return loaded.config


def read(path: Path, environ: Mapping[str, str]) -> Loaded:
    """Read a configuration file, and take the tables of policies out of it.

    Raises:
        ConfigError: the file cannot be read.
    """
    document = files.read(path)
    if not document.files:
        raise ConfigError(document.mistakes)
    overrides.apply(document, environ)
    policies = {word: document.table.pop(word) for word in WORDS if word in document.table}
    reader = Reader(document, environ, _unread(document.table))
    config = _completed(reader.section(Config, document.table), document)
    # secrets of policies stand apart: whoever needs only the settings need not have them
    others = Reader(document, environ)
    secrets = _policy_secrets(others, policies.get("policy"))
    tables = PolicyTables(
        lists=policies.get("lists", {}),
        policies=policies.get("policy", []),
        place=lambda path: _place(document, path),
        secrets=secrets,
        mistakes=tuple(others.mistakes),
        profiles_known=not reader.broken("profile"),
        webhooks_known=not reader.broken("webhook"),
    )
    key_files = [*reader.key_files, *others.key_files]
    places = [_placed(document, mistake) for mistake in check_places(config, document.files, key_files)]
    return Loaded(config, tables, tuple(document.files), (*document.mistakes, *reader.mistakes, *places))


def _policy_secrets(reader: Reader, policies: Any) -> dict[str, Secret]:
    """Read the secrets of tools' endpoints; what is no table is left for the compiler to refuse."""
    found: dict[str, Secret] = {}
    for at, policy in enumerate(policies if isinstance(policies, list) else ()):
        actions = policy.get("do") if isinstance(policy, dict) else None
        for index, action in enumerate(actions if isinstance(actions, list) else ()):
            endpoint = action.get("answer_tool") if isinstance(action, dict) else None
            path = f"policy[{at}].do[{index}].answer_tool"
            if isinstance(endpoint, dict) and (secret := reader.secret("secret", endpoint, path)):
                found[path] = secret
    return found


def _place(document: Document, path: str) -> Place:
    origin = document.origin(path)
    return Place(origin.file, origin.path, str(origin.folder))


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
