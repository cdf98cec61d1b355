"""Commands that read and erase calls, through the API of a running daemon.

Tables are for people: with `--json` each row is one line of JSON, as the API gives it.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from dataclasses import replace
from functools import update_wrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import click
import msgspec

from rtobserver.errors import ApiRefused
from rtobserver.terminal.running import run

if TYPE_CHECKING:
    # these load what the daemon is made of: `rtobserver --help` should not wait for them
    from rtobserver.client import Client, Filters, Tailed
    from rtobserver.web.shapes import Call

DEFAULT_URL = "http://127.0.0.1:8081"

T = TypeVar("T")
Command = Callable[..., Any]

_STYLES = {"live": "green", "connecting": "yellow", "lost": "red", "failed": "red", "unobserved": "yellow"}


def _reaching(command: Command) -> Command:
    """Add what says which daemon is asked, and with which key."""
    command = click.option(
        "--key", envvar="RTOBSERVER_KEY", help="API key; better in RTOBSERVER_KEY, where no `ps` shows it."
    )(command)
    return click.option(
        "--url",
        envvar="RTOBSERVER_URL",
        default=DEFAULT_URL,
        show_default=True,
        callback=_address,
        help="Or RTOBSERVER_URL.",
    )(command)


def _address(_context: click.Context, _parameter: click.Parameter, text: str) -> str:
    try:
        url = urlsplit(text)
        is_good = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        is_good = False
    if not is_good:
        raise click.BadParameter(f"{text!r} is no address such as {DEFAULT_URL}")
    return text


def _filtered(command: Command) -> Command:
    """Add the filters of the list of calls, and hand them over as one value."""

    def filtering(
        *args: Any, labels: tuple[str, ...], tags: tuple[str, ...], has: tuple[str, ...], **options: Any
    ) -> Any:
        from rtobserver.client import Filters

        names = ("status", "outcome", "profile", "model", "user", "policy", "since", "until", "min_duration")
        taken = {name: options.pop(name) for name in names}
        pairs = dict(label.partition("=")[::2] for label in labels)
        return command(*args, filters=Filters(labels=pairs, tags=tags, has=has, **taken), **options)

    wrapped: Command = update_wrapper(filtering, command)
    decorators: tuple[Callable[[Command], Command], ...] = (
        click.option("--has", multiple=True, help="gap, interruption, error or tampered."),
        click.option("--min-duration", metavar="DURATION", help='Such as "30s".'),
        click.option("--until", metavar="TIME"),
        click.option("--since", metavar="TIME", help='A time, a date, or a duration before now such as "7d".'),
        click.option("--policy"),
        click.option("--tag", "tags", multiple=True),
        click.option("--label", "labels", multiple=True, metavar="KEY=VALUE"),
        click.option("--user"),
        click.option("--model"),
        click.option("--profile"),
        click.option("--outcome"),
        click.option("--status"),
    )
    for decorate in decorators:
        wrapped = decorate(wrapped)
    return wrapped


_as_json = click.option("--json", "as_json", is_flag=True, help="Print one line of JSON per row.")
_words = click.option("--q", metavar="WORDS", help="Only calls in which this was said; as in a search.")
_limit = click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Rows at most.")


@click.group()
def calls() -> None:
    """Read and erase calls through a running daemon's API."""


@calls.command("list")
@_filtered
@_words
@_limit
@_as_json
@_reaching
def list_(filters: Filters, q: str | None, limit: int, as_json: bool, url: str, key: str | None) -> None:
    """List calls, newest first."""

    async def work(client: Client) -> None:
        rows = client.calls(replace(filters, q=q), limit=limit)
        if as_json:
            await _print_lines(rows)
            return
        found = [call async for call in rows]
        _print_table(
            ("call", "status", "outcome", "started", "duration", "profile", "user", "turns", "cost"),
            [
                (
                    call.call_id,
                    call.status,
                    call.outcome,
                    _short(call.started_at),
                    _length(call.duration_seconds),
                    call.profile,
                    call.user,
                    call.turn_count,
                    call.cost_usd and f"${call.cost_usd}",
                )
                for call in found
            ],
        )

    _ask(url, key, work)


@calls.command()
@click.argument("call_id")
@_as_json
@_reaching
def show(call_id: str, as_json: bool, url: str, key: str | None) -> None:
    """Show a call and what was said in it."""

    async def work(client: Client) -> None:
        call = await client.call(call_id)
        if as_json:
            _print_line(call)
            return
        _print_call(call)
        async for line in client.transcript(call_id):
            said = line.text if line.heard_text is None else f"{line.heard_text} [...]"
            click.echo(f"{_time(line.started_at)}  {line.role:9}  {_one_line(said)}")

    _ask(url, key, work)


@calls.command()
@click.argument("call_id", required=False)
@click.option("--after", metavar="POSITION", help="Begin with the history behind this position.")
@_as_json
@_reaching
def tail(call_id: str | None, after: str | None, as_json: bool, url: str, key: str | None) -> None:
    """Print what is recorded, of one call or of all, as it is recorded."""
    show_event = _print_event_line if as_json else _print_event

    async def work(client: Client) -> None:
        if call_id is not None and _is_over((await client.call(call_id)).status):
            raise click.UsageError(f"{call_id} is over: `calls export --what entries` and `calls show` have it")
        async with aclosing(client.tail(call_id, after=after)) as events:
            async for event in events:
                show_event(event)
                if call_id and event.event == "call" and _is_over(msgspec.json.decode(event.data)["status"]):
                    return

    try:
        _ask(url, key, work)
    except KeyboardInterrupt:
        # the ordinary end of a tail
        return


@calls.command()
@_filtered
@_words
@click.option("--what", type=click.Choice(["calls", "entries", "items", "responses"]), default="calls")
@click.option("--format", "format_", type=click.Choice(["ndjson", "csv", "parquet"]), default="ndjson")
@click.option("--output", "-o", type=click.Path(path_type=Path, dir_okay=False), help="Default: stdout.")
@_reaching
def export(
    filters: Filters, q: str | None, what: Any, format_: Any, output: Path | None, url: str, key: str | None
) -> None:
    """Export calls or what belongs to them."""
    if output is None and format_ == "parquet" and sys.stdout.isatty():
        raise click.UsageError("Parquet is not for a terminal: name a file with --output")

    async def work(client: Client) -> None:
        async with aclosing(client.export(what, format_, replace(filters, q=q))) as pieces:
            if output is None:
                async for piece in pieces:
                    _write(piece)
                return
            # what was broken off is no whole file, and must not look like one
            partial = output.with_name(f"{output.name}.part")
            with partial.open("wb") as file:
                async for piece in pieces:
                    file.write(piece)
            partial.replace(output)

    _ask(url, key, work)


@calls.command()
@click.argument("call_ids", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Do not ask.")
@_reaching
def delete(call_ids: tuple[str, ...], yes: bool, url: str, key: str | None) -> int:
    """Erase calls: every text and identity of them, for good."""
    if not yes:
        click.confirm(f"Erase {len(call_ids)} call(s) for good?", abort=True, err=True)

    async def work(client: Client) -> int:
        failed = 0
        for call_id in call_ids:
            try:
                await client.delete(call_id)
            except ApiRefused as exc:
                failed += 1
                click.echo(f"rtobserver: {call_id}: {exc}", err=True)
            else:
                click.echo(f"{call_id} is erased")
        return 1 if failed else 0

    return _ask(url, key, work)


@calls.command()
@click.argument("text")
@_filtered
@_limit
@_as_json
@_reaching
def search(text: str, filters: Filters, limit: int, as_json: bool, url: str, key: str | None) -> None:
    """Find what was said."""

    async def work(client: Client) -> None:
        hits = client.search(text, filters, limit=limit)
        if as_json:
            await _print_lines(hits)
            return
        found = [hit async for hit in hits]
        _print_table(
            ("call", "time", "role", "text"),
            [(hit.call_id, _short(hit.started_at or hit.call_started_at), hit.role, hit.snippet) for hit in found],
        )

    _ask(url, key, work)


def _ask(url: str, key: str | None, work: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
    from rtobserver.client import Client

    if not key:
        raise click.UsageError("a key is needed: --key or RTOBSERVER_KEY; `rtobserver keys create` makes one")

    async def asking() -> T:
        async with Client(url, key) as client:
            return await work(client)

    try:
        return run(asking())
    except ApiRefused as exc:
        if exc.status == 400:
            raise click.UsageError(str(exc)) from exc
        raise


def _is_over(status: str) -> bool:
    return status not in ("connecting", "live")


def _print_event_line(event: Tailed) -> None:
    _write(event.data + b"\n")


def _print_event(event: Tailed) -> None:
    head, mark, _ = event.data.partition(b',"payload":')
    # the payload is not looked at: no strict decoder takes all that upstream sends
    document = msgspec.json.decode(head + b"}" if mark else event.data)
    match event.event:
        case "entry":
            click.echo(f"{document['call_id']}  {document['position']:>8}  {_one_line(str(document['type']))}")
        case "call":
            click.echo(f"{document['call_id']}  {document['status']}  {document['outcome'] or ''}")
        case "missed":
            click.echo(f"{document['count']} events were missed: this terminal was too slow", err=True)


async def _print_lines(rows: AsyncIterator[Any]) -> None:
    async for row in rows:
        _print_line(row)


def _print_line(row: Any) -> None:
    _write(msgspec.json.encode(row) + b"\n")


def _write(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _print_table(names: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*names, box=None)
    for row in rows:
        cells = ["-" if value is None else _one_line(str(value)) for value in row]
        # as text, never as markup: brackets in what was said are brackets
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in cells))
    # cut to the width of a terminal only where there is one
    console = Console() if sys.stdout.isatty() else Console(width=10_000)
    console.print(table)


def _print_call(call: Call) -> None:
    fields: dict[str, Any] = {
        "call": call.call_id,
        "status": call.status if call.outcome is None else f"{call.status} ({call.outcome})",
        "started": call.started_at,
        "duration": _length(call.duration_seconds),
        "profile": call.profile,
        "model": call.model,
        "user": call.user,
        "labels": ", ".join(f"{name}={value}" for name, value in call.labels.items()),
        "tags": ", ".join(call.tags),
        "turns": f"{call.turn_count}, {call.interruption_count} interrupted, {call.error_count} errors",
        "tokens": f"{call.usage.input_tokens} in, {call.usage.output_tokens} out",
        "cost": call.cost_usd and f"${call.cost_usd}",
        "recorded": f"{call.entry_count} entries, {call.gap_count} gaps, {call.completeness or 'not ended'}",
    }
    for name, value in fields.items():
        click.echo(f"{name:9} {_one_line(str(value)) if value else '-'}")
    click.echo()


def _one_line(text: str) -> str:
    """Keep control characters of what was recorded from the terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _short(time: str) -> str:
    return f"{time[:10]} {time[11:19]}"


def _time(time: str | None) -> str:
    return "-" * 8 if time is None else time[11:19]


def _length(seconds: float | None) -> str | None:
    return None if seconds is None else f"{int(seconds) // 60}:{int(seconds) % 60:02}"
