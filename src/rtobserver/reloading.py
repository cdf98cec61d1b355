"""Read the configuration again when its files change or somebody asks, and put its policies in force.

All or nothing: with any mistake the set in force stays, and the mistakes are logged, counted and
kept for `GET /api/v1/policies`. Policies, lists and webhooks can change so; whatever else did is
named in the log, for it needs a restart.

What changed is told by the files' inodes, sizes and times, at which is looked every `LOOK_SECONDS`,
and not by the notices of the system: the database often writes into the same folder, where each
of its commits would be one, some file systems give none, and a mounted ConfigMap changes by a link
two folders away. Files that are being written are left to settle first.
"""

from __future__ import annotations

import asyncio
import glob
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import structlog

from rtobserver.clock import Clock
from rtobserver.config.sections import Webhook
from rtobserver.config.shape import Kind, join, keys
from rtobserver.errors import ConfigError, Mistake
from rtobserver.metrics import Metrics
from rtobserver.policy.rules import Policy
from rtobserver.settings import Settings

LOOK_SECONDS = 1.0
"""Between two looks at the files."""
SETTLE_SECONDS, SETTLED_LOOKS = 0.1, 10
"""Between two looks at files that changed, until one finds nothing new; after so many they are read anyway."""

_NOW = frozenset({"webhook"})
"""Keys of the configuration that a reload puts in force."""

log = structlog.get_logger()

By = Literal["start", "signal", "files"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reload:
    """Be what came of reading the configuration again."""

    at: int
    """Microseconds since 1970."""
    mistakes: tuple[Mistake, ...] = ()
    """Why the set in force stayed; empty where all was well."""


class Reloading:
    """Put what the files say in force: `read` reads them, in a thread, and `adopt` does the rest or raises."""

    def __init__(
        self,
        settings: Settings,
        *,
        read: Callable[[], Settings],
        adopt: Callable[[Settings], Awaitable[None]],
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self.settings = settings
        """As they were last read; of their `config` only the webhooks are in force."""
        self._begun_with = settings.config
        self.loaded_at = clock.now_us()
        """When the policies in force were put in force."""
        self.last: Reload | None = None
        self._read = read
        self._adopt = adopt
        self._clock = clock
        self._metrics = metrics
        self._asked = asyncio.Event()
        self._turn = asyncio.Lock()
        self._seen = Seen()
        self.watching = False
        """Whether a change of the files is noticed from now on."""
        self.looks = 0
        """How often they were looked at."""

    def ask(self) -> None:
        """Have it all read again soon, and put in force even if nothing changed: demoted policies get back up."""
        self._asked.set()

    async def reload(self, by: By) -> bool:
        """Read the configuration and put it in force, or keep what there is; tells whether it was good."""
        async with self._turn:
            old = self.settings
            try:
                found = await asyncio.to_thread(self._read)
                stays = old.policies == found.policies and old.config.webhooks == found.config.webhooks
                if by == "signal" or not stays:
                    await self._adopt(found)
                    self.loaded_at = self._clock.now_us()
            except ConfigError as exc:
                self._refused(by, exc.mistakes)
                return False
            except Exception as exc:
                # whatever a file can bring the compiler to, the calls go on under the set in force
                log.exception("reload_failed")
                self._refused(by, [Mistake("", f"it cannot be read ({type(exc).__name__})", "the log says more")])
                return False
            if stays and by == "start":
                return True
            self.settings = found
            self.last = Reload(at=self._clock.now_us())
            self._metrics.policy_reloads.labels("unchanged" if stays else "reloaded").inc()
            log.info(
                "policies_unchanged" if stays else "policies_reloaded",
                by=by,
                old=old.policies.hash,
                new=found.policies.hash,
                **_changed(old, found),
            )
            if restart := sorted(_changed_keys(self._begun_with, found.config)):
                log.warning("restart_needed", changed=restart)
            return True

    def _refused(self, by: By, mistakes: Sequence[Mistake]) -> None:
        self.last = Reload(at=self._clock.now_us(), mistakes=tuple(mistakes))
        self._metrics.policy_reloads.labels("refused").inc()
        log.warning(
            "policies_not_reloaded",
            by=by,
            policy_set=self.settings.policies.hash,
            count=len(mistakes),
            mistakes=[str(mistake) for mistake in mistakes],
        )

    # --- occasions ------------------------------------------------------------------------------

    async def answer(self) -> None:
        """Read it again whenever somebody asks."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            await self.reload("signal")

    async def watch(self) -> None:
        """Read it again whenever its files change."""
        main = self.settings.files[0]
        self._seen = await asyncio.to_thread(_survey, main, self._seen)
        # they may have changed since they were read for the start
        await self.reload("start")
        self.watching = True
        while True:
            await self._clock.sleep(LOOK_SECONDS)
            if await self._look(main):
                for _ in range(SETTLED_LOOKS):
                    await self._clock.sleep(SETTLE_SECONDS)
                    if not await self._look(main):
                        break
                await self.reload("files")

    async def _look(self, main: Path) -> bool:
        """Look at the files; tells whether they are not what they were."""
        found = await asyncio.to_thread(_survey, main, self._seen)
        changed = found.files != self._seen.files
        self._seen = found
        self.looks += 1
        return changed


@asynccontextmanager
async def reloading(work: Reloading) -> AsyncIterator[Reloading]:
    """Watch and answer for the length of the block."""
    problem: Exception | None = None
    async with asyncio.TaskGroup() as tasks:
        running = [
            tasks.create_task(work.answer(), name="reload when asked"),
            tasks.create_task(work.watch(), name="watch the configuration"),
        ]
        try:
            yield work
        except Exception as exc:  # noqa: BLE001 - raised again where the group does not wrap it
            problem = exc
        finally:
            for task in running:
                task.cancel()
    if problem is not None:
        raise problem


# --- files ----------------------------------------------------------------------------------------


Stand = tuple[str | int, ...]
"""A path, inode, times and size; only the path where there is nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Be what there is to be seen of the files of a configuration."""

    patterns: tuple[str, ...] = ()
    """What the main file includes."""
    files: tuple[Stand, ...] = ()
    """The main one first."""


def _survey(main: Path, before: Seen) -> Seen:
    """Look at the files; what the main one includes is read only where that may have changed."""
    patterns = before.patterns
    if not before.files or before.files[0] != _stand(main):
        found = _included(main)
        patterns = patterns if found is None else found
    return Seen(patterns=patterns, files=tuple(_stand(path) for path in (main, *_matches(main, patterns))))


def _included(main: Path) -> tuple[str, ...] | None:
    """Give the patterns of a file's `include`; None if it cannot be read, which is for others to complain of."""
    try:
        found = tomllib.loads(main.read_text(encoding="utf-8")).get("include", [])
    except (OSError, ValueError, RecursionError):
        return None
    return tuple(each for each in found if isinstance(each, str)) if isinstance(found, list) else ()


def _matches(main: Path, patterns: Sequence[str]) -> Iterator[Path]:
    for pattern in patterns:
        # as `config/files.py` does
        for name in sorted(glob.glob(pattern, root_dir=main.parent)) if pattern else ():  # noqa: PTH207
            yield main.parent / name


def _stand(path: Path) -> Stand:
    try:
        stat = path.stat()
    except OSError:
        return (str(path),)
    return (str(path), stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size)


# --- changes --------------------------------------------------------------------------------------


def _changed(old: Settings, new: Settings) -> dict[str, list[str]]:
    """Name the policies that came, went or are not what they were, and the webhooks."""
    added, removed, changed = _compared(old.policies.policies, new.policies.policies)
    return {
        "added": added,
        "removed": removed,
        "changed": changed,
        "webhooks": [each for ids in _compared(old.config.webhooks, new.config.webhooks) for each in ids],
    }


def _compared(old: Sequence[Policy | Webhook], new: Sequence[Policy | Webhook]) -> tuple[list[str], ...]:
    before, after = {each.id: each for each in old}, {each.id: each for each in new}
    return (
        [each for each in after if each not in before],
        [each for each in before if each not in after],
        [each for each in after if each in before and before[each] != after[each]],
    )


def _changed_keys(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """Give the key paths at which two sections differ and that only a restart puts in force."""
    for key in keys(type(old)):
        before, after, here = getattr(old, key.field), getattr(new, key.field), join(path, key.name)
        if before == after or here in _NOW:
            continue
        if key.kind is Kind.TABLE:
            yield from _changed_keys(before, after, here)
        elif key.kind is Kind.TABLES and len(before) == len(after):
            for index, pair in enumerate(zip(before, after, strict=True)):
                yield from _changed_keys(*pair, f"{here}[{index}]")
        else:
            yield here
