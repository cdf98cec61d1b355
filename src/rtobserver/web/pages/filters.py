"""Read the filters that a page was asked with: what can be read counts, and of the rest is said what is wrong.

A form sends its empty fields too, and a label as two fields; `tidy` makes of that the address which
the same filters have in the API, so that it can be kept, passed on, and understood. A label may be
empty, so that `label.NAME=` is a filter and not an empty field.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode

from multidict import MultiDict, MultiMapping

from rtobserver.errors import RequestError
from rtobserver.web import queries
from rtobserver.web.parameters import Parameters

LABEL_NAME, LABEL_VALUE = "label_name", "label_value"
"""Fields of a form that make one parameter `label.NAME`."""

Q = TypeVar("Q")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked(Generic[Q]):
    """Be what a page was asked with."""

    query: Q | None
    """None where something is wrong with it."""
    wrong: Mapping[str, str]
    """What is wrong, by the names of parameters; under no name what fits none of them."""
    given: tuple[tuple[str, str], ...]
    """All parameters as they came."""

    def first(self, name: str) -> str:
        """Give a parameter's text, for its field."""
        return next((value for key, value in self.given if key == name), "")

    def every(self, name: str) -> list[str]:
        """Give the texts of a parameter that may be repeated."""
        return [value for key, value in self.given if key == name]

    def labels(self) -> list[tuple[str, str]]:
        """Give the labels that are asked for, with the names of their parameters."""
        return [(key, value) for key, value in self.given if key.startswith("label.")]

    def address(self, path: str, leave: Iterable[str] = (), **more: str) -> str:
        """Write the address of these filters, without some and with others."""
        left = [*leave, *more]
        pairs = [(key, value) for key, value in self.given if key not in left]
        pairs += [(key, value) for key, value in more.items() if value]
        return f"{path}?{urlencode(pairs)}" if pairs else path


def tidy(values: MultiMapping[str]) -> list[tuple[str, str]] | None:
    """Give the parameters that a form meant; None where they are what was sent."""
    meant = [
        (key, value)
        for key, value in values.items()
        if (value or key.startswith("label.")) and key not in (LABEL_NAME, LABEL_VALUE)
    ]
    name, value = values.get(LABEL_NAME, ""), values.get(LABEL_VALUE, "")
    if name or value:
        meant = [(key, other) for key, other in meant if key != f"label.{name}"] + [(f"label.{name}", value)]
    return None if meant == list(values.items()) else meant


def read(query: type[Q], values: MultiMapping[str], now_us: int) -> Asked[Q]:
    """Read each parameter by itself, by the same forms as the API does."""
    left = MultiDict(values)
    taken: dict[str, Any] = {}
    wrong: dict[str, str] = {}
    for each in queries.parameters_of(query):
        # parameters of a family are judged one by one, so that one that is wrong spoils no other
        names = (
            [key for key in dict.fromkeys(left) if key.startswith(f"{each.name}.")] if each.form.family else [each.name]
        )
        for name in names:
            own = MultiDict((name, value) for value in left.popall(name, ()))
            families = [f"{each.name}."] if each.form.family else []
            try:
                value = each.form.take(Parameters(own, [each.name], families=families), each.name, now_us)
            except RequestError as exc:
                wrong[name] = _beside(name, exc.message)
                continue
            if each.form.family:
                taken[each.field] = taken.get(each.field, {}) | value
            elif value is not None:
                taken[each.field] = value
        if each.required and each.field not in taken and each.name not in wrong:
            wrong[each.name] = ""
    if left:
        wrong[""] = "There is no filter " + ", ".join(f"`{name[:64]}`" for name in dict.fromkeys(left)) + "."
    return Asked(query=None if wrong else query(**taken), wrong=wrong, given=tuple(values.items()))


def _beside(name: str, message: str) -> str:
    """Write what is wrong for whoever sees the field beside it; the API's words name the parameter first."""
    words = message.removeprefix(f"`{name}` ") if name not in ("limit", "cursor") else message
    return words[:1].upper() + words[1:]
