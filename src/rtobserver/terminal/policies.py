"""Commands that try policies before they bite: check, test, explain, replay.

None of them needs a daemon; those that look at calls only read the database, also beside a running one.
Tables are for people: with `--json` each row is one line of JSON (docs/policies.md has the fields).
"""

from __future__ import annotations

import asyncio
import difflib
import json
import os
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from rtobserver.clock import SystemClock
from rtobserver.errors import ConfigError, Mistake
from rtobserver.terminal.running import run

if TYPE_CHECKING:
    # these load what the daemon is made of: `rtobserver --help` should not wait for them
    from rtobserver.policy.difference import Change, Decided, Tally
    from rtobserver.policy.explanation import Explanation
    from rtobserver.policy.recordings import Recording
    from rtobserver.policy.rules import PolicyTest
    from rtobserver.policy.trials import Trial
    from rtobserver.settings import Settings
    from rtobserver.store.places import Place as Where
    from rtobserver.terminal.replaying import Rehearsal, Replayed

LONGEST_VALUE = 300
"""Characters of a value that are shown to people."""

_SIGNS = {"new": "+", "vanished": "-", "changed": "~"}
_STYLES = {"new": "green", "vanished": "red", "changed": "yellow"}

_config = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    default=Path("config.toml"),
    show_default=True,
    help="Configuration file.",
)
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, a line per row.")


@click.group()
def policies() -> None:
    """Try policies before they act."""


# --- check ----------------------------------------------------------------------------------------


@policies.command()
@_config
@_as_json
def check(config_path: Path, as_json: bool) -> None:
    """Check the policies, dry-run them over a sample of each event, and list them."""
    from rtobserver.policy import wording
    from rtobserver.policy.lint import review
    from rtobserver.settings import prices_for

    settings = _settings(config_path)
    if unreadable := [mistake for each in settings.policies.tests if (mistake := _unreadable(each)) is not None]:
        raise ConfigError(unreadable)
    today = datetime.fromtimestamp(SystemClock().now_us() / 1e6, UTC).date()
    for warning in review(settings.policies, settings.config, prices_for(settings.config), today):
        click.echo(f"warning: {warning}", err=True)
    rows = [
        {
            "policy": policy.id,
            "mode": wording.mode(policy),
            "trigger": wording.trigger(policy),
            "actions": wording.actions(policy),
            "profiles": wording.profiles(policy),
            "when": policy.when,
            "limits": wording.limits(policy.limit),
        }
        for policy in settings.policies.policies
    ]
    if as_json:
        for row in rows:
            _print_line(row)
        return
    if rows:
        shown = [name for name in rows[0] if name != "when" or any(row["when"] for row in rows)]
        _print_table(shown, [[row[name] for name in shown] for row in rows])
    tests = len(settings.policies.tests)
    click.echo(
        f"{config_path} is good: {_count(len(rows), 'policy')}, {_count(tests, 'test')}, set {settings.policies.hash}"
    )


# --- test -----------------------------------------------------------------------------------------


@policies.command()
@_config
@_as_json
def test(config_path: Path, as_json: bool) -> int:
    """Run the tests that stand beside the policies."""
    settings = _settings(config_path)
    if not settings.policies.tests:
        click.echo(f"{config_path} has no [[policy.test]]", err=True)
        return 0
    trials = _tried(settings)
    for trial in trials:
        if as_json:
            _print_line(
                {
                    "test": trial.test.name,
                    "place": trial.test.place,
                    "passed": trial.passed,
                    "problem": trial.problem,
                    "expected": trial.expected,
                    "decided": [_shaped(each) for each in trial.decided],
                }
            )
        else:
            _print_trial(trial)
    failed = sum(not trial.passed for trial in trials)
    if not as_json:
        click.echo(f"{len(trials) - failed} passed, {failed} failed")
    return 1 if failed else 0


def _unreadable(test: PolicyTest) -> Mistake | None:
    """Say what is wrong with the events of a test."""
    from rtobserver.policy.recordings import RecordingError

    try:
        _recording(test)
    except OSError as exc:
        problem = exc.strerror or type(exc).__name__
    except RecordingError as exc:
        problem = str(exc)
    else:
        return None
    return Mistake(
        f"{test.place}.events", f"{test.events}: {problem}", "a line is an event as JSON, or an entry of an export"
    )


def _recording(test: PolicyTest) -> Recording:
    from rtobserver.policy.recordings import read_recording

    with Path(test.events).open("rb") as file:
        return read_recording(file)


def _tried(settings: Settings) -> list[Trial]:
    from rtobserver.policy.recordings import RecordingError
    from rtobserver.policy.trials import Trial, try_out
    from rtobserver.settings import new_state, prices_for

    prices = prices_for(settings.config)
    trials = []
    for each in settings.policies.tests:
        try:
            recording = _recording(each)
        except OSError as exc:
            trials.append(Trial(each, problem=f"{each.events}: {exc.strerror}"))
        except RecordingError as exc:
            trials.append(Trial(each, problem=f"{each.events}: {exc}"))
        else:
            trials.append(
                try_out(
                    each,
                    recording,
                    settings.policies,
                    settings.config,
                    lambda profile, model: new_state(profile, model, prices),
                )
            )
    return trials


def _print_trial(trial: Trial) -> None:
    verdict = click.style("passed", fg="green") if trial.passed else click.style("FAILED", fg="red")
    click.echo(f"{verdict}  {_one_line(trial.test.name)}  ({trial.test.place})")
    if trial.problem is not None:
        click.echo(f"    {_one_line(trial.problem)}")
    elif not trial.passed:
        positions = iter(trial.decided)
        for line in difflib.ndiff(trial.expected, trial.found):
            if line.startswith("?"):
                continue
            at = f"   at {next(positions).position}" if line[0] in "+ " else "   expected, not decided"
            click.echo(f"    {_one_line(line)}{at}")


# --- explain --------------------------------------------------------------------------------------


@policies.command()
@_config
@click.option("--call", "call_id", required=True, metavar="ID")
@click.option("--entry", "position", required=True, metavar="POSITION", help="Such as 1:57.")
@_as_json
def explain(config_path: Path, call_id: str, position: str, as_json: bool) -> None:
    """Say why each policy did or did not decide anything at an entry of a recorded call."""
    from rtobserver.policy.difference import Place
    from rtobserver.store.positions import Position
    from rtobserver.terminal.replaying import Side, explain_entry

    at = Position.parse(position)
    if at is None:
        raise click.BadParameter(f"{position!r} is no position such as 1:57", param_hint="--entry")
    settings = _settings(config_path)
    found = run(explain_entry(_store(settings), Side(settings), call_id, Place(*at)))
    for each in found:
        if as_json:
            _print_line(
                {
                    "policy": each.policy.id,
                    "mode": each.policy.mode,
                    "verdict": each.verdict,
                    "decision": each.decided and _shaped(each.decided),
                    "terms": [term._asdict() for term in each.terms],
                    "actions": each.actions,
                }
            )
        else:
            _print_explanation(each)


def _print_explanation(each: Explanation) -> None:
    colour = "green" if each.decided is not None and each.decided.would_act else "yellow" if each.decided else None
    click.secho(f"{each.policy.id}: {_one_line(each.verdict)}", fg=colour, bold=True)
    for term in each.terms:
        holds = {True: "yes", False: "no", None: "-"}[term.holds]
        click.echo(f"  {holds:4}{term.name:13}{_one_line(term.says)}")
        for name, value in term.values.items():
            click.echo(f"{'':19}{name} = {_shown(value)}")
    for action in each.actions:
        rest = {name: value for name, value in action.items() if name != "action" and value is not None}
        click.echo(f"  {'':4}{'action':13}{action['action']} {_shown(rest) if rest else ''}".rstrip())
    click.echo()


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return _one_line(text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}...")


# --- replay ---------------------------------------------------------------------------------------


@policies.command()
@_config
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    help="Compare with what the policies of this configuration decide; default: with what was recorded.",
)
@click.option("--since", default="7d", show_default=True, metavar="TIME", help="A time, a date, or a duration.")
@click.option("--profile", help="Only calls of this profile.")
@click.option("--limit", type=click.IntRange(1), help="Calls at most, the newest.")
@_as_json
def replay(
    config_path: Path, against: Path | None, since: str, profile: str | None, limit: int | None, as_json: bool
) -> int:
    """Run policies over recorded calls, and show what they would decide differently."""
    from rtobserver.terminal.replaying import Rehearsal, Side

    settings = _settings(config_path)
    old = None if against is None else _settings(against)
    path = _store(settings)
    began = _moment(since)
    if profile is not None and settings.config.profile(profile) is None:
        _check_profile(profile, [each.name for each in settings.config.profiles], path)
    rehearsal = Rehearsal(Side(settings), None if old is None else Side(old))
    show = _print_replayed_line if as_json else _print_replayed
    watch = time.monotonic()
    try:
        run(rehearsal.run(path, since=began, profile=profile, limit=limit, show=show))
    except KeyboardInterrupt:
        click.echo("rtobserver: interrupted; this is what was replayed until then", err=True)
    seconds = time.monotonic() - watch
    if as_json:
        _print_summary_line(rehearsal, seconds)
    else:
        _print_summary(rehearsal, seconds, "recorded" if against is None else str(against))
    return 0 if rehearsal.is_complete else 1


def _print_replayed(replayed: Replayed) -> None:
    from rtobserver.realtime.times import rfc3339
    from rtobserver.terminal.replaying import WORDS

    call = replayed.call
    head = f"{call.call_id}  {rfc3339(call.started_at)[:19].replace('T', ' ')}  {call.profile}"
    if replayed.why is not None:
        click.echo(f"{head}  not replayable: {WORDS[replayed.why]}")
    elif replayed.changes:
        click.echo(head)
        for change in replayed.changes:
            each = change.decision
            line = f"  {_SIGNS[change.how]} {each.position!s:>7}  {each.policy}  {_told(change)}"
            click.secho(_one_line(line), fg=_STYLES[change.how])


def _told(change: Change) -> str:
    """Say what is decided, and for a change what it was before."""
    parts = []
    for before, after in zip(_words(change.before or change.decision), _words(change.decision), strict=True):
        if before == after:
            parts += [after] if after else []
        else:
            parts.append(f"{before or 'nothing'} -> {after or 'nothing'}")
    return "  ".join(parts)


def _words(each: Decided) -> tuple[str, str, str]:
    match = f'"{each.match}"' if each.match is not None else ""
    return each.trigger, match, f"fault: {each.fault}" if not each.would_act else ", ".join(each.actions)


def _print_replayed_line(replayed: Replayed) -> None:
    from rtobserver.realtime.times import rfc3339

    call = replayed.call
    head = {"call_id": call.call_id, "started_at": rfc3339(call.started_at), "profile": call.profile}
    if replayed.why is not None:
        _print_line({"kind": "skipped", **head, "reason": replayed.why})
        return
    changes = [
        {
            "change": change.how,
            "position": str(change.decision.position),
            "policy": change.decision.policy,
            "before": change.before and _shaped(change.before),
            "after": change.after and _shaped(change.after),
        }
        for change in replayed.changes
    ]
    counts = {"entries": replayed.entries, "before": len(replayed.before), "after": len(replayed.after)}
    _print_line({"kind": "call", **head, **counts, "changes": changes})


def _print_summary(rehearsal: Rehearsal, seconds: float, before: str) -> None:
    tallies = rehearsal.tallies
    if tallies.by_policy:
        click.echo()
        rows = [
            [id_, each.before, each.after, each.new, each.vanished, each.changed, each.calls]
            for id_, each in [*sorted(tallies.by_policy.items()), ("all", tallies.total)]
        ]
        _print_table(["policy", before, "now", "new", "vanished", "changed", "calls that differ"], rows)
        click.echo()
    rate = f"{rehearsal.entries / seconds:,.0f} entries/s" if seconds > 0 else ""
    skipped = sum(rehearsal.skipped.values())
    left = f", {_count(skipped, 'call')} not replayable" if skipped else ""
    click.echo(
        f"{_count(rehearsal.calls, 'call')}, {rehearsal.entries:,} entries in {seconds:.1f} s ({rate}){left}; "
        f"{tallies.total.new} new, {tallies.total.vanished} vanished, {tallies.total.changed} changed"
    )


def _print_summary_line(rehearsal: Rehearsal, seconds: float) -> None:
    tallies = rehearsal.tallies
    _print_line(
        {
            "kind": "summary",
            "complete": rehearsal.is_complete,
            "policy_set": rehearsal.new.policies.hash,
            "against": None if rehearsal.old is None else rehearsal.old.policies.hash,
            "calls": rehearsal.calls,
            "entries": rehearsal.entries,
            "seconds": round(seconds, 3),
            "skipped": dict(rehearsal.skipped),
            **_tallied(tallies.total),
            "policies": [{"policy": id_, **_tallied(each)} for id_, each in sorted(tallies.by_policy.items())],
        }
    )


def _tallied(tally: Tally) -> dict[str, int]:
    return {
        "before": tally.before,
        "after": tally.after,
        "new": tally.new,
        "vanished": tally.vanished,
        "changed": tally.changed,
        "calls_that_differ": tally.calls,
    }


# --- what they share ------------------------------------------------------------------------------


def _settings(path: Path) -> Settings:
    from rtobserver.config.release import unsupported
    from rtobserver.settings import load

    settings = load(path, os.environ)
    if mistakes := unsupported(settings.config):
        raise ConfigError(mistakes)
    return settings


def _store(settings: Settings) -> Where:
    from rtobserver.store.places import place_of

    place = place_of(settings.config.store.url)
    if isinstance(place, Path) and not place.exists():
        raise ConfigError([Mistake("store.url", f"there is no {place}", "`rtobserver serve` or `migrate` makes it")])
    return place


def _check_profile(name: str, configured: list[str], place: Where) -> None:
    """Refuse a profile that is not configured and of which there is no call either."""
    known = [*configured, *run(_recorded_profiles(place))]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        meant = f"did you mean {near[0]}?" if near else f"there is {', '.join(dict.fromkeys(known))}"
        raise click.BadParameter(f"there is no profile {name!r} and no call of one; {meant}", param_hint="--profile")


async def _recorded_profiles(place: Where) -> list[str]:
    from rtobserver.storage import reading
    from rtobserver.store import calls, schema

    await asyncio.to_thread(schema.check, place)
    async with reading(place, SystemClock()) as database:
        return await calls.profiles(database)


def _moment(text: str) -> int:
    from rtobserver.web.parameters import moment

    found = moment(text, SystemClock().now_us())
    if found is None:
        form = 'a time such as 2026-01-31T08:00:00Z, a date, or a duration before now such as "7d"'
        raise click.BadParameter(f"{text!r} is not {form}", param_hint="--since")
    return found


def _shaped(each: Decided) -> dict[str, Any]:
    return {
        "policy": each.policy,
        "position": str(each.position),
        "trigger": each.trigger,
        "mode": each.mode,
        "acts": each.acts,
        "would_act": each.would_act,
        "actions": list(each.actions),
        "match": each.match,
        "fault": each.fault,
    }


def _print_line(row: Any) -> None:
    click.echo(msgspec.json.encode(row).decode())


def _print_table(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for place, name in enumerate(names):
        numeric = bool(rows) and all(isinstance(row[place], int) for row in rows)
        table.add_column(name, justify="right" if numeric else "left")
    for row in rows:
        # as text, never as markup: brackets in what was written are brackets
        table.add_row(*(Text("-" if cell is None else _one_line(str(cell))) for cell in row))
    # cut to the width of a terminal only where there is one
    console = Console() if sys.stdout.isatty() else Console(width=10_000)
    console.print(table)


def _one_line(text: str) -> str:
    """Keep control characters of what was recorded from the terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _count(number: int, what: str) -> str:
    many = f"{what[:-1]}ies" if what.endswith("y") else f"{what}s"
    return f"{number:,} {what if number == 1 else many}"
