"""Name what the configuration can say and this release cannot do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rtobserver.config.sections import Config, Observer
from rtobserver.errors import Mistake

_NOT_YET = "this release cannot do it yet"


def unsupported(config: Config) -> list[Mistake]:
    """Give what is valid but cannot be done; `serve` refuses to start with any of it."""
    wanted: Mapping[str, bool] = {
        "recording.redact": bool(config.recording.redact),
    }
    remedies = {
        "recording.redact": "leave it empty",
    }
    return [Mistake(path, _NOT_YET, remedies[path]) for path, is_wanted in wanted.items() if is_wanted]


def not_used(config: Config) -> Iterator[Mistake]:
    """Give what is read and then not used, because only a later release could use it."""
    if config.observer.lease_ttl != Observer().lease_ttl and not config.store.url.startswith("postgresql:"):
        yield Mistake("observer.lease_ttl", "one daemon on SQLite needs no lease", "several replicas on PostgreSQL do")
