"""Sum up what a call used, and what that cost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date
from decimal import Decimal
from typing import Literal, NamedTuple, TypeAlias, TypeVar

from rtobserver.realtime.cost import Prices
from rtobserver.realtime.rows import Cost, Usage
from rtobserver.realtime.usage import Transcribed, total

Meter: TypeAlias = Literal["responses", "transcription"]

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")

_US_PER_DAY = 86_400_000_000
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_MAX_METERS = 64
"""A call crosses midnight once; more days or models than this are clocks gone wrong."""


class Bill(NamedTuple):
    """Be what a call cost, in USD."""

    amount: Decimal | None
    """None as soon as anything that was used has no known price: a part of the sum would pass for the whole."""
    unpriced: tuple[str, ...]
    """Models that have no known price."""
    costs: tuple[Cost, ...]
    """What each model cost; without a price for all of its days, it has none."""


NO_PRICES = Bill(None, (), ())
"""Where there is no price table."""


class Meters:
    """Keep usage by day, since prices change between days, and transcription by model too."""

    __slots__ = ("_by_day", "_by_model", "transcribed", "usage", "without_usage")

    def __init__(self) -> None:
        self.usage = Usage()
        self.transcribed = Transcribed()
        self.without_usage = 0
        self._by_day: dict[int, Usage] = {}
        self._by_model: dict[tuple[str | None, int], Transcribed] = {}

    def add(self, usage: Usage | None, at: int) -> None:
        """Count a response that ended, with its usage if upstream told any."""
        if usage is None:
            self.without_usage += 1
            return
        self.usage = total(self.usage, usage)
        day = _room(self._by_day, at // _US_PER_DAY)
        self._by_day[day] = total(self._by_day.get(day, Usage()), usage)

    def add_transcribed(self, model: str | None, used: Transcribed, at: int) -> None:
        """Count a transcription; `model` is None while it is not known."""
        self.transcribed += used
        meter = _room(self._by_model, (model, at // _US_PER_DAY))
        self._by_model[meter] = self._by_model.get(meter, Transcribed()) + used

    def bill(self, prices: Prices, models: Iterable[str | None], transcriber: str | None) -> Bill:
        """Say what it cost.

        The first of `models` that has a price is taken: a deployment's name may have none, and the
        session then tells the model behind it.
        """
        amount: Decimal | None = Decimal(0)
        unpriced: dict[str, None] = {}
        found: dict[tuple[Meter, str | None], Decimal | None] = {}
        for meter, model, part in self._parts(prices, models, transcriber):
            before = found.get((meter, model), Decimal(0))
            found[meter, model] = None if part is None or before is None else before + part
            amount = None if part is None or amount is None else amount + part
            if part is None and (name := model or ("unknown transcription" if meter == "transcription" else None)):
                unpriced[name] = None
        costs = tuple([Cost(meter=meter, model=model, usd=usd) for (meter, model), usd in found.items()])
        return Bill(amount, tuple(unpriced), costs)

    def _parts(
        self, prices: Prices, models: Iterable[str | None], transcriber: str | None
    ) -> Iterator[tuple[Meter, str | None, Decimal | None]]:
        names = [model for model in models if model]
        for day, usage in self._by_day.items():
            on = _date(day)
            known = next((model for model in names if prices.knows(model, on)), None)
            yield "responses", known or next(iter(names), None), prices.cost(known, usage, on)
        for (model, day), used in self._by_model.items():
            name = model or transcriber
            yield "transcription", name, prices.transcription_cost(name, used, _date(day))


def percentile(values: Iterable[int], percent: int) -> int | None:
    """Give the nearest-rank percentile: the least value that so many percent do not exceed."""
    ordered = sorted(values)
    return ordered[max(-(-percent * len(ordered) // 100), 1) - 1] if ordered else None


def _room(meters: dict[_Key, _Value], key: _Key) -> _Key:
    """Give the key under which to add; when all meters are taken, that of the latest."""
    return key if key in meters or len(meters) < _MAX_METERS else next(reversed(meters))


def _date(day: int) -> date:
    return date.fromordinal(min(max(day + _EPOCH_ORDINAL, 1), date.max.toordinal()))
