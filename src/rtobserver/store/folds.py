"""Items and responses, between their rows and the values of `realtime/rows.py`.

Columns are named as the values' fields are; only a response's `usage` is kept as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from decimal import Decimal
from operator import attrgetter
from typing import Any

import sqlalchemy as sa

from rtobserver.realtime.rows import ItemRow, ResponseRow, Totals, Usage
from rtobserver.store import tables
from rtobserver.store.database import Database
from rtobserver.store.positions import CallKey, Position, rows_of
from rtobserver.store.transaction import Transaction

_ITEM, _RESPONSE, _USAGE = (row.__struct_fields__ for row in (ItemRow, ResponseRow, Usage))
# `asdict` copies deeply, which took a third of the CPU that an event cost
_of_item, _of_response, _of_usage = (attrgetter(*names) for names in (_ITEM, _RESPONSE, _USAGE))


async def items(
    database: Database, call: CallKey, *, after: Position | None = None, limit: int | None = None
) -> list[ItemRow]:
    """Read a call's items by position.

    Raises:
        StoreUnavailable: the database cannot be read now.

    """
    return [item_of(row) for row in await rows_of(database, tables.item, call, after=after, limit=limit)]


async def responses(
    database: Database, call: CallKey, *, after: Position | None = None, limit: int | None = None
) -> list[ResponseRow]:
    """Read a call's responses by position.

    Raises:
        StoreUnavailable: the database cannot be read now.

    """
    rows = await rows_of(database, tables.response, call, after=after, limit=limit)
    return [_response(row) for row in rows]


def item_of(row: Mapping[Any, Any]) -> ItemRow:
    """Make an item of its row."""
    return ItemRow(**{name: row[name] for name in _ITEM})


def forget(
    call: CallKey, items: Collection[str] = (), responses: Collection[str] = ()
) -> Callable[[Transaction], None]:
    """Take a call's items and responses away, but for those named; for `Writer.post`."""

    def work(transaction: Transaction) -> None:
        for id_, kept in ((tables.item.c.item_id, items), (tables.response.c.response_id, responses)):
            of_call = sa.and_(id_.table.c.call_key == call.key, id_.table.c.day == call.day)
            there = {found for (found,) in transaction.execute(sa.select(id_).where(of_call))}
            for stale in there.difference(kept):
                transaction.execute(sa.delete(id_.table).where(of_call, id_ == stale))

    return work


def item_values(row: ItemRow) -> dict[str, Any]:
    """Give an item's columns, but for the call's own."""
    return dict(zip(_ITEM, _of_item(row), strict=True))


def response_values(row: ResponseRow) -> dict[str, Any]:
    """Give a response's columns, but for the call's own."""
    values = dict(zip(_RESPONSE, _of_response(row), strict=True))
    if row.usage is not None:
        values["usage"] = json.dumps(dict(zip(_USAGE, _of_usage(row.usage), strict=True)))
    return values


def call_values(totals: Totals) -> dict[str, Any]:
    """Give the columns of a call that its entries sum up to."""
    usage = totals.usage
    return {
        "turn_count": totals.turn_count,
        "interruption_count": totals.interruption_count,
        "error_count": totals.error_count,
        "usage": json.dumps(
            {
                "input_tokens": usage.input_tokens,
                "output_tokens": usage.output_tokens,
                "total_tokens": usage.total_tokens,
                "cached_tokens": usage.cached_tokens,
                "input": {"text": usage.input_text, "audio": usage.input_audio, "image": usage.input_image},
                "output": {"text": usage.output_text, "audio": usage.output_audio},
                "cached": {"text": usage.cached_text, "audio": usage.cached_audio, "image": usage.cached_image},
                "transcription": {"tokens": totals.transcription_tokens, "seconds": totals.transcription_seconds},
                "responses_without_usage": totals.responses_without_usage,
            }
        ),
        "cost_usd": _money(totals.cost_usd),
        "latency": json.dumps(
            {
                "first_audio_ms": {"p50": totals.first_audio_p50_ms, "p95": totals.first_audio_p95_ms},
                "generation_ms": {"p50": totals.generation_p50_ms, "p95": totals.generation_p95_ms},
            }
        ),
        "metrics": json.dumps(
            {
                "user_talk_ms": totals.user_talk_ms,
                "assistant_talk_ms": totals.assistant_talk_ms,
                "dead_air_ms": totals.dead_air_ms,
                "tool_latency_ms": {"p50": totals.tool_p50_ms, "p95": totals.tool_p95_ms},
                "transcription_failure_count": totals.transcription_failures,
                "transcription_hint": totals.transcription_hint,
                "costs": [
                    {"meter": cost.meter, "model": cost.model, "cost_usd": _money(cost.usd)} for cost in totals.costs
                ],
                "unpriced_models": totals.unpriced,
            }
        ),
    }


def _money(usd: Decimal | None) -> str | None:
    return None if usd is None else format(usd, "f")


def _response(row: dict[str, Any]) -> ResponseRow:
    values = {name: row[name] for name in _RESPONSE}
    if values["usage"] is not None:
        values["usage"] = Usage(**json.loads(values["usage"]))
    return ResponseRow(**values)
