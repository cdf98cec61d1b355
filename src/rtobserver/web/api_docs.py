"""Serve the API's own description: the OpenAPI document and a page for people made of it.

Neither needs a key, since they tell nothing about calls. The page is written on the server and
runs no script. Both are made when somebody first asks: few do, and to make them takes as long as
a quarter of a daemon's start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
from aiohttp import web

from rtobserver.web import openapi, queries, shapes
from rtobserver.web.routes import JSON, Answer, Ask, Route

_POLICY = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_OPEN = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
_PAGE = {
    **_OPEN,
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}


@dataclass(frozen=True)
class _Written:
    json: bytes
    html: bytes
    css: bytes


class _Description:
    """The description of routes, written once."""

    def __init__(self, routes: Sequence[Route[Any, Any]]) -> None:
        self._routes = routes
        self._turn = asyncio.Lock()
        self._written: _Written | None = None

    async def read(self) -> _Written:
        """Give it; whoever asks first has it written, in a thread, and who asks meanwhile waits for that."""
        async with self._turn:
            if self._written is None:
                self._written = await asyncio.to_thread(_write, self._routes)
        return self._written


def routes(others: Sequence[Route[Any, Any]]) -> list[Route[Any, Any]]:
    """Give the routes; `others` are the ones that they describe besides themselves."""

    async def document(_ask: Ask[queries.Nothing, None]) -> web.Response:
        return web.Response(body=(await description.read()).json, content_type=JSON, headers=_OPEN)

    async def for_people(_ask: Ask[queries.Nothing, None]) -> web.Response:
        html = (await description.read()).html
        return web.Response(body=html, content_type="text/html", charset="utf-8", headers=_PAGE)

    async def style(_ask: Ask[queries.Nothing, None]) -> web.Response:
        css = (await description.read()).css
        return web.Response(body=css, content_type="text/css", charset="utf-8", headers=_OPEN)

    own: list[Route[Any, Any]] = [
        Route(
            name="docs.openapi",
            path="/api/v1/openapi.json",
            scope=None,
            summary="Give this description as an OpenAPI 3.1 document.",
            query=queries.Nothing,
            answers=(Answer(description="The document.", body=dict[str, Any]),),
            answer=document,
        ),
        Route(
            name="docs.page",
            path="/api/docs",
            scope=None,
            summary="Give this description as a page for people.",
            query=queries.Nothing,
            answers=(Answer(description="The page.", media="text/html"),),
            answer=for_people,
        ),
        Route(
            name="docs.style",
            path="/api/docs.css",
            scope=None,
            summary="Give the looks of the page.",
            query=queries.Nothing,
            answers=(Answer(description="A style sheet.", media="text/css"),),
            answer=style,
        ),
    ]
    description = _Description([*others, *own])
    return own


def _write(routes: Sequence[Route[Any, Any]]) -> _Written:
    described = openapi.document(routes)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("rtobserver.web", "docs"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["type"] = type_of
    return _Written(
        json=shapes.encode(described),
        html=environment.get_template("page.html").render(document=described).encode(),
        css=environment.get_template("page.css").render().encode(),
    )


def type_of(schema: dict[str, Any]) -> str:
    """Say in a few words what a schema takes."""
    if reference := schema.get("$ref"):
        return str(reference).rpartition("/")[2]
    if words := schema.get("enum"):
        return " | ".join(map(str, words))
    if either := schema.get("anyOf"):
        return " | ".join(dict.fromkeys(map(type_of, either)))
    match schema.get("type"):
        case "array":
            return f"list of {type_of(schema.get('items', {}))}"
        case "object" if isinstance(schema.get("additionalProperties"), dict):
            return f"object of {type_of(schema['additionalProperties'])}"
        case None:
            return "any"
        case str(name) if "minimum" in schema:
            return f"{name}, {schema['minimum']} to {schema['maximum']}"
        case name:
            return str(schema.get("format", name))
