"""The command line: the only place that prints and that ends the process.

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 the database has another schema.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from rtobserver import __version__, logs
from rtobserver.clock import SystemClock
from rtobserver.errors import ConfigError, Mistake, RtobserverError, SchemaMismatch
from rtobserver.terminal.calls import calls
from rtobserver.terminal.policies import policies
from rtobserver.terminal.running import GC_THRESHOLD, followed, progress, run, spare_from_collector

if TYPE_CHECKING:
    # each command imports what it needs: `keys list` should not wait for a web server to load
    from rtobserver.config.sections import Config
    from rtobserver.daemon import Daemon
    from rtobserver.settings import Settings
    from rtobserver.store.places import Place

DEFAULT_CONFIG = Path("config.toml")

_config = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    default=DEFAULT_CONFIG,
    show_default=True,
    help="Configuration file.",
)
_log_format = click.option(
    "--log-format", type=click.Choice(["json", "console"]), default=None, help="Default: console on a terminal."
)


def main() -> NoReturn:
    """Run a command; never returns."""
    # hardly anything of what a command loads is ever garbage: to look for that takes an eighth of a start
    gc.set_threshold(*GC_THRESHOLD)
    try:
        code = commands(standalone_mode=False)
    except click.exceptions.Exit as exc:
        sys.exit(exc.exit_code)
    except click.Abort:
        sys.exit(1)
    except click.ClickException as exc:
        exc.show()
        sys.exit(2)
    except BrokenPipeError:
        # whoever read our output has had enough; nothing more may be flushed there when Python ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (RtobserverError, OSError) as exc:
        click.echo(f"rtobserver: {exc}", err=True)
        sys.exit(_exit_code(exc))
    sys.exit(code if isinstance(code, int) else 0)


def _exit_code(exc: Exception) -> int:
    match exc:
        case ConfigError():
            return 2
        case SchemaMismatch():
            return 3
        case _:
            return 1


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="rtobserver")
def commands() -> None:
    """Record and control calls to the GPT Realtime API."""


@commands.command()
@_config
@_log_format
def serve(config_path: Path, log_format: str | None) -> int:
    """Run the daemon until SIGTERM or Ctrl-C."""
    logs.set_up(_format(log_format))
    return run(_serve(config_path, _usable_settings(config_path)))


async def _serve(path: Path, settings: Settings) -> int:
    from rtobserver.daemon import running

    stop, hurry, again, begun = asyncio.Event(), asyncio.Event(), asyncio.Event(), asyncio.Event()
    starting = asyncio.timeout(None)

    def stopping() -> None:
        # the first signal drains, the second does not wait for anything; a start is broken off
        (hurry if stop.is_set() else stop).set()
        if not (starting.expired() or begun.is_set()):
            starting.reschedule(loop.time())

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping)
    # one that comes before the daemon runs is heard when it does, and ends nothing
    loop.add_signal_handler(signal.SIGHUP, again.set)
    daemons = running(settings.config, settings.policies, files=settings.files, read=lambda: _usable_settings(path))
    async with AsyncExitStack() as stack:
        try:
            async with starting:
                daemon = await stack.enter_async_context(daemons)
                begun.set()
        except TimeoutError:
            if starting.expired():
                return 0
            raise
        spare_from_collector()
        return await _until_stopped(daemon, stop, hurry, again)


async def _until_stopped(daemon: Daemon, stop: asyncio.Event, hurry: asyncio.Event, again: asyncio.Event) -> int:
    """Let the daemon run until a signal or its own failure ends it; gives the exit code."""
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as tasks:
        loop.add_signal_handler(signal.SIGHUP, daemon.reload)
        if again.is_set():
            daemon.reload()
        stopped = tasks.create_task(stop.wait(), name="wait for a signal")
        awaited: list[asyncio.Future[Any]] = [stopped, daemon.failed]
        await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
        failed = daemon.failed.done()
        stopped.cancel()
        draining = tasks.create_task(daemon.drain(), name="drain")
        hurried = tasks.create_task(hurry.wait(), name="wait for a second signal")
        await asyncio.wait([draining, hurried], return_when=asyncio.FIRST_COMPLETED)
        if not draining.done():
            daemon.hurry()
            await draining
        hurried.cancel()
        # what is left to do may yet be hurried
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, daemon.hurry)
    return 1 if failed else 0


@commands.command()
@_config
def migrate(config_path: Path) -> None:
    """Bring the database to the schema of this release."""
    from rtobserver.store import schema, sqlite
    from rtobserver.store.places import place_of

    section = _usable(config_path).store
    place = place_of(section.url)
    with sqlite.hold(place) if isinstance(place, Path) else nullcontext():
        before, after = schema.migrate(place, spread=section.distribution)
    click.echo(f"{place} is at {after}" if before == after else f"{place} went from {before or 'nothing'} to {after}")


@commands.command("check-config")
@_config
@click.option("--print", "show", is_flag=True, help="Print the settings in force as JSON, without secrets.")
def check_config(config_path: Path, show: bool) -> int:
    """Check the configuration without starting anything."""
    from rtobserver.config.advice import warnings
    from rtobserver.config.display import redacted
    from rtobserver.policy.lint import review

    settings = _usable_settings(config_path)
    config = settings.config
    for warning in warnings(config, datetime.fromtimestamp(SystemClock().now_us() / 1e6, UTC).date()):
        click.echo(f"warning: {warning}", err=True)
    for remark in review(settings.policies, config):
        click.echo(f"warning: policy {remark}", err=True)
    if show:
        click.echo(json.dumps(redacted(config), indent=2))
    else:
        number = len(settings.policies.policies)
        counted = f"{len(config.profiles)} profile(s), {number} {'policy' if number == 1 else 'policies'}"
        click.echo(f"{config_path} is good: {counted}, store {redacted(config)['store']['url']}")
    return 0


@commands.command()
@_config
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per call.")
def rebuild(config_path: Path, as_json: bool) -> None:
    """Make items, responses and sums again from the recorded entries; no daemon may run on a SQLite file."""
    from rtobserver.rebuild import count
    from rtobserver.rebuild import rebuild as rebuilding
    from rtobserver.settings import new_state, prices_for

    config = _usable(config_path)
    prices = prices_for(config)
    place = _existing(config)

    async def work() -> None:
        total = await count(place)
        rebuilt, left_alone = 0, []
        results = rebuilding(
            place, lambda profile, model: new_state(config.profile(profile) or config.default_profile, model, prices)
        )
        async for call in followed(results, total, "calls"):
            if call.left_alone:
                left_alone.append(f"{'it goes on' if call.goes_on else 'its entries are gone'}: {call.call_id}")
            else:
                rebuilt += 1
            if as_json:
                left = {"call_id": call.call_id, "entries": call.entries, "left_alone": call.left_alone}
                click.echo(json.dumps(left))
        if not as_json:
            click.echo(f"{rebuilt} calls rebuilt")
            for words in left_alone:
                click.echo(f"left alone, {words}")

    run(work())


@commands.command()
@_config
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
def purge(config_path: Path, dry_run: bool) -> None:
    """Take away what is older than `retention` allows; no daemon may run on a SQLite file."""
    from rtobserver.purge import purge as purging

    if TYPE_CHECKING:
        from rtobserver.store.retention import Due

    config = _usable(config_path)
    place = _existing(config)

    with ExitStack() as stack:

        def begins(due: Due) -> Callable[[int], None]:
            verb = "would lose" if dry_run else "lose"
            click.echo(
                f"{due.recordings} calls {verb} what was said: {due.entries} entries, with items and search index"
            )
            click.echo(f"{due.calls} calls {verb} everything else, too")
            return stack.enter_context(progress(due.recordings + due.calls, "calls"))

        run(purging(place, config.retention, dry_run=dry_run, begins=begins))


@commands.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=9400, show_default=True, help="0 picks a free one.")
@click.option("--provider", type=click.Choice(["azure", "openai"]), default="azure", show_default=True)
@click.option("--scenario", default="default", show_default=True, help="A shipped scenario or a TOML file.")
@click.option("--no-media", is_flag=True, help="Without WebRTC media, and without aiortc.")
@click.option(
    "--recording", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Play this call instead."
)
@click.option("--pace", default=1.0, show_default=True, help="Real seconds per simulated second; 0 waits for nothing.")
@click.option(
    "--ice-host", default="127.0.0.1", show_default=True, help="Addresses for media, comma-separated, of this machine."
)
@click.option("--consent", "consent_seconds", type=float, help="Seconds until a vanished caller is gone [about 30].")
@click.option("--tls-cert", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Serve over TLS.")
@click.option("--tls-key", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--api-key", default="sim-key", show_default=True, help="The key that it accepts.")
@click.option("--ledger", type=click.Path(path_type=Path), help="Write a line per event before it is sent.")
@click.option("--fault", "faults", multiple=True, metavar="KEY=VALUE", help="Misbehave; see docs/simulator.md.")
@_log_format
def simulate(log_format: str | None, no_media: bool, faults: tuple[str, ...], **options: Any) -> None:
    """Run a simulated Realtime API."""
    from rtobserver.simulator.faults import parse_faults
    from rtobserver.simulator.options import SimulatorOptions
    from rtobserver.simulator.server import Simulator

    logs.set_up(_format(log_format))

    async def work() -> None:
        setting = SimulatorOptions(media=not no_media, remember=False, faults=parse_faults(faults), **options)
        async with _until_signalled(), Simulator(setting) as simulator:
            click.echo(json.dumps({"event": "listening", "base_url": simulator.base_url}), err=True)
            await asyncio.Event().wait()

    run(work())


@commands.command()
@click.option("--once", is_flag=True, help="Place one call, print where it was recorded, and end.")
@click.option("--no-browser", is_flag=True, help="Open no page.")
@click.option("--public-port", default=8080, show_default=True, help="0 picks a free one.")
@click.option("--operator-port", default=8081, show_default=True, help="0 picks a free one.")
@_log_format
def demo(once: bool, no_browser: bool, public_port: int, operator_port: int, log_format: str | None) -> None:
    """Run simulator and daemon on a fresh SQLite file, place example calls, and open the dashboard."""
    from rtobserver.demo import demonstrating
    from rtobserver.terminal import demonstration

    logs.set_up(_format(log_format))

    async def work() -> None:
        ports = {"public_port": public_port, "operator_port": operator_port}
        async with _until_signalled(), demonstrating(**ports) as demo:
            await (demonstration.show_one_call(demo) if once else demonstration.show(demo, browser=not no_browser))

    run(work())


commands.add_command(calls)
commands.add_command(policies)


@commands.group()
def keys() -> None:
    """Make, list and revoke API keys; works beside a running daemon."""


@keys.command("create")
@_config
@click.option("--name", required=True, help="What or whom the key is for.")
@click.option("--scope", "scopes", multiple=True, help="read (default), export, metrics, control, erase, admin.")
@click.option("--expires-in", metavar="DURATION", help='Such as "90d"; default: never.')
def keys_create(config_path: Path, name: str, scopes: tuple[str, ...], expires_in: str | None) -> None:
    """Make a key and print it; it is shown this once."""
    from rtobserver.config.values import Wrong, parse_duration
    from rtobserver.store import keys as store_keys

    unknown = [scope for scope in scopes if scope not in store_keys.SCOPES]
    if unknown:
        raise click.BadParameter(f"{unknown[0]!r} is none of {', '.join(store_keys.SCOPES)}", param_hint="--scope")
    now = SystemClock().now_us()
    try:
        expires_at = None if expires_in is None else now + int(parse_duration(expires_in) * 1e6)
    except Wrong as exc:
        raise click.BadParameter(str(exc), param_hint="--expires-in") from None
    chosen: Any = scopes or store_keys.DEFAULT_SCOPES
    click.echo(
        store_keys.create(_place(_usable(config_path)), name=name, scopes=chosen, expires_at=expires_at, now_us=now)
    )


@keys.command("list")
@_config
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per key.")
def keys_list(config_path: Path, as_json: bool) -> None:
    """List the keys."""
    from rtobserver.realtime.times import rfc3339
    from rtobserver.store import keys as store_keys

    rows = [
        {
            "key_id": key.key_id,
            "name": key.name,
            "scopes": sorted(key.scopes),
            "created_at": rfc3339(key.created_at),
            "expires_at": None if key.expires_at is None else rfc3339(key.expires_at),
            "revoked_at": None if key.revoked_at is None else rfc3339(key.revoked_at),
        }
        for key in store_keys.every(_existing(_usable(config_path)))
    ]
    if as_json:
        for row in rows:
            click.echo(json.dumps(row))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("key", "name", "scopes", "created", "expires", "revoked", box=None)
    for row in rows:
        table.add_row(*(", ".join(value) if isinstance(value, list) else value or "-" for value in row.values()))
    Console().print(table)


@keys.command("revoke")
@_config
@click.argument("key_id")
def keys_revoke(config_path: Path, key_id: str) -> int:
    """Revoke a key; a running daemon refuses it within a second."""
    from rtobserver.store import keys as store_keys

    if store_keys.revoke(_existing(_usable(config_path)), key_id, now_us=SystemClock().now_us()):
        click.echo(f"{key_id} is revoked")
        return 0
    click.echo(f"rtobserver: there is no key {key_id} that could be revoked", err=True)
    return 1


# --- how commands are run -------------------------------------------------------------------------


def _usable_settings(path: Path) -> Settings:
    """Load a configuration that this release can do, and its policies."""
    from rtobserver.config.release import unsupported
    from rtobserver.settings import load

    settings = load(path, os.environ)
    if mistakes := unsupported(settings.config):
        raise ConfigError(mistakes)
    return settings


def _usable(path: Path) -> Config:
    """Load a configuration that this release can do, for commands that have no use for policies."""
    from rtobserver.config.load import load
    from rtobserver.config.release import unsupported

    config = load(path, os.environ)
    if mistakes := unsupported(config):
        raise ConfigError(mistakes)
    return config


def _place(config: Config) -> Place:
    from rtobserver.store.places import place_of

    return place_of(config.store.url)


def _existing(config: Config) -> Place:
    place = _place(config)
    if isinstance(place, Path) and not place.exists():
        raise ConfigError([Mistake("store.url", f"there is no {place}", "`rtobserver serve` or `migrate` makes it")])
    return place


def _format(wanted: str | None) -> logs.Format:
    if wanted == "json" or (wanted is None and not sys.stderr.isatty()):
        return "json"
    return "console"


@asynccontextmanager
async def _until_signalled() -> AsyncIterator[None]:
    """Cut the block off at SIGTERM or Ctrl-C; what it has begun ends as at its end."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT)
    patience = asyncio.timeout(None)

    def stopping() -> None:
        if not patience.expired():
            patience.reschedule(loop.time())

    try:
        async with patience:
            for number in numbers:
                loop.add_signal_handler(number, stopping)
            yield
    except TimeoutError:
        if not patience.expired():
            raise
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
