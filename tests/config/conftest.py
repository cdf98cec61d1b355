from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from rtobserver.config.load import load
from rtobserver.config.sections import Config
from rtobserver.errors import ConfigError, Mistake

UPSTREAM = """
[upstream]
provider = "azure"
base_url = "https://voice.openai.azure.com/openai/v1"
auth = "entra"
"""
PROFILE = """
[[profile]]
name = "default"
session.model = "gpt-realtime-2.1"
"""

Loads = Callable[..., Config]
Refuses = Callable[..., list[Mistake]]


@pytest.fixture
def loads(tmp_path: Path) -> Loads:
    """Load a file of these lines beside a minimal upstream and profile."""

    def loads(text: str = "", environ: Mapping[str, str] | None = None, *, upstream: str = UPSTREAM) -> Config:
        path = tmp_path / "config.toml"
        path.write_text(text + upstream + PROFILE, encoding="utf-8")
        return load(path, environ or {})

    return loads


@pytest.fixture
def refuses(loads: Loads) -> Refuses:
    """Give the mistakes that such a file is refused with."""

    def refuses(text: str = "", environ: Mapping[str, str] | None = None, *, upstream: str = UPSTREAM) -> list[Mistake]:
        with pytest.raises(ConfigError) as caught:
            loads(text, environ, upstream=upstream)
        return caught.value.mistakes

    return refuses
