"""Say what the queries of routes may hold: definitions from which they are read and documented alike.

A query is a frozen dataclass. Each field is `Annotated` with a `Form`, which reads the parameter's
text and gives its JSON Schema, and with one sentence of description. A trailing underscore is no
part of a parameter's name. Pure but for what it is told of the time.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar, cast, get_type_hints

from multidict import MultiMapping

from rtobserver.errors import RequestError
from rtobserver.store import phrases
from rtobserver.store.positions import Position
from rtobserver.web import cursors
from rtobserver.web.parameters import LIMIT_CAP, LIMIT_DEFAULT, TEXT_CAP, Parameters, one_of

_STARS = 5  # a pattern with many of them can be made to take very long
PLAIN = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$"
"""Pattern of a text without control characters."""
UNIT_TIME = "[0-9]{1,9}(\\.[0-9]{1,6})?(ms|s|m|h|d)"
"""Pattern of a duration."""

Q = TypeVar("Q")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """Say how a parameter is read, and describe what it may hold."""

    take: Callable[[Parameters, str, int], Any]
    """Reads the parameter of a name, told the time in microseconds since 1970; None where it is absent.

    Raises RequestError 400 where it cannot be read.
    """
    schema: Mapping[str, Any]
    """JSON Schema of the text, or of the list of texts where it may be repeated."""
    family: bool = False
    """Whether it is any number of parameters, `NAME.KEY`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """Be one parameter of a query."""

    name: str
    field: str
    """The field of the query that holds it."""
    form: Form
    description: str
    required: bool


def _of_text(read: Callable[[str], T | None], says: str, schema: Mapping[str, Any]) -> Form:
    return Form(take=lambda query, name, _: query.read(name, read, says), schema={"type": "string"} | dict(schema))


def choice(words: Sequence[str], default: str | None = None) -> Form:
    """Take one of the words that there are."""
    schema: dict[str, Any] = {"type": "string", "enum": list(words)}
    if default is not None:
        schema["default"] = default
    return Form(take=lambda query, name, _: query.choice(name, words), schema=schema)


def choices(words: Sequence[str]) -> Form:
    """Take any of the words that there are, each in a parameter of its own."""

    def take(query: Parameters, name: str, _: int) -> tuple[str, ...]:
        given = query.all(name)
        if not set(given) <= set(words):
            raise RequestError(400, "invalid_parameter", f"`{name}` must be {one_of(words)}.")
        return tuple(word for word in words if word in given)

    return Form(take=take, schema={"type": "array", "items": {"type": "string", "enum": list(words)}})


def whole(lowest: int, highest: int, default: int | None = None) -> Form:
    """Take a whole number within bounds."""

    def read(text: str) -> int | None:
        number = int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None
        return number if number is not None and lowest <= number <= highest else None

    schema: dict[str, Any] = {"type": "integer", "minimum": lowest, "maximum": highest}
    if default is not None:
        schema["default"] = default
    says = f"a whole number from {lowest} to {highest}"
    return Form(take=lambda query, name, _: query.read(name, read, says), schema=schema)


def _glob(text: str) -> str | None:
    return text if text.count("*") <= _STARS else None


def _family(is_key: Callable[[str], bool], keys: str, says: str) -> Form:
    def take(query: Parameters, name: str, _: int) -> Mapping[str, str]:
        found = query.family(f"{name}.")
        if not all(map(is_key, found)):
            raise RequestError(400, "invalid_parameter", says)
        return found

    values = {"type": "string", "maxLength": TEXT_CAP, "pattern": PLAIN}
    return Form(take=take, schema={"type": "object", "patternProperties": {keys: values}}, family=True)


def labels(is_key: Callable[[str], bool]) -> Form:
    """Take values by the labels' names."""
    return _family(
        is_key,
        "^label\\.[A-Za-z0-9_-]{1,64}$",
        "A label's name has 1 to 64 of the characters A-Z a-z 0-9 _ -",
    )


_SHORT = {"type": "string", "maxLength": TEXT_CAP, "pattern": PLAIN}
TEXT = Form(take=lambda query, name, _: query.text(name), schema=_SHORT)
TEXTS = Form(take=lambda query, name, _: query.all(name), schema={"type": "array", "items": _SHORT})
LIMIT = whole(1, LIMIT_CAP, LIMIT_DEFAULT)
MOMENT = Form(
    take=lambda query, name, now_us: query.moment(name, now_us),
    schema={"anyOf": [{"type": "string", "format": "date-time"}, {"type": "string", "pattern": f"^{UNIT_TIME}$"}]},
)
DURATION = Form(
    take=lambda query, name, _: query.duration_us(name),
    schema={"type": "string", "pattern": f"^{UNIT_TIME}?$"},
)
PLACE = _of_text(Position.parse, "a position such as 1:250", {"pattern": "^[0-9]{1,9}:[0-9]{1,9}$"})
GLOB = _of_text(_glob, f"a pattern; it can have at most {_STARS} stars", _SHORT)
WORDS = _of_text(phrases.read, "words to look for", _SHORT | {"minLength": 1})


def cursor(read: Callable[[str], Any]) -> Form:
    """Take a cursor that was given out; `read` gives None for any other text."""

    def take(query: Parameters, name: str, _: int) -> Any:
        text = query.text(name)
        if text is None:
            return None
        place = read(text)
        if place is None:
            raise RequestError(
                400, "invalid_cursor", f"`{name}` is not one that was given here: pass it on as it came."
            )
        return place

    return Form(take=take, schema={"type": "string", "maxLength": TEXT_CAP, "x-opaque": True})


@dataclass(frozen=True, slots=True, kw_only=True)
class Nothing:
    """Hold no parameters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Ask for a page of a call's rows, by position."""

    limit: Annotated[int, LIMIT, "How many rows a page may have."] = LIMIT_DEFAULT
    cursor: Annotated[
        Position | None, cursor(cursors.to_positions), "`next_cursor` of the page before, as it came."
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Anything:
    """Take a query as it came; whoever answers reads it, and says in its own way what is wrong with it."""

    values: MultiMapping[str]


def parameters_of(query: type) -> tuple[Parameter, ...]:
    """List the parameters that a query may hold."""
    return _listed(query)


# to read annotations is half of what it takes to make all routes
@functools.cache
def _listed(query: type) -> tuple[Parameter, ...]:
    hints = get_type_hints(query, include_extras=True)
    found = []
    for each in dataclasses.fields(query):
        form, description = hints[each.name].__metadata__
        found.append(
            Parameter(
                name=each.name.rstrip("_"),
                field=each.name,
                form=form,
                description=description,
                required=each.default is each.default_factory is dataclasses.MISSING,
            )
        )
    return tuple(found)


class Reader(Generic[Q]):
    """Read queries of one type."""

    def __init__(self, query: type[Q]) -> None:
        self._query = query
        self._parameters = () if query is Anything else parameters_of(query)
        self._known = [each.name for each in self._parameters if not each.form.family]
        self._families = [f"{each.name}." for each in self._parameters if each.form.family]

    def read(self, values: MultiMapping[str], now_us: int) -> Q:
        """Read a request's query.

        Raises:
            RequestError: 400, naming the parameter and what it must be.

        """
        if self._query is Anything:
            return cast("Q", Anything(values=values))
        given = Parameters(values, self._known, families=self._families)
        taken = {each.field: each.form.take(given, each.name, now_us) for each in self._parameters}
        for each in self._parameters:
            if each.required and taken[each.field] is None:
                raise RequestError(400, "missing_parameter", f"`{each.name}` must be given.")
        return self._query(**{name: value for name, value in taken.items() if value is not None})
