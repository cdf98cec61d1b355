"""Routes of the orders: what an operator wants done with a live call.

An order is a row in the store; whoever observes the call carries it out. The answer comes as soon
as the row is committed, and `GET /orders/{id}` tells what became of it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from rtobserver.clock import Clock
from rtobserver.errors import RequestError
from rtobserver.realtime.events import MAX_DEPTH, depth
from rtobserver.store import calls, orders
from rtobserver.store.calls import Call
from rtobserver.store.database import Database
from rtobserver.store.writing import Writing
from rtobserver.web import parameters, queries
from rtobserver.web.access import is_plain
from rtobserver.web.queries import Nothing
from rtobserver.web.routes import Answer, Ask, Part, Route

TEXT_CHARACTERS = 4_000
TAG_COUNT, TAG_CHARACTERS = 50, 64
AFTER_SECONDS = 60.0
STATES = ("waiting", "sent", "acknowledged", "failed", "expired")

_ORDER_ID = "^ord_[0-9a-f]{24}$"

Text = Annotated[str, Meta(min_length=1, max_length=TEXT_CHARACTERS)]
Tag = Annotated[str, Meta(min_length=1, max_length=TAG_CHARACTERS, pattern=queries.PLAIN)]
_NO_CONTROL = queries.PLAIN[1:-1]
Event = Annotated[
    dict[str, Any],
    Meta(
        extra_json_schema={
            "required": ["type"],
            # the dot tells a client event from what else can be ordered
            "properties": {"type": {"type": "string", "maxLength": 100, "pattern": f"^{_NO_CONTROL}\\.{_NO_CONTROL}$"}},
        }
    ),
]
"""A client event; what else is in it is for upstream to judge."""


class Say(Struct, frozen=True, forbid_unknown_fields=True):
    """Have the model say something."""

    text: Annotated[Text, Meta(description="Spoken word for word, once no other response is active.")]


class HangUp(Struct, frozen=True, forbid_unknown_fields=True):
    """End the call."""

    goodbye: Annotated[Text | None, Meta(description="Said before the end.")] = None
    after: Annotated[
        Annotated[float, Meta(ge=0, le=AFTER_SECONDS)] | Annotated[str, Meta(pattern=f"^{queries.UNIT_TIME}?$")] | None,
        Meta(
            description=(
                'How long the goodbye may take, at most 60 s: seconds, or a duration such as "5s". 5 s by default.'
            )
        ),
    ] = None


class Tags(Struct, frozen=True, forbid_unknown_fields=True):
    """Change the tags of the call."""

    add: Annotated[list[Tag], Meta(max_length=TAG_COUNT)] = msgspec.field(default_factory=list)
    remove: Annotated[list[Tag], Meta(max_length=TAG_COUNT)] = msgspec.field(default_factory=list)


class Order(Struct, frozen=True):
    """Be an order."""

    order_id: str
    call_id: str
    state: Annotated[
        str,
        Meta(
            description="What was not sent within 10 s is `expired`, and is not sent any more.",
            extra_json_schema={"enum": list(STATES)},
        ),
    ]
    command: Annotated[
        dict[str, Any], Meta(description="What was ordered; once it was sent, with the `event_id` of the command.")
    ]
    error: str | None


def shape(row: orders.Order) -> Order:
    """Shape an order."""
    command = dict(row.command)
    if row.event_id is not None:
        command["event_id"] = row.event_id
    return Order(row.order_id, row.call_id, row.state, command, row.error)


def routes(database: Database, writer: Writing, clock: Clock) -> list[Route[Any, Any]]:
    """Give the routes, bound to what answers them."""
    api = _Api(database, writer, clock)
    taken = (Answer(description="The order, which waits to be carried out.", status=202, body=Order),)

    def ordering(name: str, summary: str, answer: Any, *, body: Any = None, description: str = "") -> Route[Any, Any]:
        return Route(
            name=f"calls.{name}",
            method="POST",
            path=f"/api/v1/calls/{{id}}/{name}",
            scope="control",
            summary=summary,
            description=description,
            query=Nothing,
            body=body,
            answers=taken,
            problems={409: "The call is not live."},
            answer=answer,
        )

    return [
        ordering(
            "commands",
            "Send a client event into a live call.",
            api.send,
            body=Event,
            description="Any client event of the Realtime API. Its `event_id` is replaced by ours.",
        ),
        ordering(
            "say",
            "Have the model say something in a live call.",
            api.say,
            body=Say,
            description="It waits for the response that is active. Sent once more if upstream refuses it as too early.",
        ),
        ordering("hangup", "End a call, with a goodbye if you like.", api.hang_up, body=HangUp),
        ordering(
            "pause",
            "Keep what is said from now on out of the record.",
            api.pause,
            description="Payloads are dropped before storage, also of what comes late for the time of the pause.",
        ),
        ordering("resume", "Record again.", api.resume),
        ordering("tags", "Add tags to a live call, and take others away.", api.tags, body=Tags),
        Route(
            name="orders.get",
            path="/api/v1/orders/{order_id}",
            summary="Tell what became of an order.",
            query=queries.Nothing,
            answers=(Answer(description="The order.", body=Order),),
            problems={404: "There is no order of this id.", 410: "The recording of its call was erased."},
            parts={"order_id": Part("The order's id.", _ORDER_ID)},
            answer=api.order,
        ),
    ]


class _Api:
    def __init__(self, database: Database, writer: Writing, clock: Clock) -> None:
        self._database = database
        self._writer = writer
        self._clock = clock

    async def send(self, ask: Ask[Nothing, dict[str, Any]]) -> Order:
        event = {name: value for name, value in ask.body.items() if name != "event_id"}
        type_ = event.get("type")
        # the dot tells a client event from what else can be ordered
        if not isinstance(type_, str) or "." not in type_ or not is_plain(type_, 100):
            raise _invalid("`type` must be that of a client event, such as session.update.")
        if depth(msgspec.json.encode(event)) > MAX_DEPTH:
            raise _invalid(f"The event is nested more than {MAX_DEPTH} deep.")
        return await self._give(ask, event)

    async def say(self, ask: Ask[Nothing, Say]) -> Order:
        return await self._give(ask, {"type": "say", "text": ask.body.text})

    async def hang_up(self, ask: Ask[Nothing, HangUp]) -> Order:
        command: dict[str, Any] = {"type": "hangup"}
        if ask.body.goodbye is not None:
            command["goodbye"] = ask.body.goodbye
        if ask.body.after is not None:
            command["after"] = _seconds(ask.body.after)
        return await self._give(ask, command)

    async def pause(self, ask: Ask[Nothing, None]) -> Order:
        return await self._give(ask, {"type": "pause"})

    async def resume(self, ask: Ask[Nothing, None]) -> Order:
        return await self._give(ask, {"type": "resume"})

    async def tags(self, ask: Ask[Nothing, Tags]) -> Order:
        add, remove = ask.body.add, ask.body.remove
        if not all(is_plain(tag, TAG_CHARACTERS) for tag in (*add, *remove)):
            raise _invalid("Tags have no control characters.")
        return await self._give(ask, {"type": "tags", "add": add, "remove": remove})

    async def order(self, ask: Ask[Nothing, None]) -> Order:
        order_id = ask.request.match_info["order_id"]
        await ask.record(order_id)
        row = await orders.find(self._database, order_id)
        if row is None:
            raise RequestError(404, "order_not_found", "There is no order of this id.")
        if await calls.was_erased(self._database, row.call_id, await calls.find(self._database, row.call_id)):
            raise RequestError(410, "call_erased", "The recording of this order's call was erased.")
        return shape(row)

    async def _give(self, ask: Ask[Nothing, Any], command: Mapping[str, Any]) -> Order:
        call = await calls.find(self._database, ask.request.match_info["id"])
        if call is None or not _takes(call, str(command["type"])):
            await ask.call()
            raise RequestError(409, "call_not_live", "The call is not live.")
        order_id = f"ord_{secrets.token_hex(12)}"
        work = orders.give(
            order_id=order_id,
            call_key=call.key,
            call_id=call.call_id,
            command=command,
            actor=ask.actor,
            at=self._clock.now_us(),
        )
        # the audit's row first, but in the same flush: each one more is 50 ms for whoever waits on the line
        try:
            await asyncio.gather(ask.record(call.call_id), self._writer.run(work))
        finally:
            # it may have been given although whoever asked has gone, or the other row was not written
            self._writer.ordered.announce()
        return Order(order_id, call.call_id, "waiting", dict(command), None)


def _takes(call: Call, type_: str) -> bool:
    if type_ == "hangup":
        # a call that nobody observes goes on costing
        return call.status in ("connecting", "live") or (
            call.status in ("unobserved", "lost") and call.ended_at is None
        )
    return call.status == "live"


def _seconds(after: float | str) -> float:
    if isinstance(after, str):
        microseconds = parameters.duration_us(after)
        if microseconds is None:
            raise _invalid('`after` must be a number of seconds, or a duration such as "5s".')
        after = microseconds / 1e6
    if not 0 <= after <= AFTER_SECONDS:
        raise _invalid(f"`after` must be at most {AFTER_SECONDS:g} seconds.")
    return after


def _invalid(message: str) -> RequestError:
    return RequestError(400, "invalid_body", message)
