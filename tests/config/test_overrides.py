from collections.abc import Callable

from rtobserver.config.sections import Config, Secret
from rtobserver.errors import Mistake

Loads = Callable[..., Config]
Refuses = Callable[..., list[Mistake]]


def test_every_kind_of_setting_can_come_from_the_environment(loads: Loads) -> None:
    config = loads(
        environ={
            "RTOBSERVER_PUBLIC__PORT": "0",
            "RTOBSERVER_PUBLIC__HOST": "0.0.0.0",
            "RTOBSERVER_PUBLIC__AUTH__MODE": "forwarded",
            "RTOBSERVER_PUBLIC__AUTH__TRUSTED_PROXIES": "10.0.0.0/8, 192.168.0.0/16",
            "RTOBSERVER_PUBLIC__MAX_BODY": "128KiB",
            "RTOBSERVER_STORE__MIGRATE_ON_START": "false",
            "RTOBSERVER_OBSERVER__IDLE_PROBE": "90s",
            "RTOBSERVER_UPSTREAM__PROXY": "http://proxy.example.com:3128",
            "RTOBSERVER_UPSTREAM__BASE_URL": "https://other.openai.azure.com/openai/v1",
        }
    )
    assert config.public.port == 0
    assert config.public.auth.trusted_proxies == ("10.0.0.0/8", "192.168.0.0/16")
    assert config.public.max_body == 128 * 1024
    assert config.store.migrate_on_start is False
    assert config.observer.idle_probe == 90.0
    assert config.upstream.base_url == "https://other.openai.azure.com/openai/v1"


def test_an_empty_list_can_come_from_the_environment(loads: Loads) -> None:
    environ = {"RTOBSERVER_PUBLIC__ALLOWED_ORIGINS": ""}
    assert loads('public.allowed_origins = ["https://a.example"]\n', environ).public.allowed_origins == ()


def test_other_names_with_the_prefix_are_left_alone(loads: Loads) -> None:
    assert loads(environ={"RTOBSERVER_CONFIG": "x", "RTOBSERVER_DEMO_KEY": "y", "OTHER__NAME": "z"})


def test_a_misspelt_override_is_a_mistake_with_the_nearest_name(refuses: Refuses) -> None:
    assert refuses(environ={"RTOBSERVER_PUBLIC__PROT": "0"}) == [
        Mistake("RTOBSERVER_PUBLIC__PROT", "is not a setting", "did you mean RTOBSERVER_PUBLIC__PORT?")
    ]


def test_arrays_and_tables_of_names_stay_in_the_file(refuses: Refuses) -> None:
    for name in ("PROFILE__DEFAULT__MAX_DURATION", "WEBHOOK__ALERTS__URL", "PRICING__ALIASES__VOICE"):
        (mistake,) = refuses(environ={f"RTOBSERVER_{name}": "1"})
        assert (mistake.path, mistake.problem) == (f"RTOBSERVER_{name}", "cannot be set from the environment")


def test_a_wrong_value_is_blamed_on_the_variable_and_not_on_the_file(refuses: Refuses) -> None:
    (mistake,) = refuses("public.port = 1\n", {"RTOBSERVER_PUBLIC__PORT": "99999"})
    assert (mistake.file, mistake.path) == ("RTOBSERVER_PUBLIC__PORT", "public.port")
    (mistake,) = refuses(environ={"RTOBSERVER_PUBLIC__PORT": "http"})
    assert mistake.problem == "must be a whole number, not a text"
    (mistake,) = refuses(environ={"RTOBSERVER_STORE__MIGRATE_ON_START": "maybe"})
    assert mistake.problem == "must be true or false, not a text"


def test_a_secret_from_the_environment_takes_the_place_of_the_files(loads: Loads) -> None:
    key = "A" * 43
    text = 'public.token_key_env = "NOT_SET"\n'
    assert loads(text, {"RTOBSERVER_PUBLIC__TOKEN_KEY": key}).public.token_key == Secret(key)
    environ = {"RTOBSERVER_PUBLIC__TOKEN_KEY_ENV": "SEAL", "SEAL": key}
    assert loads(text, environ).public.token_key == Secret(key)


def test_two_ways_to_give_one_secret_are_a_mistake_in_the_environment_too(refuses: Refuses) -> None:
    environ = {"RTOBSERVER_PUBLIC__TOKEN_KEY": "A" * 43, "RTOBSERVER_PUBLIC__TOKEN_KEY_FILE": "x"}
    assert [mistake.problem for mistake in refuses(environ=environ)] == ["is given beside token_key"]


def test_an_override_cannot_hide_that_the_file_holds_no_table(refuses: Refuses) -> None:
    (mistake,) = refuses("public = 1\n", {"RTOBSERVER_PUBLIC__PORT": "0"})
    assert mistake.path == "public"


def test_policies_cannot_come_from_the_environment(refuses: Refuses) -> None:
    for name in ("RTOBSERVER_POLICY__MODE", "RTOBSERVER_LISTS__MONEY"):
        (mistake,) = refuses(environ={name: "enforce"})
        assert (mistake.path, mistake.problem) == (name, "cannot be set from the environment")
