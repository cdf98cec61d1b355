"""Load a configuration and its policies together, with every mistake of both at once.

The one door for whoever runs or judges policies; `config.load.load` is for those who need no more than
the settings. What settings say of the fold of a call stands here too, since not only a daemon folds.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from rtobserver.config import load as config_load
from rtobserver.config.sections import Config, Profile
from rtobserver.errors import ConfigError
from rtobserver.policy.compile import compile_policies
from rtobserver.policy.rules import PolicySet
from rtobserver.realtime.call import CallState
from rtobserver.realtime.cost import Prices
from rtobserver.realtime.session import lookup


@dataclass(frozen=True, slots=True)
class Settings:
    """Be a configuration that was found good."""

    config: Config
    policies: PolicySet
    files: tuple[Path, ...]
    """The files that it was read from, the main one first; absolute."""


def load(path: Path, environ: Mapping[str, str]) -> Settings:
    """Read a configuration file, those that it includes and the policies in all of them.

    Raises:
        ConfigError: a file cannot be read, or there are mistakes; all of them are in it.
    """
    loaded = config_load.read(path, environ)
    policies, mistakes = compile_policies(loaded.config, loaded.tables)
    if loaded.mistakes or mistakes:
        raise ConfigError([*loaded.mistakes, *mistakes])
    return Settings(loaded.config, policies, loaded.files)


def prices_for(config: Config) -> Prices:
    """Read the price table: the operator's own, or the built-in one."""
    own = config.pricing.file
    text = Path(own).read_text() if own else (files("rtobserver.realtime") / "prices.toml").read_text()
    return _prices(text, tuple(config.pricing.aliases.items()))


# it knows nothing of its reader, and takes longer to read than most of a start
@functools.lru_cache(maxsize=2)
def _prices(text: str, aliases: tuple[tuple[str, str], ...]) -> Prices:
    return Prices.parse(text, dict(aliases))


def new_state(profile: Profile, model: str, prices: Prices) -> CallState:
    """Begin the fold of a call of this profile."""
    transcriber = lookup(profile.session, "audio.input.transcription.model")
    return CallState(
        model=model, transcription_model=transcriber if isinstance(transcriber, str) else None, prices=prices
    )
