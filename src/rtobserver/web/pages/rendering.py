"""Make HTML of templates: whole pages and parts of them.

Everything that a template writes is escaped, and has marks in place of what cannot be seen; only
what it calls `exact` goes out as it is. The policy that goes with each page lets it load and reach
nothing but this listener and has no exception for inline scripts or styles; markup becomes elements
in a browser only by way of the one Trusted Types policy, `htmx`, which `page.js` makes.
"""

from __future__ import annotations

import asyncio
import datetime
from decimal import Decimal
from typing import Any

import jinja2
import msgspec
from aiohttp import web
from jinja2.bccache import Bucket
from markupsafe import Markup

from rtobserver.clock import Clock
from rtobserver.store.keys import SCOPES, Key
from rtobserver.web import parameters, shapes
from rtobserver.web.pages import texts
from rtobserver.web.pages.assets import Assets
from rtobserver.web.routes import Ask

CONTENT_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types htmx",
    ]
)
HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": CONTENT_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # not `no-referrer`: under that, browsers send `Origin: null` with a form, and we ask for our own
    "Referrer-Policy": "same-origin",
}
"""Headers of every page."""

NAVIGATION = (
    ("/", "Live"),
    ("/calls", "Calls"),
    ("/search", "Search"),
    ("/policies", "Policies"),
    ("/stats", "Statistics"),
    ("/system", "System"),
)
DASH = "–"  # noqa: RUF001 - it is meant
_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


class _Compiled(jinja2.BytecodeCache):
    """Keep what templates were compiled to for as long as the process lasts."""

    def __init__(self) -> None:
        self._held: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        if bucket.key in self._held:
            bucket.bytecode_from_string(self._held[bucket.key])

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._held[bucket.key] = bucket.bytecode_to_string()


_COMPILED = _Compiled()


class Rendering:
    """Answer with HTML."""

    def __init__(self, assets: Assets, clock: Clock) -> None:
        self._clock = clock
        self._turn = asyncio.Lock()
        self._is_ready = False
        self._environment = jinja2.Environment(
            loader=jinja2.PackageLoader("rtobserver.web.pages", "templates"),
            autoescape=True,
            # whatever a template writes was perhaps made by a caller, a model or somebody with a key
            finalize=texts.written,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
            bytecode_cache=_COMPILED,
        )
        self._environment.globals |= {"asset": assets.address, "navigation": NAVIGATION}
        self._environment.filters |= {
            "moment": moment,
            "age_since": self.age_since,
            "seconds": seconds,
            "money": money,
            "count": count,
            "percent": percent,
            "json_block": json_block,
            "utc": utc,
            "exact": texts.Exact,
        }

    async def ready(self) -> None:
        """Have all templates compiled; a daemon whose pages nobody asks for does without."""
        if self._is_ready:
            return
        async with self._turn:
            if not self._is_ready:
                await asyncio.to_thread(self.prepare)
                self._is_ready = True

    def prepare(self) -> None:
        """Compile all templates, for a thread: some take longer than the event loop may stand still."""
        for name in self._environment.list_templates():
            self._environment.get_template(name)

    def page(self, ask: Ask[Any, Any], template: str, *, status: int = 200, **values: Any) -> web.Response:
        """Answer with a whole document, made of a template that extends `base.html`."""
        return self.document(ask.request, ask.key, template, status=status, **values)

    def fragment(self, ask: Ask[Any, Any], template: str, *, status: int = 200, **values: Any) -> web.Response:
        """Answer with a part of a page."""
        return self.document(ask.request, ask.key, template, status=status, **values)

    def document(
        self, request: web.BaseRequest, key: Key | None, template: str, *, status: int = 200, **values: Any
    ) -> web.Response:
        """Answer somebody who was perhaps not let in."""
        text = self._environment.get_template(template).render(
            **values,
            now=self._clock.now_us() // 1000,
            status=status,
            may=granted(key),
            who=key,
            here="/" + request.path.split("/")[1],
        )
        return web.Response(status=status, text=text, content_type="text/html", charset="utf-8", headers=HEADERS)

    def age_since(self, at: int | None) -> Markup | str:
        """Say for how long something has lasted that began at a time; it goes on counting in the browser."""
        if at is None:
            return DASH
        lasted = seconds(max(0, self._clock.now_us() - at) / 1_000_000)
        return Markup('<time class="age" datetime="{}" title="{}">{}</time>').format(_iso(at), utc(at), lasted)


def granted(key: Key | None) -> frozenset[str]:
    """Give the scopes that a key is good for."""
    return frozenset() if key is None else frozenset(scope for scope in SCOPES if key.allows(scope))


def moment(at: int | str | None) -> Markup | str:
    """Write a time, which the browser then turns into its own zone.

    `at` is in microseconds since 1970, or as the API gives it.
    """
    if isinstance(at, str):
        at = parameters.moment(at, 0)
    return DASH if at is None else Markup('<time datetime="{0}" title="{1}">{1}</time>').format(_iso(at), utc(at))


def seconds(lasted: float | None) -> str:
    """Write a duration such as `1:02:03` or `0:07`."""
    if lasted is None:
        return DASH
    minutes, rest = divmod(int(lasted), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def money(amount: Decimal | str | None) -> str:
    """Write US dollars."""
    if amount is None:
        return DASH
    exact = Decimal(amount)
    return f"${exact:,.2f}" if exact >= 100 else f"${exact:,.4f}"


def count(number: int | None) -> str:
    """Write a number with commas."""
    return DASH if number is None else f"{number:,}"


def percent(share: float | None) -> str:
    """Write a share of 1 as per cent."""
    return DASH if share is None else f"{share * 100:.1f} %"


def json_block(value: Any, name: str) -> Markup:
    """Write data for a script: a block that is never run, which the script finds by its id."""
    text = shapes.encode(value).decode() if isinstance(value, msgspec.Struct) else msgspec.json.encode(value).decode()
    for letter, escape in _ESCAPES.items():
        text = text.replace(letter, escape)
    # marked as safe: in JSON these letters stand in texts only, and there an escape is the same
    block = Markup('<script type="application/json" id="{}">{}</script>')
    return block.format(name, Markup(text))  # noqa: S704


def _iso(at: int) -> str:
    return shapes.time(at)


def utc(at: int) -> str:
    """Write a time as words, where there can be no element that the browser turns."""
    told = datetime.datetime.fromtimestamp(at // 1_000_000, datetime.UTC)
    return f"{told:%Y-%m-%d %H:%M:%S} UTC"
