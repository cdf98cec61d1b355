"""Lead from the bare address to the first page."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from rtobserver.web import queries
from rtobserver.web.pages.rendering import Rendering
from rtobserver.web.routes import Answer, Ask, Route


def routes(rendering: Rendering) -> list[Route[Any, Any]]:
    """Give the route."""

    async def answer(ask: Ask[queries.Nothing, None]) -> web.Response:
        return rendering.page(ask, "start.html")

    return [
        Route(
            name="pages.start",
            path="/",
            page=True,
            summary="Lead to the first page.",
            query=queries.Nothing,
            answers=(Answer(description="The page.", media="text/html"),),
            answer=answer,
        )
    ]
