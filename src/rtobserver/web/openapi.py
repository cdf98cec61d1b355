"""Make the OpenAPI 3.1 document of the routes. Pure.

Nothing of it is kept by hand: parameters come from the queries' forms, schemas from the types that
answers are encoded from and bodies are read into, refusals from what a route needs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from rtobserver import __version__
from rtobserver.web import problems, queries, sse
from rtobserver.web.routes import JSON, Answer, Route

LINES = "application/x-ndjson"
_WHOLE = (JSON, "text/html", "text/css")
"""Media that are sent whole and so have an `ETag`; the others of routes without any of these are streamed."""

_REF = "#/components/schemas/{name}"
_BRACES = re.compile(r"\{([a-z_]+)\}")
_INFO = {
    "title": "rtobserver",
    "version": __version__,
    "description": (
        "Recorded calls to the GPT Realtime API. Every request needs a key, `Authorization: Bearer rto_...`; "
        "`rtobserver keys create` makes one. Lists are read page by page: pass `next_cursor` on as `cursor` "
        "until it is null. Whatever is refused is told in a problem document (RFC 9457)."
    ),
}

Json = dict[str, Any]


def document(routes: Sequence[Route[Any, Any]]) -> Json:
    """Write the document."""
    types = _types(routes)
    schemas, components = msgspec.json.schema_components(types, ref_template=_REF)
    for type_ in _structs(answer.body for route in routes for answer in route.answers):
        # encoded always, whatever it is read with where it is absent
        fields = [each.encode_name for each in msgspec.structs.fields(type_) if each.default is not msgspec.UNSET]
        components.get(type_.__name__, {})["required"] = fields
    known = list(zip(types, schemas, strict=True))

    def schema_of(type_: Any) -> Json:
        return next(dict(schema) for each, schema in known if each == type_)

    paths: dict[str, Json] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schema_of)
    return {
        "openapi": "3.1.0",
        "info": _INFO,
        "paths": paths,
        "components": {
            "schemas": dict(sorted(components.items())),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "An API key."}},
        },
    }


def refusals(route: Route[Any, Any]) -> dict[int, str]:
    """Say with which statuses a route may refuse, and when."""
    told = {
        400: "The query, a header or the body cannot be read.",
        403: "The request comes from a page of another origin.",
        421: "The Host is not one that this server answers under.",
    }
    if route.scope is not None:
        told[401] = "There is no key, or it is not good."
        told[429] = "Too many keys from there were wrong; `Retry-After` says when the next is looked at."
        told[403] = f"The key has no scope `{route.scope}`, or the request comes from a page of another origin."
        told[503] = "The database cannot be read or written now."
    if "{id}" in route.path:
        told[404] = "There is no call of this id."
        told[410] = "The recording of this call was erased."
    if route.method == "POST":
        told[415] = "The body has a `Content-Encoding`."
    if route.body is not None:
        told[408] = "The body did not come in time."
        told[413] = "The body is too large."
        told[415] = f"The body is not {JSON}, or has a `Content-Encoding`."
    return dict(sorted((told | dict(route.problems)).items()))


def _types(routes: Iterable[Route[Any, Any]]) -> list[Any]:
    found: list[Any] = [problems.ProblemDocument]
    for route in routes:
        for type_ in (route.body, *(answer.body for answer in route.answers)):
            if type_ is not None and type_ not in found:
                found.append(type_)
    return found


def _operation(route: Route[Any, Any], schema_of: Any) -> Json:
    operation: Json = {
        "operationId": route.name,
        "tags": [route.name.partition(".")[0]],
        "summary": route.summary,
        "parameters": [
            *_path_parameters(route),
            *map(_parameter, queries.parameters_of(route.query)),
            *_header_parameters(route),
        ],
        "responses": _responses(route, schema_of),
        "security": [] if route.scope is None else [{"key": [route.scope]}],
    }
    if route.description:
        operation["description"] = route.description
    if route.body is not None:
        operation["requestBody"] = {
            "required": "required" in schema_of(route.body) or _has_required(route.body),
            "content": {JSON: {"schema": schema_of(route.body)}},
        }
    return operation


def _structs(types: Iterable[Any]) -> list[type[msgspec.Struct]]:
    """List the structs without type parameters that types are made of."""
    found: dict[type[msgspec.Struct], None] = {}

    def look(info: Any) -> None:
        if isinstance(info, msgspec.inspect.StructType):
            if info.cls in found:
                return
            if isinstance(info.cls, type):
                found[info.cls] = None
            for each in info.fields:
                look(each.type)
        for name in ("type", "item_type", "key_type", "value_type"):
            if isinstance(part := getattr(info, name, None), msgspec.inspect.Type):
                look(part)
        for part in (*getattr(info, "types", ()), *(getattr(info, "item_types", ()))):
            look(part)

    for each in types:
        if each is not None:
            look(msgspec.inspect.type_info(each))
    return list(found)


def _has_required(type_: Any) -> bool:
    try:
        msgspec.convert({}, type_)
    except msgspec.ValidationError:
        return True
    return False


def _path_parameters(route: Route[Any, Any]) -> list[Json]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": route.parts[name].description,
            "schema": {"type": "string", "pattern": route.parts[name].pattern},
        }
        for name in _BRACES.findall(route.path)
    ]


def _parameter(parameter: queries.Parameter) -> Json:
    written: Json = {
        "name": parameter.name,
        "in": "query",
        "required": parameter.required,
        "description": parameter.description,
        "schema": dict(parameter.form.schema),
    }
    if parameter.form.family:
        # an object that is spread over parameters, each under its own whole name
        written |= {"name": f"{parameter.name}.KEY", "style": "form", "explode": True}
    return written


def _header_parameters(route: Route[Any, Any]) -> list[Json]:
    return [
        {"name": name, "in": "header", "required": False, "description": text, "schema": {"type": "string"}}
        for name, text in route.headers.items()
    ]


def _responses(route: Route[Any, Any], schema_of: Any) -> Json:
    responses: dict[str, Json] = {}
    for answer in route.answers:
        response = responses.setdefault(str(answer.status), {"description": answer.description})
        if answer.headers:
            response["headers"] = {
                name: {"description": text, "schema": {"type": "string"}} for name, text in answer.headers.items()
            }
        if answer.status != 204:
            response.setdefault("content", {})[answer.media] = {"schema": _content(answer, schema_of)}
    if route.method == "GET" and route.path.startswith("/api/") and any(each.media in _WHOLE for each in route.answers):
        responses["304"] = {"description": "`If-None-Match` has the `ETag` of what would be sent."}
    for status, text in refusals(route).items():
        schema = schema_of(problems.ProblemDocument)
        responses[str(status)] = {"description": text, "content": {problems.MEDIA: {"schema": schema}}}
    return responses


def _content(answer: Answer, schema_of: Any) -> Json:
    if answer.body is None:
        return {"type": "string", "description": answer.description}
    if answer.media in (LINES, sse.MEDIA):
        part = "x-line" if answer.media == LINES else "x-data"
        return {"type": "string", "description": answer.description, part: schema_of(answer.body)}
    schema: Json = schema_of(answer.body)
    return schema
