"""Configurations that change while they are in force: real files, real loads."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from rtobserver.clock import SystemClock
from rtobserver.errors import ConfigError
from rtobserver.metrics import Metrics
from rtobserver.reloading import Reloading, reloading
from rtobserver.settings import Settings, load

PATIENCE = 20.0

CONFIG = """
include = ["policies/*.toml"]
[upstream]
provider = "azure"
base_url = "https://example.openai.azure.com/openai/v1"
auth = "entra"
[[profile]]
name = "default"
[profile.session]
model = "gpt-realtime"
"""
HOOK = """
[[webhook]]
id = "alerts"
url = "https://ops.example.com/{path}"
secret = "a secret"
"""


def policy(id_: str, **keys: str) -> str:
    lines = {"turns": "3", "do": '[{ tag = "t" }]'} | keys
    return "\n".join(["[[policy]]", f'id = "{id_}"', *(f"{key} = {value}" for key, value in lines.items()), ""])


@dataclass
class Files:
    folder: Path
    adopted: list[Settings] = field(default_factory=list)
    metrics: Metrics = field(default_factory=Metrics)

    @property
    def main(self) -> Path:
        return self.folder / "config.toml"

    @property
    def part(self) -> Path:
        return self.folder / "policies" / "a.toml"

    def read(self) -> Settings:
        return load(self.main, {})

    async def adopt(self, settings: Settings) -> None:
        self.adopted.append(settings)

    def made(self) -> Reloading:
        return Reloading(self.read(), read=self.read, adopt=self.adopt, clock=SystemClock(), metrics=self.metrics)

    def outcomes(self) -> dict[str, float]:
        lines = self.metrics.render().decode().splitlines()
        found = [line for line in lines if line.startswith("rtobserver_policy_reloads_total{")]
        return {line.split('"')[1]: float(line.rpartition(" ")[2]) for line in found}

    async def until(self, ids_: list[str]) -> None:
        """Wait until these policies are in force."""
        await until(lambda: self.adopted and ids(self.adopted[-1]) == ids_)

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[Reloading]:
        async with reloading(self.made()) as work:
            await until(lambda: work.watching)
            yield work


@pytest.fixture
def files(tmp_path: Path) -> Files:
    made = Files(tmp_path)
    made.part.parent.mkdir()
    made.main.write_text(CONFIG)
    made.part.write_text(policy("first"))
    return made


async def until(condition: Callable[[], object]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0.005)


def ids(settings: Settings) -> list[str]:
    return [each.id for each in settings.policies.policies]


def last(logs: Any, event: str) -> dict[str, Any]:
    return dict(next(line for line in reversed(logs) if line["event"] == event))


# --- what a reload does -------------------------------------------------------------------------


async def test_a_changed_policy_is_put_in_force_and_named(files: Files) -> None:
    work = files.made()
    old = work.settings.policies.hash
    files.part.write_text(policy("first", turns="4") + policy("second"))
    with capture_logs() as logs:
        assert await work.reload("files")
    [adopted] = files.adopted
    assert ids(adopted) == ["first", "second"]
    told = last(logs, "policies_reloaded")
    assert (told["old"], told["new"]) == (old, adopted.policies.hash)
    assert old != adopted.policies.hash
    assert (told["added"], told["removed"], told["changed"]) == (["second"], [], ["first"])
    assert work.settings == adopted
    assert work.last is not None
    assert work.last.mistakes == ()
    assert files.outcomes() == {"reloaded": 1.0}


async def test_files_that_say_the_same_are_put_in_force_only_when_somebody_asks(files: Files) -> None:
    work = files.made()
    files.part.write_text("# a comment\n" + policy("first"))
    assert await work.reload("files")
    assert files.adopted == []
    assert await work.reload("signal")
    assert len(files.adopted) == 1
    assert files.outcomes() == {"unchanged": 2.0}


async def test_a_file_with_mistakes_changes_nothing_and_every_mistake_is_named(files: Files) -> None:
    work = files.made()
    before, loaded_at = work.settings, work.loaded_at
    files.part.write_text(
        policy("first", turns='"many"') + policy("Bad Id!") + policy("third", trigger='"none"') + policy("good")
    )
    with capture_logs() as logs:
        assert not await work.reload("files")
    assert files.adopted == []
    assert (work.settings, work.loaded_at) == (before, loaded_at)
    told = last(logs, "policies_not_reloaded")
    assert told["policy_set"] == before.policies.hash
    with pytest.raises(ConfigError) as caught:
        files.read()
    assert told["mistakes"] == [str(mistake) for mistake in caught.value.mistakes]
    assert told["count"] == len(told["mistakes"]) >= 3
    assert work.last is not None
    assert work.last.mistakes == tuple(caught.value.mistakes)
    assert files.outcomes() == {"refused": 1.0}
    files.part.write_text(policy("first") + policy("good"))
    assert await work.reload("files")
    assert work.last.mistakes == ()
    assert ids(work.settings) == ["first", "good"]


async def test_a_file_that_breaks_its_reader_changes_nothing(files: Files) -> None:
    def broken() -> Settings:
        raise ZeroDivisionError

    work = Reloading(files.read(), read=broken, adopt=files.adopt, clock=SystemClock(), metrics=files.metrics)
    with capture_logs() as logs:
        assert not await work.reload("files")
    assert [line["event"] for line in logs] == ["reload_failed", "policies_not_reloaded"]
    assert files.adopted == []


async def test_a_set_that_cannot_be_adopted_is_refused(files: Files) -> None:
    async def refuse(_: Settings) -> None:
        raise ValueError("no")

    work = Reloading(files.read(), read=files.read, adopt=refuse, clock=SystemClock(), metrics=files.metrics)
    before = work.settings
    files.part.write_text(policy("second"))
    assert not await work.reload("files")
    assert work.settings == before


async def test_webhooks_are_taken_over_and_what_needs_a_restart_is_named(files: Files) -> None:
    work = files.made()
    files.main.write_text(CONFIG + HOOK.format(path="a"))
    with capture_logs() as logs:
        assert await work.reload("files")
    assert [each.id for each in files.adopted[-1].config.webhooks] == ["alerts"]
    assert last(logs, "policies_reloaded")["webhooks"] == ["alerts"]
    assert "restart_needed" not in [line["event"] for line in logs]

    files.main.write_text(
        CONFIG.replace("[[profile]]", "[public]\nport = 9999\n[[profile]]").replace("gpt-realtime", "gpt-realtime-mini")
        + HOOK.format(path="b").replace("a secret", "another")
    )
    with capture_logs() as logs:
        assert await work.reload("files")
    assert files.adopted[-1].config.webhooks[0].url.endswith("/b")
    told = last(logs, "restart_needed")
    assert told["changed"] == ["profile[0].session", "public.port"]
    assert "another" not in str(logs)

    files.main.write_text(CONFIG)
    with capture_logs() as logs:
        assert await work.reload("files")
    assert "restart_needed" not in [line["event"] for line in logs]


# --- what it notices ----------------------------------------------------------------------------


async def test_a_file_that_is_written_is_read_again(files: Files) -> None:
    async with files.watched():
        files.part.write_text(policy("first") + policy("second"))
        await until(lambda: files.adopted)
    assert ids(files.adopted[-1]) == ["first", "second"]


async def test_what_changed_while_the_daemon_started_is_noticed(files: Files) -> None:
    work = files.made()
    files.part.write_text(policy("second"))
    async with reloading(work):
        await files.until(["second"])


async def test_a_start_that_finds_everything_as_it_was_says_nothing(files: Files) -> None:
    with capture_logs() as logs:
        async with files.watched() as work:
            assert work.last is None
    assert (logs, files.adopted, files.outcomes()) == ([], [], {})


async def test_a_file_that_is_replaced_is_read_again_each_time(files: Files) -> None:
    async with files.watched():
        for number in range(3):
            beside = files.part.with_name(".a.toml.swp")
            beside.write_text(policy(f"p{number}"))
            beside.replace(files.part)
            await files.until([f"p{number}"])


async def test_a_new_file_and_one_that_goes_count(files: Files) -> None:
    async with files.watched():
        other = files.part.with_name("b.toml")
        other.write_text(policy("second"))
        await files.until(["first", "second"])
        files.part.unlink()
        await files.until(["second"])


async def test_a_folder_that_comes_later_counts_too(files: Files) -> None:
    files.part.unlink()
    files.part.parent.rmdir()
    async with files.watched():
        files.part.parent.mkdir()
        files.part.write_text(policy("first"))
        await files.until(["first"])
        files.part.write_text(policy("first") + policy("second"))
        await files.until(["first", "second"])


async def test_an_include_that_is_added_is_followed(files: Files) -> None:
    elsewhere = files.folder / "elsewhere"
    elsewhere.mkdir()
    async with files.watched():
        files.main.write_text(CONFIG.replace('"policies/*.toml"', '"policies/*.toml", "elsewhere/*.toml"'))
        (elsewhere / "x.toml").write_text(policy("x"))
        await files.until(["first", "x"])
        (elsewhere / "x.toml").write_text(policy("y"))
        await files.until(["first", "y"])


async def test_a_mounted_config_map_is_followed_through_its_links(tmp_path: Path) -> None:
    def version(number: int, *names: str) -> Path:
        folder = tmp_path / f"..2026_{number}"
        folder.mkdir()
        (folder / "config.toml").write_text(CONFIG.replace("policies/*", "policy-*"))
        (folder / "policy-a.toml").write_text("".join(policy(name) for name in names))
        return folder

    def switch(folder: Path) -> None:
        beside = tmp_path / "..data_tmp"
        beside.symlink_to(folder.name)
        beside.replace(tmp_path / "..data")

    switch(version(1, "first"))
    for name in ("config.toml", "policy-a.toml"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    files = Files(tmp_path)
    async with files.watched():
        for number in (2, 3):
            switch(version(number, "first", f"new-{number}"))
            await files.until(["first", f"new-{number}"])


async def test_a_file_behind_a_link_counts_where_it_lies(
    files: Files, tmp_path_factory: pytest.TempPathFactory
) -> None:
    home = tmp_path_factory.mktemp("home")
    (home / "real.toml").write_text(policy("first"))
    files.part.unlink()
    files.part.symlink_to(home / "real.toml")
    async with files.watched():
        (home / "real.toml").write_text(policy("second"))
        await files.until(["second"])


async def test_what_else_happens_in_the_folder_is_no_reason_to_read(files: Files) -> None:
    loads = 0

    def counted() -> Settings:
        nonlocal loads
        loads += 1
        return files.read()

    work = Reloading(files.read(), read=counted, adopt=files.adopt, clock=SystemClock(), metrics=files.metrics)
    async with reloading(work):
        await until(lambda: work.watching)
        looks = work.looks
        while work.looks < looks + 3:
            (files.folder / "calls.db-wal").write_bytes(os.urandom(64))
            await asyncio.sleep(0.01)
        assert loads == 1
        files.part.write_text(policy("second"))
        await until(lambda: files.adopted)
    assert loads == 2


async def test_a_mistake_and_its_mending_are_both_noticed(files: Files) -> None:
    async with files.watched() as work:
        files.main.write_text("this is no TOML")
        await until(lambda: work.last is not None and work.last.mistakes)
        assert files.adopted == []
        files.main.write_text(CONFIG)
        await until(lambda: work.last is not None and not work.last.mistakes)
    assert ids(work.settings) == ["first"]
