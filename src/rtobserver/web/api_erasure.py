"""Erase calls."""

from __future__ import annotations

from typing import Any

from rtobserver.errors import RequestError
from rtobserver.housekeeping import Housekeeping
from rtobserver.store.erasure import CallIsLive
from rtobserver.web import queries
from rtobserver.web.routes import Answer, Ask, Route


def routes(housekeeping: Housekeeping) -> list[Route[Any, Any]]:
    """Give the routes, bound to what answers them."""

    async def erase(ask: Ask[queries.Nothing, None]) -> None:
        call = await ask.call()
        try:
            erased = await housekeeping.erase(call, actor=ask.actor)
        except CallIsLive as exc:
            raise RequestError(409, "call_live", "The call is going on. Hang it up first.") from exc
        if not erased:
            # two asked at once
            raise RequestError(410, "call_erased", "The recording of this call was erased.")

    return [
        Route(
            name="calls.erase",
            method="DELETE",
            path="/api/v1/calls/{id}",
            scope="erase",
            summary="Erase a call: every text and identity of it, for good.",
            description=(
                "Its rows are gone when this is answered, and later requests for the call are 410. Their bytes leave "
                "the files soon after; then the audit has a row of the action `calls.erased`."
            ),
            query=queries.Nothing,
            answers=(Answer(status=204, description="It is erased."),),
            problems={409: "The call is going on."},
            answer=erase,
        )
    ]
