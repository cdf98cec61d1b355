"""Say what usage costs. Prices are data with dates of validity; sums are exact decimals."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from rtobserver.errors import ConfigError, Mistake
from rtobserver.realtime.rows import Usage
from rtobserver.realtime.usage import Transcribed

_DATED = re.compile(r"-\d{4}-\d{2}-\d{2}$")
_METERS = {"text": ("in", "cached", "out"), "audio": ("in", "cached", "out"), "image": ("in", "cached")}
MAX_ASKED = 1_000
"""Models and days whose rates are at hand; upstream may name any number of them."""
_KEYS = {"name", "from", "until", "minute", *_METERS}


@dataclass(frozen=True, slots=True)
class _Rates:
    """Be one entry of the table: USD per million tokens by `text.in` and the like, USD per minute."""

    first: date
    until: date
    tokens: Mapping[str, Decimal]
    minute: Decimal | None


class Prices:
    """Know what models cost."""

    __slots__ = ("_aliases", "_found", "_rates")

    def __init__(self, rates: Mapping[str, tuple[_Rates, ...]], aliases: Mapping[str, str]) -> None:
        self._rates = rates
        self._aliases = aliases
        self._found: dict[tuple[str, date], _Rates | None] = {}

    @classmethod
    def parse(cls, text: str, aliases: Mapping[str, str] | None = None) -> Prices:
        """Read a price table (TOML, as the `prices.toml` beside this module).

        `aliases` lead from a deployment's name to a model's.

        Raises:
            ConfigError: the table is not readable; each mistake is named by its key path.
        """
        try:
            table = tomllib.loads(text, parse_float=Decimal)
        except tomllib.TOMLDecodeError as exc:
            raise ConfigError([Mistake("", f"not TOML: {exc}")]) from exc
        mistakes = [
            Mistake(key, "unknown key") for key in table if key not in {"checked", "source", "model", "aliases"}
        ]
        models = table.get("model", [])
        if not isinstance(models, list) or not all(isinstance(model, dict) for model in models):
            raise ConfigError([Mistake("model", "must be an array of tables")])
        named = table.get("aliases", {})
        if not isinstance(named, dict) or not all(isinstance(model, str) for model in named.values()):
            raise ConfigError([Mistake("aliases", "must lead from names to names")])
        rates: dict[str, tuple[_Rates, ...]] = {}
        for index, model in enumerate(models):
            name, entry = _entry(model, f"model[{index}]", mistakes)
            if any(entry.first < other.until and other.first < entry.until for other in rates.get(name, ())):
                mistakes.append(Mistake(f"model[{index}]", f"{name} has two prices on the same day"))
            rates[name] = (*rates.get(name, ()), entry)
        if mistakes:
            raise ConfigError(mistakes)
        return cls(rates, {key.lower(): value.lower() for key, value in {**named, **(aliases or {})}.items()})

    def knows(self, model: str | None, day: date) -> bool:
        """Say whether there is a price for a model, or for a deployment by its alias, on that day."""
        return self._at(model, day) is not None

    def cost(self, model: str | None, usage: Usage, day: date) -> Decimal | None:
        """Say what the tokens of responses cost; None where the model has no known price."""
        return self._tokens(
            model,
            day,
            {
                "text.in": usage.input_text - usage.cached_text,
                "text.cached": usage.cached_text,
                "text.out": usage.output_text,
                "audio.in": usage.input_audio - usage.cached_audio,
                "audio.cached": usage.cached_audio,
                "audio.out": usage.output_audio,
                "image.in": usage.input_image - usage.cached_image,
                "image.cached": usage.cached_image,
            },
        )

    def transcription_cost(self, model: str | None, used: Transcribed, day: date) -> Decimal | None:
        """Say what transcriptions cost, by tokens or by the minute; None where the model has no known price."""
        counts = {"text.in": used.text_in, "audio.in": used.audio_in, "text.out": used.text_out}
        tokens = self._tokens(model, day, counts)
        entry = self._at(model, day)
        if tokens is None or entry is None or (used.seconds and entry.minute is None):
            return None
        # a sixtieth has no end in decimals; ten places are a ten-billionth of a dollar
        time = (used.seconds * (entry.minute or 0) / 60).quantize(Decimal("1e-10"))
        return _plain(tokens + time)

    def _tokens(self, model: str | None, day: date, counts: Mapping[str, int]) -> Decimal | None:
        entry = self._at(model, day)
        if entry is None or any(number and meter not in entry.tokens for meter, number in counts.items()):
            return None
        millionths = sum((number * entry.tokens[meter] for meter, number in counts.items() if number > 0), Decimal(0))
        return _plain(millionths.scaleb(-6))

    def _at(self, model: str | None, day: date) -> _Rates | None:
        if model is None:
            return None
        # asked at each sum of each call, for the same few models
        asked = (model, day)
        if asked in self._found:
            return self._found[asked]
        name = model.lower()
        name = self._aliases.get(name, name)
        entries = self._rates.get(name) or self._rates.get(_DATED.sub("", name)) or ()
        entry = next((entry for entry in entries if entry.first <= day < entry.until), None)
        if len(self._found) < MAX_ASKED:
            self._found[asked] = entry
        return entry


def _entry(model: dict[str, Any], path: str, mistakes: list[Mistake]) -> tuple[str, _Rates]:
    def number(value: object, at: str) -> Decimal:
        if isinstance(value, int | Decimal) and not isinstance(value, bool):
            price = Decimal(value)
            if price.is_finite() and 0 <= price < 10**6:
                return price
        mistakes.append(Mistake(at, "must be a price in USD, zero or more"))
        return Decimal(0)

    def day(key: str, otherwise: date) -> date:
        value = model.get(key, otherwise)
        if isinstance(value, date) and not isinstance(value, datetime):
            return value
        mistakes.append(Mistake(f"{path}.{key}", "must be a date such as 2026-11-01"))
        return otherwise

    mistakes.extend(Mistake(f"{path}.{key}", "unknown key") for key in model if key not in _KEYS)
    name = model.get("name")
    if not isinstance(name, str) or not name:
        mistakes.append(Mistake(f"{path}.name", "must be the name of a model"))
        name = ""
    tokens: dict[str, Decimal] = {}
    for modality, meters in _METERS.items():
        given = model.get(modality, {})
        if not isinstance(given, dict):
            mistakes.append(Mistake(f"{path}.{modality}", "must be a table of prices"))
            continue
        for key, value in given.items():
            if key in meters:
                tokens[f"{modality}.{key}"] = number(value, f"{path}.{modality}.{key}")
            else:
                mistakes.append(Mistake(f"{path}.{modality}.{key}", f"unknown key; known are {', '.join(meters)}"))
    minute = number(model["minute"], f"{path}.minute") if "minute" in model else None
    return name.lower(), _Rates(day("from", date.min), day("until", date.max), tokens, minute)


def _plain(amount: Decimal) -> Decimal:
    """Drop trailing zeros without falling into exponents, so that `str()` reads like money."""
    return Decimal(format(amount.normalize(), "f"))
