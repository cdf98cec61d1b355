import asyncio
import subprocess
import sys
import threading
from dataclasses import dataclass

import pytest
from structlog.testing import capture_logs

from rtobserver.config.sections import Secret, Upstream
from rtobserver.errors import CredentialError
from rtobserver.upstream.credentials import ApiKey, Entra, credentials_for
from tests.upstream.raw_peer import HandClock

SCOPE = "https://cognitiveservices.azure.com/.default"
HOUR = 3600


@dataclass
class Given:
    token: str
    expires_on: int


class Source:
    """Give numbered tokens, or what it was told to do instead."""

    def __init__(self, clock: HandClock, life: float = HOUR) -> None:
        self.clock = clock
        self.life = life
        self.made = self.asked = self.closed = 0
        self.threads: list[threading.Thread] = []
        self.fault: Exception | None = None
        self.token = "token-{}"
        self.gate = asyncio.Event()
        self.gate.set()
        self.waiting = asyncio.Event()

    def make(self, _: str) -> "Source":
        self.made += 1
        self.threads.append(threading.current_thread())
        return self

    async def get_token(self, scope: str, /) -> Given:
        assert scope == SCOPE
        self.asked += 1
        self.waiting.set()
        await self.gate.wait()
        if self.fault is not None:
            raise self.fault
        return Given(self.token.format(self.asked), int(self.clock.now_us() / 1e6 + self.life))

    async def close(self) -> None:
        self.closed += 1


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def source(clock: HandClock) -> Source:
    return Source(clock)


@pytest.fixture
def entra(clock: HandClock, source: Source) -> Entra:
    return Entra(SCOPE, clock, timeout=2.0, patience=0.5, source=source.make)


async def bearer(entra: Entra) -> str:
    return (await entra.headers())["Authorization"].removeprefix("Bearer ")


# --- keys


@pytest.mark.parametrize(
    ("provider", "headers"),
    [
        ("azure", {"api-key": "k"}),
        ("openai", {"Authorization": "Bearer k"}),
        ("compatible", {"Authorization": "Bearer k"}),
    ],
)
async def test_a_key_goes_where_each_provider_looks_for_it(provider: str, headers: dict[str, str]) -> None:
    key = ApiKey(provider, Secret("k"))

    await key.refresh()

    assert await key.headers() == headers
    await key.close()


def upstream(*, key: str | None = None, auth: str = "api-key") -> Upstream:
    return Upstream(
        provider="azure",
        base_url="https://h/openai/v1",
        auth="entra" if auth == "entra" else "api-key",
        api_key=None if key is None else Secret(key),
    )


def test_the_configuration_chooses(clock: HandClock) -> None:
    assert isinstance(credentials_for(upstream(key="k"), clock), ApiKey)
    assert isinstance(credentials_for(upstream(auth="entra"), clock), Entra)


@pytest.mark.parametrize("key", [None, "", "k\n", "k\r\nX: y", "k k", "ké"])
def test_a_key_that_cannot_be_sent_is_refused_unseen(key: str | None, clock: HandClock) -> None:
    with pytest.raises(CredentialError) as caught:
        credentials_for(upstream(key=key), clock)

    assert not key or key not in str(caught.value)


def test_keys_do_not_pay_for_the_identity_library() -> None:
    code = (
        "import sys; from rtobserver.clock import SystemClock; from rtobserver.upstream import credentials, rest;"
        " credentials.Entra('s', SystemClock()); sys.exit(any(name.startswith('azure') for name in sys.modules))"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=50).returncode == 0


# --- tokens


async def test_a_token_is_kept_until_five_minutes_before_its_end(
    entra: Entra, source: Source, clock: HandClock
) -> None:
    assert await bearer(entra) == "token-1"
    clock.elapsed = HOUR - 301
    assert await bearer(entra) == "token-1"
    clock.elapsed = HOUR - 299
    assert await bearer(entra) == "token-2"
    assert source.asked == 2


async def test_the_library_is_loaded_off_the_loop_and_once(entra: Entra, source: Source, clock: HandClock) -> None:
    await bearer(entra)
    clock.elapsed = HOUR
    await bearer(entra)

    assert source.made == 1
    assert source.threads[0] is not threading.main_thread()


async def test_many_callers_make_one_request(entra: Entra, source: Source) -> None:
    source.gate.clear()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(bearer(entra)) for _ in range(50)]
        await source.waiting.wait()
        source.gate.set()

    assert {task.result() for task in tasks} == {"token-1"}
    assert source.asked == 1


async def test_many_callers_share_one_failure(entra: Entra, source: Source) -> None:
    source.fault = RuntimeError("no")
    source.gate.clear()

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(failure(entra)) for _ in range(50)]
        await source.waiting.wait()
        source.gate.set()

    assert len({task.result() for task in tasks}) == 1
    assert source.asked == 1


async def failure(entra: Entra) -> str:
    try:
        return await bearer(entra)
    except CredentialError as exc:
        return str(exc)


async def test_after_a_failure_the_next_caller_tries_again(entra: Entra, source: Source, clock: HandClock) -> None:
    source.fault = RuntimeError("no")
    with pytest.raises(CredentialError):
        await bearer(entra)
    source.fault = None
    clock.elapsed += 0.001

    assert await bearer(entra) == "token-2"


async def test_a_caller_that_gives_up_does_not_fail_the_others(entra: Entra, source: Source) -> None:
    source.gate.clear()
    async with asyncio.TaskGroup() as group:
        first = group.create_task(bearer(entra))
        await source.waiting.wait()
        second = group.create_task(bearer(entra))
        first.cancel()
        source.gate.set()

    assert second.result() == "token-2"


async def test_a_replacement_that_fails_leaves_the_token_in_hand_until_its_end(
    entra: Entra, source: Source, clock: HandClock
) -> None:
    await bearer(entra)
    source.fault = RuntimeError("no")
    clock.elapsed = HOUR - 200

    with capture_logs() as logged:
        assert await bearer(entra) == "token-1"
        assert await bearer(entra) == "token-1"
    assert [line["event"] for line in logged] == ["token_not_replaced"]
    assert logged[0]["seconds_left"] == 200
    assert source.asked == 2
    clock.elapsed += 31
    assert await bearer(entra) == "token-1"
    assert source.asked == 3
    clock.elapsed = HOUR
    with pytest.raises(CredentialError):
        await bearer(entra)


async def test_nobody_waits_for_a_replacement_but_the_one_who_fetches_it(
    entra: Entra, source: Source, clock: HandClock
) -> None:
    await bearer(entra)
    clock.elapsed = HOUR - 200
    source.gate.clear()
    source.waiting.clear()
    async with asyncio.TaskGroup() as group:
        first = group.create_task(bearer(entra))
        await source.waiting.wait()
        assert await bearer(entra) == "token-1"
        source.gate.set()

    assert first.result() == "token-2"


async def test_a_slow_replacement_is_given_up_while_the_token_in_hand_is_good(
    entra: Entra, source: Source, clock: HandClock
) -> None:
    await bearer(entra)
    clock.elapsed = HOUR - 200
    source.gate.clear()

    assert await bearer(entra) == "token-1"


async def test_no_token_in_time_is_an_error(entra: Entra, source: Source) -> None:
    source.gate.clear()

    with pytest.raises(CredentialError, match="within 2 s"):
        await bearer(entra)


async def test_a_short_token_is_replaced_at_half_its_life(clock: HandClock) -> None:
    source = Source(clock, life=100)
    entra = Entra(SCOPE, clock, source=source.make)

    await bearer(entra)
    clock.elapsed = 45
    assert await bearer(entra) == "token-1"
    clock.elapsed = 55
    assert await bearer(entra) == "token-2"


async def test_a_token_that_ended_before_it_came_is_used_once(clock: HandClock) -> None:
    source = Source(clock, life=-5)
    entra = Entra(SCOPE, clock, source=source.make)

    assert await bearer(entra) == "token-1"
    assert await bearer(entra) == "token-2"


@pytest.mark.parametrize("token", ["", "a b", "a\r\nX: y", "é"])
async def test_a_token_that_cannot_be_sent_is_refused(entra: Entra, source: Source, token: str) -> None:
    source.token = token

    with pytest.raises(CredentialError, match="no header"):
        await bearer(entra)


async def test_what_the_token_endpoint_said_is_not_repeated(entra: Entra, source: Source) -> None:
    source.fault = ValueError(
        "Default failed.\n\tEnvironmentCredential: AADSTS7000215: Invalid client secret canary-1.\n"
        "\tManagedIdentityCredential: body was canary-2"
    )

    with pytest.raises(CredentialError) as caught:
        await bearer(entra)

    assert "canary" not in repr(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    for fact in (SCOPE, "ValueError", "AADSTS7000215", "EnvironmentCredential, ManagedIdentityCredential"):
        assert fact in str(caught.value)


# --- refreshes


async def test_a_refresh_fetches_past_the_librarys_own_cache(entra: Entra, source: Source) -> None:
    await bearer(entra)
    await entra.refresh()

    assert await bearer(entra) == "token-2"
    assert (source.made, source.closed) == (2, 1)


async def test_a_storm_of_refusals_makes_one_refresh_a_minute(entra: Entra, source: Source, clock: HandClock) -> None:
    await bearer(entra)
    for second in range(120):
        clock.elapsed = second
        await entra.refresh()
        await bearer(entra)

    assert source.asked == 3


async def test_those_refused_together_all_get_the_new_token(entra: Entra, source: Source) -> None:
    await bearer(entra)
    source.waiting.clear()
    source.gate.clear()

    async def again() -> str:
        await entra.refresh()
        return await bearer(entra)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(again()) for _ in range(20)]
        await source.waiting.wait()
        source.gate.set()

    assert {task.result() for task in tasks} == {"token-2"}


async def test_a_refused_token_is_better_than_none(entra: Entra, source: Source) -> None:
    await bearer(entra)
    source.fault = RuntimeError("no")
    await entra.refresh()

    assert await bearer(entra) == "token-1"


async def test_closing_closes_the_library_once(entra: Entra, source: Source) -> None:
    await entra.close()
    await bearer(entra)
    await entra.close()
    await entra.close()

    assert source.closed == 1
