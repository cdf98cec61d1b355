"""Say in a terminal what `rtobserver demo` has built, and what is to be seen there."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
from pathlib import Path

import click

from rtobserver.demo import EXAMPLES, Demo, Example, place, place_call
from rtobserver.errors import RtobserverError


async def show_one_call(demo: Demo) -> None:
    """Place one call and say where it was recorded and how to read it when nobody serves it any more.

    Raises:
        RtobserverError: the call could not be placed, or did not end in time.

    """
    _say_where(demo)
    click.echo("placing an example call, which takes some ten seconds ...")
    click.echo(f"recorded {await place_call(demo)} in {demo.path}")
    click.echo("read it with:")
    click.echo(f"  {_reading(demo.path, '*', 'calls')}")
    click.echo(f"  {_reading(demo.path, 'position, kind, type', 'entries')}")


async def show(demo: Demo, *, browser: bool) -> None:
    """Open the dashboard, place the example calls side by side, and stay until cancelled."""
    _say_where(demo)
    click.echo(f"config={demo.config}")
    click.echo(f"dashboard: {demo.door}")
    click.echo(f"  signs one browser in, once; later: {demo.daemon.operator_url}/ and the key")
    if browser and _has_display():
        await asyncio.to_thread(click.launch, demo.door)
    click.echo(f"placing {len(EXAMPLES)} example calls, which takes half a minute; they go on under Live ...")
    async with asyncio.TaskGroup() as tasks:
        shown = [
            tasks.create_task(_show_example(demo, example), name=f"example {example.name}") for example in EXAMPLES
        ]
    if call_id := shown[0].result():
        url = f"{demo.daemon.operator_url}/api/v1/calls/{call_id}"
        click.echo("read it with:")
        click.echo(f"  curl -s -H 'Authorization: Bearer {demo.key}' {url}")
        click.echo(f"  curl -s -H 'Authorization: Bearer {demo.key}' {url}/entries")
    if demo.has_media:
        click.echo(f"talk to the model yourself at {demo.daemon.public_url}/")
    else:
        click.echo("to talk to the model yourself: pip install 'rtobserver[demo]', which brings media")
    click.echo("Ctrl-C ends it")
    await asyncio.Event().wait()


async def _show_example(demo: Demo, example: Example) -> str:
    """Place a call and say what there is to see in it; gives its id, nothing where it failed: the others go on."""
    try:
        call_id = await place(demo, example)
    except RtobserverError as exc:
        click.echo(f"rtobserver: {exc}", err=True)
        return ""
    click.echo(f"recorded {call_id}: {example.words}")
    return call_id


def _say_where(demo: Demo) -> None:
    click.echo(f"upstream={demo.upstream} (simulated)")
    click.echo(f"public={demo.daemon.public_url}")
    click.echo(f"operator={demo.daemon.operator_url}")
    click.echo(f"key={demo.key}")


def _reading(path: Path, columns: str, view: str) -> str:
    """Give a command for a shell that reads a database without a daemon; Python is there, sqlite3 need not be."""
    statement = f"SELECT {columns} FROM {view}"  # noqa: S608 - only ours
    code = f"import sqlite3; print(*sqlite3.connect({str(path)!r}).execute({statement!r}), sep='\\n')"
    return shlex.join([sys.executable, "-c", code])


def _has_display() -> bool:
    # without one a browser in the terminal would take the terminal over
    return sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
