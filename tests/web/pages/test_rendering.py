"""How values are written into pages, and what goes with each page."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtobserver.store.keys import SCOPES, Key
from rtobserver.web import shapes
from rtobserver.web.pages import rendering
from rtobserver.web.pages.assets import Assets
from rtobserver.web.pages.rendering import DASH, NAVIGATION, Rendering
from rtobserver.web.pages.texts import visible
from tests.web.operator_stage import Clock, Stage, stage

AT = 1_767_225_600_123_456


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Stage]:
    async with stage(tmp_path) as opened:
        yield opened


def test_a_time_is_there_for_machines_and_for_people_in_utc() -> None:
    text = rendering.moment(AT)
    assert (
        text
        == '<time datetime="2026-01-01T00:00:00.123456Z" title="2026-01-01 00:00:00 UTC">2026-01-01 00:00:00 UTC</time>'
    )
    assert rendering.moment(shapes.time(AT)) == text
    assert rendering.moment(None) == DASH


def test_an_age_counts_from_the_clock() -> None:
    clock = Clock()
    made = Rendering(Assets(), clock)
    text = made.age_since(clock.now_us() - 3_725_500_000)
    assert re.search(r'<time class="age" datetime="[^"]+Z" title="[^"]+ UTC">1:02:05</time>', text)
    assert ">0:00<" in made.age_since(clock.now_us() + 9_000_000)
    assert made.age_since(None) == DASH


def test_figures_are_written_for_people() -> None:
    lasted = [rendering.seconds(each) for each in (0, 59.999, 3723, 360_000)]
    assert lasted == ["0:00", "0:59", "1:02:03", "100:00:00"]
    assert rendering.money(Decimal("0.01234")) == "$0.0123"
    assert rendering.money("1234.567") == "$1,234.57"
    assert rendering.count(1234567) == "1,234,567"
    assert rendering.percent(0.1234) == "12.3 %"


def test_what_is_not_known_is_a_dash() -> None:
    for write in (rendering.seconds, rendering.money, rendering.count, rendering.percent):
        assert write(None) == DASH


def key(*scopes: str) -> Key:
    return Key(key_id="k", name="n", scopes=frozenset(scopes), created_at=0, expires_at=None, revoked_at=None)


def test_an_admin_may_everything_and_nobody_nothing() -> None:
    assert rendering.granted(key("admin")) == set(SCOPES)
    assert rendering.granted(key("read", "control")) == {"read", "control"}
    assert rendering.granted(None) == set()


class Blocks(HTMLParser):
    """Read a document as browsers do: what is in a script ends at the first `</script`."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._within = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._within = tag == "script"
        if self._within:
            self.found.append("")

    def handle_endtag(self, tag: str) -> None:
        self._within = False

    def handle_data(self, data: str) -> None:
        if self._within:
            self.found[-1] += data


hostile = st.sampled_from(["</script>", "<!--", "<script>", "-->", "]]>", "&lt;", "\u2028", "\u202e", '"', "'", "\\"])


@given(st.lists(hostile | st.text(max_size=5), max_size=6).map("".join), st.text(max_size=10))
def test_data_for_scripts_comes_back_as_it_was(text: str, name: str) -> None:
    blocks = Blocks()
    blocks.feed(str(rendering.json_block({"text": text}, name)))
    blocks.close()
    [held] = blocks.found
    assert json.loads(held) == {"text": text}
    assert not set("<>&") & set(held)


@given(st.text(st.sampled_from("a\u202e\u2066\u200b\x00\x9b\n"), max_size=8))
def test_nothing_unseen_is_in_what_a_template_writes_but_where_a_field_gives_it_back(text: str) -> None:
    made = Rendering(Assets(), Clock())._environment
    source = """{% macro named(x) %}<i>{{ x }}</i>{% endmacro %}<b title="{{ text }}">{{ text }}</b>
    {{ named(text) }}{{ [text, text]|join(", ") }}{{ "is " ~ text }}{{ text|replace("a", "b") }}{{ none }}"""
    shown = made.from_string(source).render(text=text)
    assert visible(shown) == shown
    assert f'<b title="{visible(text)}">{visible(text)}</b>' in shown
    assert made.from_string('<input value="{{ text|exact }}">').render(text=text) == f'<input value="{text}">'


@given(st.text(max_size=50))
def test_whatever_a_template_writes_is_text(text: str) -> None:
    made = Rendering(Assets(), Clock())
    written = made._environment.from_string('<p title="{{ text }}">{{ text }}</p>').render(text=text)
    assert not re.search(r"<(?!/?p\b)", written)
    assert written.count('"') == 2


def test_a_name_that_a_template_does_not_get_is_an_error_and_no_blank() -> None:
    made = Rendering(Assets(), Clock())
    with pytest.raises(jinja2.UndefinedError):
        made._environment.from_string("{{ forgotten }}").render()


def test_templates_are_compiled_once_in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    Rendering(Assets(), Clock()).prepare()
    monkeypatch.setattr(jinja2.Environment, "compile", lambda *_, **__: pytest.fail("compiled again"))
    Rendering(Assets(), Clock()).prepare()


async def test_templates_are_prepared_when_somebody_asks_for_a_page(
    api: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[jinja2.Environment] = []
    list_templates = jinja2.Environment.list_templates

    def listed(environment: jinja2.Environment) -> list[str]:
        asked.append(environment)
        return list_templates(environment)

    monkeypatch.setattr(jinja2.Environment, "list_templates", listed)
    await api.get("/api/v1/calls")
    await api.get("/livez")
    assert not asked
    await asyncio.gather(api.get("/login"), api.get("/nothing", Accept="text/html"))
    assert len(asked) == 1


@pytest.mark.parametrize("path", ["/login", "/nothing", *[address for address, _ in NAVIGATION]])
async def test_each_page_goes_with_the_whole_policy(api: Stage, path: str) -> None:
    answer = await api.get(path, Accept="text/html")
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = {part.split()[0]: part.split()[1:] for part in answer.headers["Content-Security-Policy"].split(";")}
    assert policy == {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "connect-src": ["'self'"],
        "form-action": ["'self'"],
        "base-uri": ["'none'"],
        "frame-ancestors": ["'none'"],
        "require-trusted-types-for": ["'script'"],
        "trusted-types": ["htmx"],
    }
    wanted = {
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Referrer-Policy": "same-origin",
    }
    assert {name: answer.headers[name] for name in wanted} == wanted


@pytest.mark.parametrize(("path", "name"), NAVIGATION)
async def test_each_page_says_where_one_is_and_who(api: Stage, path: str, name: str) -> None:
    answer = await api.get(path, Accept="text/html")
    assert answer.status == 200
    text = answer.body.decode()
    assert re.findall(r'<a href="([^"]+)" aria-current="page">([^<]+)</a>', text) == [(path, name)]
    assert "<span>reader</span>" in text
    assert text.count("<h1") == 1
    assert text.count("<main") == 1
    assert re.search(r"<title>[^<]+ · rtobserver</title>", text)


async def test_what_a_page_loads_is_there_and_may_be_kept(api: Stage) -> None:
    text = (await api.get("/", Accept="text/html")).body.decode()
    loaded = re.findall(r'(?:src|href)="(/assets/[^"]+)"', text)
    assert len(loaded) >= 4
    for address in loaded:
        answer: Any = await api.send("GET", address)
        assert answer.status == 200
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        media = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}[address.rpartition(".")[2]]
        assert answer.headers["Content-Type"] == f"{media}; charset=utf-8"


async def test_an_open_page_of_an_earlier_release_gets_what_there_is_and_keeps_it_not(api: Stage) -> None:
    answer = await api.send("GET", "/assets/0123456789abcdef/style.css")
    assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-cache")


@pytest.mark.parametrize(
    "name",
    [
        "nothing.js",
        "vendor/vendor.toml",
        "../rendering.py",
        "%2e%2e/rendering.py",
        "..%2frendering.py",
        "vendor/",
        "style.css/",
        "style.css%00",
    ],
)
async def test_nothing_else_is_an_asset(api: Stage, name: str) -> None:
    assert (await api.send("GET", f"/assets/0123456789abcdef/{name}")).status == 404
