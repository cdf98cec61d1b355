"""Each file in `bad/` holds one mistake; its first line says which: key path and the beginning of the problem."""

from dataclasses import MISSING, fields, replace
from pathlib import Path

import pytest

from rtobserver.config.checks import RULES, VALUES
from rtobserver.config.load import load
from rtobserver.config.sections import Config, Operator, Profile, Public, Secret, Upstream
from rtobserver.config.shape import keys
from rtobserver.errors import ConfigError

BAD = Path(__file__).parent / "bad"
MINIMAL = Config(
    upstream=Upstream(provider="openai", base_url="https://api.openai.com/v1", auth="api-key", api_key=Secret("k")),
    profiles=(Profile(name="default", session={"model": "gpt-realtime-2.1"}),),
)
ENVIRON = {"KEY": "sk-test", "EMPTY": "", "SHARED": "s" * 32}


@pytest.mark.parametrize("path", sorted(BAD.glob("*.toml")), ids=lambda path: path.stem)
def test_a_bad_file_is_refused_with_its_one_mistake(path: Path) -> None:
    expected = path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
    with pytest.raises(ConfigError) as caught:
        load(path, ENVIRON)
    (mistake,) = caught.value.mistakes
    shown = str(mistake).splitlines()[0].replace(str(BAD) + "/", "")
    assert shown.startswith(expected)
    assert mistake.help


def test_loopback_addresses_need_no_tls_and_any_path_will_do_for_a_compatible_provider() -> None:
    for base_url in ("http://127.0.0.1:9000/openai/v1", "http://localhost:9000", "http://[::1]:9000/v1/"):
        upstream = replace(MINIMAL.upstream, provider="compatible", base_url=base_url)
        assert not [mistake for rule in RULES[Upstream] for mistake in rule.check(upstream)]
        assert VALUES[Upstream]["base_url"](base_url) == base_url.rstrip("/")


def test_rules_look_only_at_keys_that_there_are() -> None:
    for section, rules in RULES.items():
        for rule in rules:
            for path in rule.looks_at:
                inner = section
                for step in path.split("."):
                    key = next(key for key in keys(inner) if key.name == step)
                    inner = key.table or inner


def test_checks_of_single_settings_accept_their_defaults() -> None:
    for section, checks in VALUES.items():
        for field in fields(section):
            if field.name in checks and field.default is not MISSING:
                assert checks[field.name](field.default) == field.default


def test_two_listeners_may_share_a_port_on_different_addresses_or_pick_free_ones() -> None:
    two_listeners = next(rule for rule in RULES[Config] if "operator.port" in rule.looks_at)
    apart = replace(MINIMAL, operator=Operator(host="127.0.0.2", port=8080))
    free = replace(MINIMAL, public=Public(port=0), operator=Operator(port=0))
    everywhere = replace(MINIMAL, operator=Operator(host="0.0.0.0", port=8080))
    assert [list(two_listeners.check(config)) for config in (apart, free)] == [[], []]
    assert [mistake.path for mistake in two_listeners.check(everywhere)] == ["operator.port"]
