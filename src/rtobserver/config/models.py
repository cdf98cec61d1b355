"""Know when upstream's models and session settings stop working; the dates are data, in `models.toml`."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from datetime import date
from importlib.resources import files
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Retirement:
    """Say when a vendor takes a model, or a setting of the session, out of service."""

    name: str
    kind: Literal["model", "setting"]
    retires: date
    by: str
    """`OpenAI` or `Azure`."""
    instead: str


def retirements() -> list[Retirement]:
    """Read the table that comes with this release."""
    table = tomllib.loads(files("rtobserver.config").joinpath("models.toml").read_text(encoding="utf-8"))
    models = [_retirement(name, "model", row) for row in table["model"] for name in row["names"]]
    return models + [_retirement(row["name"], "setting", row) for row in table["setting"]]


def _retirement(name: str, kind: Literal["model", "setting"], row: dict[str, Any]) -> Retirement:
    return Retirement(name, kind, row["retires"], row["by"], row["instead"])
