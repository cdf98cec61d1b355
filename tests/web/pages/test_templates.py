"""The rules of the house for what browsers get: templates, scripts, style sheets, and what others wrote."""

from __future__ import annotations

import hashlib
import re
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

TOP = Path(__file__).resolve().parents[3]
PAGES = TOP / "src" / "rtobserver" / "web" / "pages"
VENDORED = [PAGES / "assets" / "vendor", TOP / "tests" / "browser" / "axe"]
LONGEST = 500

TEMPLATES = sorted((PAGES / "templates").rglob("*.html"))
OWN = sorted(
    path for path in (PAGES / "assets").rglob("*") if path.suffix in (".js", ".css") and "vendor" not in path.parts
)
SCRIPTS = [path for path in OWN if path.suffix == ".js"]
SHEETS = [path for path in OWN if path.suffix == ".css"]


def name_of(path: Path) -> str:
    return path.relative_to(PAGES).as_posix()


class Tags(HTMLParser):
    """Collect the tags of a template, whatever stands between them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.written: list[str] = []
        # what the engine replaces has no part in this; a macro may write attributes, a value may not
        for part, written in (
            (r"{#.*?#}", ""),
            (r"{%.*?%}", " "),
            (r"{{ (?!asset)\w+\([^{}]*\) }}", ""),
            (r"{{.*?}}", "VALUE"),
        ):
            text = re.sub(part, written, text, flags=re.DOTALL)
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self.written.append(self.get_starttag_text() or "")


@pytest.mark.parametrize("template", TEMPLATES, ids=name_of)
def test_a_template_has_nothing_inline(template: Path) -> None:
    for tag, attributes in Tags(template.read_text()).found:
        assert tag != "style"
        forbidden = [name for name in attributes if name == "style" or re.match(r"on|hx-on|javascript", name)]
        assert forbidden == [], tag
        assert not [value for value in attributes.values() if value and re.match(r"\s*(?:js|javascript):", value)]
        if tag == "script":
            assert attributes.get("src") == "VALUE" or attributes.get("type") == "application/json"


@pytest.mark.parametrize("template", TEMPLATES, ids=name_of)
def test_a_template_escapes_all_that_it_writes(template: Path) -> None:
    text = template.read_text()
    assert not re.search(r"\|\s*safe\b|autoescape|Markup", text)
    for tag in Tags(text).written:
        # without quotation marks, a blank in a value would begin the next attribute
        assert "VALUE" not in re.sub(r"""=\s*"[^"]*"|=\s*'[^']*'""", "", tag)


@pytest.mark.parametrize("template", TEMPLATES, ids=name_of)
def test_a_template_writes_a_text_as_it_is_only_where_it_is_given_back_or_compared(template: Path) -> None:
    text = template.read_text()
    exact = re.findall(r"([\w-]+)=\"{{ [^{}]*\|exact }}\"", text)
    assert set(exact) <= {"name", "value", "data-item-id", "data-response-id"}
    assert len(exact) == len(re.findall(r"\|\s*exact\b", text))
    fields = [tag for tag in re.findall(r"<(?:input|select|textarea|option)\b[^>]*>", text) if "{{" in tag]
    assert [tag for tag in fields if re.search(r" (?:name|value)=\"{{ (?![^{}]*\|exact }})", tag)] == []


@pytest.mark.parametrize("template", TEMPLATES, ids=name_of)
def test_a_template_loads_from_nowhere_else(template: Path) -> None:
    for tag, attributes in Tags(template.read_text()).found:
        for name in ("src", "href", "action", "hx-get", "hx-post"):
            value = attributes.get(name)
            assert value is None or not re.match(r"(?:[a-z]+:)?//", value), f"{tag} {name}"


@pytest.mark.parametrize("script", SCRIPTS, ids=name_of)
def test_a_script_makes_no_markup_of_text(script: Path) -> None:
    found = re.findall(
        r"\.(?:innerHTML|outerHTML|insertAdjacentHTML|srcdoc)\b|document\.write|DOMParser|\beval\(|new Function|"
        r"createContextualFragment|setHTMLUnsafe|setAttribute\(\s*[\"'](?:style|on\w+)[\"']",
        script.read_text(),
    )
    assert found == []


@pytest.mark.parametrize("script", SCRIPTS, ids=name_of)
def test_a_script_imports_by_relative_addresses_only(script: Path) -> None:
    """So that all modules on a page are of one release: the folder in their address is."""
    for address in re.findall(r"""(?:from|import)\s*\(?\s*["']([^"']+)["']""", script.read_text()):
        assert address.startswith(("./", "../"))
        assert (script.parent / address).resolve().is_file()


@pytest.mark.parametrize("path", [*OWN, *TEMPLATES], ids=name_of)
def test_it_can_be_read_in_one_sitting(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGEST


def test_style_sheets_name_colours_by_their_tokens() -> None:
    """Else a page has one theme."""
    defined = set(re.findall(r"^\s*(--[a-z-]+):", (PAGES / "assets" / "style.css").read_text(), re.MULTILINE))
    for sheet in SHEETS:
        text = sheet.read_text()
        own = set(re.findall(r"(--[a-z0-9-]+)\s*:", text))
        used = set(re.findall(r"var\((--[a-z0-9-]+)\s*\)", text))
        set_by_scripts = set(re.findall(r"(--[a-z0-9-]+)", "".join(script.read_text() for script in SCRIPTS)))
        assert used - defined - own - set_by_scripts == set(), sheet.name


# --- what others wrote ----------------------------------------------------------------------------


def libraries() -> list[tuple[Path, dict[str, Any]]]:
    return [
        (folder, library)
        for folder in VENDORED
        for library in tomllib.loads((folder / "vendor.toml").read_text())["library"]
    ]


@pytest.mark.parametrize(("folder", "library"), libraries(), ids=[each["name"] for _, each in libraries()])
def test_what_others_wrote_is_as_they_published_it(folder: Path, library: dict[str, Any]) -> None:
    assert set(library) == {"name", "version", "licence", "licence_file", "from", "use", "files"}
    assert library["licence_file"] in library["files"]
    for name, digest in library["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name


@pytest.mark.parametrize("folder", VENDORED, ids=lambda folder: str(folder.name))
def test_nothing_of_others_is_unlisted(folder: Path) -> None:
    listed = {name for where, library in libraries() if where == folder for name in library["files"]}
    assert {path.name for path in folder.iterdir()} == listed | {"vendor.toml"}


def test_the_library_says_its_version_itself() -> None:
    """So that the list cannot name another release than the one that is there."""
    versions = {library["name"]: library["version"] for _, library in libraries()}
    assert f'this.version="{versions["htmx.org"]}"' in (VENDORED[0] / "htmx.min.js").read_text()
    assert f"(v{versions['uplot']})" in (VENDORED[0] / "uPlot.iife.min.js").read_text()[:200]
    assert f"axe v{versions['axe-core']}" in (VENDORED[1] / "axe.min.js").read_text()[:100]
