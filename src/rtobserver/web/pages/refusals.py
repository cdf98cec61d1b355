"""Tell people in a browser why they do not get a page, and what they can do."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

from aiohttp import web

from rtobserver.web import problems
from rtobserver.web.bearer import KEY, PAGE, is_link
from rtobserver.web.pages.login import own_path
from rtobserver.web.pages.rendering import HEADERS, Rendering
from rtobserver.web.parameters import TEXT_CAP
from rtobserver.web.problems import Problem

FOR_PROGRAMS = ("/api/", "/assets/", "/metrics", "/livez", "/readyz")
"""Beginnings of the paths under which there is no page, not even one that tells of a refusal."""
_TITLES = {
    400: "This address cannot be read",
    403: "This is not allowed",
    404: "There is nothing here",
    410: "This recording was erased",
    503: "Not now",
}
_NEXT = {
    403: "Open the dashboard itself and try from there.",
    404: "The address may be mistyped, or what was here is gone.",
    410: "No list, search or export has it any more. The audit says when it was erased, and by which key.",
    503: "Load the page again in a moment. The system page and the log tell more.",
}
_SCOPE = "scope_missing"
_SCOPE_TITLE = "Your key does not allow this"
_SCOPE_NEXT = "Sign in with another key, or have one made that may do this."


def telling(rendering: Rendering) -> Callable[[web.Request, Problem], web.Response | None]:
    """Make what gives the page for a refusal, or None where a program has asked."""

    def page(request: web.Request, problem: Problem) -> web.Response | None:
        if not _is_for_people(request):
            return None
        if problem.status == 401 and request.get(PAGE):
            return _again(rendering, request) or _to_login(request)
        lacks = problem.code == _SCOPE
        response = rendering.document(
            request,
            request.get(KEY),
            "refusal.html",
            status=problem.status,
            title=_SCOPE_TITLE if lacks else _TITLES.get(problem.status, "This did not work"),
            detail=problem.message,
            next=_SCOPE_NEXT if lacks else _NEXT.get(problem.status, ""),
            request_id=problems.request_id(request),
        )
        for name, value in problem.headers.items():
            response.headers[name] = value
        if problem.retry_after is not None:
            response.headers["Retry-After"] = str(problem.retry_after)
        return response

    return page


def _is_for_people(request: web.Request) -> bool:
    if request.get(PAGE):
        return True
    return not request.path.startswith(FOR_PROGRAMS) and "text/html" in request.headers.get("Accept", "")


def _again(rendering: Rendering, request: web.Request) -> web.Response | None:
    """Have a page of ours ask again, where a link on another site has led here.

    Browsers keep a `SameSite=Strict` cookie back then, so that who has signed in looks as if not.
    """
    if request.method != "GET" or request.headers.get("Sec-Fetch-Site") != "cross-site" or not is_link(request):
        return None
    return rendering.document(request, None, "again.html", address=own_path(request.raw_path))


def _to_login(request: web.Request) -> web.Response:
    """Lead to where one signs in; a script is told so, since it would show the form in the wrong place."""
    if request.method != "GET":
        return web.Response(status=303, headers=HEADERS | {"Location": "/login"})
    if "HX-Request" in request.headers:
        return web.Response(status=401, headers=HEADERS)
    wanted = request.raw_path if len(request.raw_path) <= TEXT_CAP else request.rel_url.raw_path
    return web.Response(status=303, headers=HEADERS | {"Location": f"/login?next={quote(wanted, safe='')}"})
