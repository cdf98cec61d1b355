from collections.abc import Callable
from datetime import date

import pytest

from rtobserver.config.advice import warnings
from rtobserver.config.sections import Config

Loads = Callable[..., Config]
OPENAI = """
[upstream]
provider = "openai"
base_url = "https://api.openai.com/v1"
auth = "api-key"
api_key = "sk-test"
"""
TODAY = date(2026, 11, 20)


def paths(config: Config, today: date = TODAY) -> list[str]:
    return [mistake.path for mistake in warnings(config, today)]


def profile(session: str) -> str:
    return f'[[profile]]\nname = "other"\nsession = {session}\n'


def test_a_sound_configuration_is_left_in_peace(loads: Loads) -> None:
    assert paths(loads()) == []


@pytest.mark.parametrize(
    ("today", "said"),
    [
        (date(2026, 10, 21), ""),
        (date(2026, 10, 22), "gpt-realtime: OpenAI retires it on 2027-01-20"),
        (date(2027, 1, 20), "gpt-realtime: OpenAI retired it on 2027-01-20"),
    ],
)
def test_a_model_is_pointed_out_ninety_days_before_it_goes(loads: Loads, today: date, said: str) -> None:
    config = loads(profile('{ model = "gpt-realtime" }'), upstream=OPENAI)
    assert "".join(mistake.problem for mistake in warnings(config, today)) == said


def test_the_model_of_the_transcription_counts_too(loads: Loads) -> None:
    config = loads(profile('{ model = "m", audio.input.transcription.model = "whisper-1" }'), upstream=OPENAI)
    assert paths(config, date(2027, 1, 1)) == ["profile[0].session.audio.input.transcription.model"]


def test_stored_prompts_are_pointed_out(loads: Loads) -> None:
    config = loads(profile('{ model = "m", prompt.id = "pmpt_1" }'), upstream=OPENAI)
    assert paths(config) == ["profile[0].session.prompt"]


def test_on_azure_the_alias_says_which_model_a_deployment_has(loads: Loads) -> None:
    config = loads('pricing.aliases.voice = "gpt-realtime"\n' + profile('{ model = "voice" }'))
    (mistake,) = warnings(config, TODAY)
    assert mistake.path == "profile[0].session.model"
    assert "Azure has dates of its own" in mistake.help
    assert paths(loads(profile('{ model = "voice" }'))) == []


def test_on_azure_its_own_date_comes_before_openais(loads: Loads) -> None:
    (mistake,) = warnings(loads(profile('{ model = "gpt-4o-realtime-preview" }')), TODAY)
    assert mistake.problem == "gpt-4o-realtime-preview: Azure retired it on 2026-04-30"


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('public.token_mode = "passthrough"\n', "public.token_mode"),
        ('public.base_url = "http://voice.example.com"\n', "public.base_url"),
        ('operator.base_url = "http://voice.example.com"\n', "operator.base_url"),
        ('operator.host = "0.0.0.0"\n', "operator.base_url"),
        ('public.auth.issuer = "https://id.example.com"\n', "public.auth.issuer"),
        ('public.auth.trusted_proxies = ["10.0.0.0/8"]\n', "public.auth.trusted_proxies"),
        ('operator.auth.scope_claim = "scp"\n', "operator.auth.scope_claim"),
        ('[[profile]]\nname = "a"\nsession.model = "m"\nmax_duration = "2h"\n', "profile[0].max_duration"),
    ],
)
def test_what_will_not_do_what_was_meant_is_pointed_out(loads: Loads, text: str, path: str) -> None:
    assert paths(loads(text)) == [path]


def test_the_examples_resource_is_pointed_out_and_one_that_ends_like_it_is_not(loads: Loads) -> None:
    upstream = '\n[upstream]\nprovider = "azure"\nbase_url = "https://{}.openai.azure.com/openai/v1"\nauth = "entra"\n'
    assert paths(loads(upstream=upstream.format("RESOURCE"))) == ["upstream.base_url"]
    assert paths(loads(upstream=upstream.format("myresource"))) == []
