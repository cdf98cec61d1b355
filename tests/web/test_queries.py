from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from multidict import MultiDict

from rtobserver.errors import RequestError
from rtobserver.web.queries import DURATION, MOMENT, TEXT, TEXTS, Reader, choice, choices, labels, parameters_of, whole

NOW = 1_767_225_600_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Some:
    since: Annotated[int | None, MOMENT, "When."] = None
    name: Annotated[str | None, TEXT, "Who."] = None
    size: Annotated[int, whole(1, 20, 5), "How many."] = 5
    long: Annotated[int | None, DURATION, "How long."] = None
    from_: Annotated[str | None, choice(("a", "b")), "Whence."] = None
    has: Annotated[tuple[str, ...], choices(("x", "y")), "With what."] = ()
    tag: Annotated[tuple[str, ...], TEXTS, "With which."] = ()
    label: Annotated[dict[str, str] | None, labels(str.isalpha), "With which labels."] = None


def read(*pairs: tuple[str, str]) -> Some:
    return Reader(Some).read(MultiDict(pairs), NOW)


def test_a_query_is_read_as_its_fields_say() -> None:
    found = read(
        ("since", "1s"), ("size", "20"), ("from", "b"), ("has", "y"), ("has", "x"), ("tag", "q"), ("label.team", "ü")
    )
    assert found == Some(since=NOW - 1_000_000, size=20, from_="b", has=("x", "y"), tag=("q",), label={"team": "ü"})


def test_what_is_absent_has_its_default() -> None:
    assert read() == Some(label={})


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("size", "0", "1 to 20"),
        ("size", "21", "1 to 20"),
        ("size", "٣", "1 to 20"),
        ("size", "9" * 50, "1 to 20"),
        ("from", "c", "one of a, b"),
        ("from_", "a", "did you mean `from`"),
        ("has", "z", "one of x, y"),
        ("label.1", "v", "label"),
        ("label", "v", "did you mean `label.KEY`"),
        ("nam", "v", "did you mean `name`"),
    ],
)
def test_what_cannot_be_read_is_refused_with_words(name: str, value: str, word: str) -> None:
    with pytest.raises(RequestError) as caught:
        read((name, value))
    assert caught.value.status == 400
    assert word in caught.value.message


def test_every_parameter_is_described() -> None:
    found: dict[str, Any] = {each.name: each for each in parameters_of(Some)}
    assert list(found) == ["since", "name", "size", "long", "from", "has", "tag", "label"]
    assert found["size"].form.schema == {"type": "integer", "minimum": 1, "maximum": 20, "default": 5}
    assert found["from"].form.schema["enum"] == ["a", "b"]
    assert found["name"].description == "Who."
