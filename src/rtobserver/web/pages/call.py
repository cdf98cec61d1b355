"""The page of one call: what is known of it, as a whole and in parts that are fetched again while it goes on.

The page holds no entries and no timeline: scripts get these from the API. What the audit says of its
parts is one row a minute for each key and call, since an open page asks for them every second or so.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlencode

from aiohttp import web

from rtobserver.clock import Clock
from rtobserver.errors import RequestError
from rtobserver.realtime import events
from rtobserver.realtime.item_events import GATHERED
from rtobserver.realtime.names import BETA_NAMES, canonical
from rtobserver.realtime.rows import ItemRow
from rtobserver.realtime.transcript import order
from rtobserver.realtime.turns import turns
from rtobserver.store import commands, decisions, entries, feed, folds, gaps
from rtobserver.store.calls import Call
from rtobserver.store.database import Database
from rtobserver.store.positions import Position
from rtobserver.store.tables import KIND_EVENT
from rtobserver.web import conversation, shapes
from rtobserver.web.api_calls import examined
from rtobserver.web.api_conversations import apart
from rtobserver.web.entry_lists import LINES, send_lines
from rtobserver.web.pages import call_figures, call_lines
from rtobserver.web.pages.rendering import Rendering, granted
from rtobserver.web.pages.wording import COMPLETENESS, OUTCOMES, STATUSES
from rtobserver.web.parameters import Parameters
from rtobserver.web.queries import TEXT, Form, Nothing
from rtobserver.web.routes import PARTS, Answer, Ask, Part, Route

AUDITED_SECONDS = 60.0
MOST_ROWS = 500
"""Decisions, commands and gaps that are shown; the API lists all of them."""
MOST_GROWING, MOST_DELTAS = 8, 2_000
"""Items that are shown while they are said, and deltas that are read for them."""
GOING_ON = ("connecting", "live")
DELTAS = (
    *(name for name in (*GATHERED, *BETA_NAMES) if canonical(name) in GATHERED),
    "conversation.item.input_audio_transcription.delta",
)
"""Types of the events that tell words before they are final."""

Values = dict[str, Any]


def _number(query: Parameters, name: str, _now_us: int) -> int | None:
    text = query.text(name) or ""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowLines:
    """Ask for a page with a transcript."""

    line: Annotated[
        int | None,
        Form(take=_number, schema={"type": "string"}),
        "How many lines of the transcript to pass over; without it, the newest are shown.",
    ] = None
    item: Annotated[str | None, TEXT, "Show the lines around that of this item."] = None
    response: Annotated[str | None, TEXT, "Show the lines around the first of this response."] = None
    at: Annotated[
        int | None,
        Form(take=_number, schema={"type": "string"}),
        "Show the lines around the last that had begun so many milliseconds into the call.",
    ] = None

    @property
    def address(self) -> str:
        """Write what is asked for of the transcript, to ask for it again."""
        asked = {"item": self.item, "response": self.response, "at": self.at}
        given = {name: value for name, value in asked.items() if value is not None}
        return f"?{urlencode(given)}" if given else ""


class _Pages:
    def __init__(self, rendering: Rendering, database: Database, streams: Database, clock: Clock) -> None:
        self._rendering = rendering
        self._database = database
        self._streams = streams
        self._clock = clock
        self._audited: dict[tuple[str, str], float] = {}
        self.parts: Mapping[str, Callable[[Ask[ShowLines, None], Call], Awaitable[Values]]] = {
            "summary": self._summary,
            "transcript": self._transcript,
            "decisions": self._decisions,
            "latency": self._latency,
            "usage": self._usage,
            "gaps": self._gaps,
        }

    async def page(self, ask: Ask[ShowLines, None]) -> web.Response:
        call = await ask.call()
        self._audited[ask.actor, call.call_id] = self._clock.mono()
        values: Values = {}
        for read in self.parts.values():
            values |= await read(ask, call)
        extent = await entries.extent(self._database, call)
        return await apart(
            size_of(values),
            lambda: self._rendering.page(
                ask,
                "call.html",
                **self._common(call),
                links=links(call, granted(ask.key)),
                extent=extent,
                **values,
            ),
        )

    async def part(self, ask: Ask[ShowLines, None]) -> web.Response:
        name = ask.request.match_info["part"]
        if name not in self.parts:
            raise RequestError(404, "not_found", "A call's page has no such part.")
        await self._record(ask)
        call = await ask.known_call()
        values = await self.parts[name](ask, call)
        return await apart(
            size_of(values),
            lambda: self._rendering.fragment(ask, f"call_{name}.html", **self._common(call), **values),
        )

    async def lines(self, ask: Ask[Nothing, None]) -> web.StreamResponse:
        call = await ask.call()
        wanted = entries.Filter(until_number=(await feed.newest(self._database)).number)
        async with aclosing(entries.read(self._streams, call, wanted)) as rows:
            return await send_lines(ask.request, rows, is_good=ask.is_good, clock=self._clock)

    async def _record(self, ask: Ask[ShowLines, None]) -> None:
        now, of = self._clock.mono(), (ask.actor, ask.call_id)
        if now - self._audited.get(of, -AUDITED_SECONDS) < AUDITED_SECONDS:
            return
        await ask.record(ask.call_id)
        self._audited = {key: at for key, at in self._audited.items() if now - at < AUDITED_SECONDS}
        self._audited[of] = now

    def _common(self, call: Call) -> Values:
        return {
            "call": call,
            "is_live": call.status in GOING_ON,
            "has_entries": call.purged_at is None and (call.status in GOING_ON or call.entry_count > 0),
            "at": f"/calls/{call.call_id}",
            "api": f"/api/v1/calls/{call.call_id}",
        }

    async def _summary(self, ask: Ask[ShowLines, None], call: Call) -> Values:
        read_out = await examined(self._database, call)
        lost = await gaps.page(self._database, call, limit=MOST_ROWS)
        return {
            "told": shapes.call(call),
            "verdict": read_out.verdict,
            "status_words": STATUSES.get(call.status, (call.status, "")),
            "completeness": COMPLETENESS.get(call.completeness or ""),
            "outcome_words": OUTCOMES.get(call.outcome or "", call.outcome or ""),
            "is_paused": any(gap.reason == "paused" and gap.state == "open" for gap in lost),
            # the row of a live call is behind what is known of it
            "gap_count": max(call.gap_count, sum(gap.counted or gap.state == "open" for gap in lost)),
        }

    async def _transcript(self, ask: Ask[ShowLines, None], call: Call) -> Values:
        items = await folds.items(self._database, call)
        within = [item for item in items if not item.out_of_band]
        so_far = await self._so_far(call, within) if call.status in GOING_ON else None

        query = ask.query
        wanted = call_lines.Wanted(item_id=query.item, response_id=query.response, at_ms=query.at)

        def lay_out() -> call_lines.Window:
            return call_lines.window(order(within), call.started_at, first=query.line, wanted=wanted, so_far=so_far)

        return {
            "window": await apart(len(items), lay_out),
            "asked": query.address,
            "out_of_band": len(items) - len(within),
        }

    async def _so_far(self, call: Call, items: Iterable[ItemRow]) -> dict[str, str]:
        """Read the words of those items that are being said just now: their rows have them at the end."""
        growing = call_lines.unsaid(items)
        recent = sorted((item.epoch, item.seq) for item in growing.values())[-MOST_GROWING:]
        if not recent:
            return {}
        found: dict[str, list[str]] = {}
        wanted = entries.Filter(types=DELTAS, kind=KIND_EVENT)
        async with aclosing(
            entries.read(self._database, call, wanted, after=Position(*recent[0]), limit=MOST_DELTAS)
        ) as rows:
            async for row in rows:
                event, _ = events.read(row.payload)
                if event.item_id in growing and event.delta:
                    found.setdefault(event.item_id, []).append(event.delta)
        return {item_id: "".join(parts) for item_id, parts in found.items()}

    async def _decisions(self, ask: Ask[ShowLines, None], call: Call) -> Values:
        decided = await decisions.page(self._database, call, after=None, limit=MOST_ROWS + 1)
        sent = await commands.page(self._database, call, limit=MOST_ROWS + 1)
        return {
            "decisions": [call_figures.decision(row, call.started_at) for row in decided[:MOST_ROWS]],
            "commands": [call_figures.command(row, call.started_at) for row in sent[:MOST_ROWS]],
            "more_decisions": len(decided) > MOST_ROWS,
            "more_commands": len(sent) > MOST_ROWS,
        }

    async def _latency(self, ask: Ask[ShowLines, None], call: Call) -> Values:
        if call.purged_at is not None:
            return {"latencies": []}
        items = await folds.items(self._database, call)
        responses = await folds.responses(self._database, call)
        found = await apart(len(items) + len(responses), lambda: turns(items, responses))
        return {"latencies": call_figures.latencies(found, call.started_at)}

    async def _usage(self, ask: Ask[ShowLines, None], call: Call) -> Values:
        usage = conversation.usage(call, await folds.responses(self._database, call))
        return {"usage": usage, "tokens": call_figures.tokens(usage), "responses": usage.responses[:MOST_ROWS]}

    async def _gaps(self, ask: Ask[ShowLines, None], call: Call) -> Values:
        found = await gaps.page(self._database, call, limit=MOST_ROWS + 1)
        return {
            "gaps": [call_figures.gap(row, call.started_at) for row in found[:MOST_ROWS]],
            "more_gaps": len(found) > MOST_ROWS,
        }


def size_of(values: Values) -> int:
    """Count the rows that are to be written."""
    lines = len(values["window"].lines) if "window" in values else 0
    return lines + sum(len(value) for value in values.values() if isinstance(value, list))


@dataclass(frozen=True, slots=True)
class Link:
    """Lead to something that can be kept."""

    words: str
    address: str
    file: str = ""
    """What to call it; empty where it is looked at."""


def links(call: Call, may: frozenset[str]) -> list[tuple[str, list[Link]]]:
    """List what of a call can be taken along, as far as the key allows."""
    own = f"/api/v1/calls/{call.call_id}"
    written = (("text", "Text", "txt"), ("md", "Markdown", "md"), ("vtt", "WebVTT", "vtt"), ("srt", "SubRip", "srt"))
    found = [
        (
            "Transcript",
            [Link(name, f"{own}/transcript?format={kind}", f"{call.call_id}.{end}") for kind, name, end in written],
        ),
        ("Entries", [Link("NDJSON", f"/calls/{call.call_id}/entries.ndjson", f"{call.call_id}.ndjson")]),
        (
            "As the API has it",
            [
                Link("call", own),
                *(
                    Link(name, f"{own}/{name}")
                    for name in (
                        "transcript", "turns", "timeline", "usage", "decisions", "commands", "gaps", "entries"
                    )
                ),
            ],
        ),
    ]  # fmt: skip
    if "export" in may:
        # an export is of the calls that began in a time, and this one's is known to the microsecond
        began = {"since": shapes.time(call.started_at), "until": shapes.time(call.started_at + 1)}
        kinds = (("items", "csv"), ("responses", "csv"), ("entries", "ndjson"), ("calls", "csv"))
        exports = [
            Link(
                f"{what} as {kind.upper()}",
                f"/api/v1/export?{urlencode({'what': what, 'format': kind, **began})}",
                f"{call.call_id}-{what}.{kind}",
            )
            for what, kind in kinds
        ]
        found.append(("Export", exports))
    return found


def routes(rendering: Rendering, database: Database, streams: Database, clock: Clock) -> list[Route[Any, Any]]:
    """Give the routes; `streams` is read for the download of entries."""
    pages = _Pages(rendering, database, streams, clock)
    html = (Answer(description="The page.", media="text/html"),)
    names = "|".join(pages.parts)
    return [
        Route(
            name="pages.call",
            path="/calls/{id}",
            page=True,
            summary="Show one call.",
            query=ShowLines,
            answers=html,
            answer=pages.page,
        ),
        Route(
            name="pages.call_part",
            path="/calls/{id}/parts/{part}",
            page=True,
            summary="Show one part of the page of a call.",
            query=ShowLines,
            answers=html,
            parts={**PARTS, "part": Part("The part's name.", f"^({names})$")},
            answer=pages.part,
        ),
        Route(
            name="pages.call_entries",
            path="/calls/{id}/entries.ndjson",
            page=True,
            summary="Give all entries of a call as a file.",
            query=Nothing,
            answers=(Answer(description="All entries, one per line.", media=LINES, body=shapes.Entry),),
            answer=pages.lines,
        ),
    ]
