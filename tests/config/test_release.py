from collections.abc import Callable

import pytest

from rtobserver.config.release import unsupported
from rtobserver.config.sections import Config

Loads = Callable[..., Config]


def test_the_defaults_can_all_be_done(loads: Loads) -> None:
    assert unsupported(loads()) == []


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ('recording.redact = ["email"]\n', ["recording.redact"]),
        (
            f'public.token_key = "{"A" * 43}"\n[store]\nurl = "postgresql://me@db/calls"\ndistribution = "citus"\n',
            [],
        ),
    ],
)
def test_what_a_later_release_will_do_is_valid_and_named(loads: Loads, text: str, paths: list[str]) -> None:
    assert [mistake.path for mistake in unsupported(loads(text))] == paths
