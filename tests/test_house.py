"""The rules of the house that no other tool holds."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[1]
PACKAGE = TOP / "src" / "rtobserver"
PARTS = ("src", "tests", "migrations", "benchmarks", "scripts", "docs", "requirements", ".ci")

LONGEST_MODULE = 500
LONGEST_FUNCTION = 75
LISTS = {"_running": 150}
"""Functions that are one long list of parts, in the order in which they start."""

NAMELESS = {"utils", "util", "helpers", "helper", "common", "misc", "base", "shared", "lib"}
EMPTY_WORDS = ("Manager", "Handler", "Service", "Helper", "Processor")
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

WORDS = [
    *("call", "session", "offer", "answer", "client secret", "sealed token", "negotiation", "upstream", "observer"),
    *("attach", "detach", "frame", "event", "client event", "entry", "epoch", "seq", "position", "gap", "policy"),
    *("trigger", "action", "decision", "command", "order", "profile", "replica", "lease", "drain", "journal"),
    *("store", "scenario"),
]


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def name_of(module: Path) -> str:
    return module.relative_to(PACKAGE).as_posix()


def public(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """Give what a module shows to others: classes, functions, methods."""
    for node in tree.body:
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)) and not node.name.startswith("_"):
            yield node.name, node
            for inner in node.body if isinstance(node, ast.ClassDef) else ():
                if isinstance(inner, FUNCTIONS) and not inner.name.startswith("_"):
                    yield f"{node.name}.{inner.name}", inner


def texts() -> Iterator[tuple[Path, str]]:
    """Give every file of ours that is text."""
    files = [path for part in PARTS for path in (TOP / part).rglob("*")]
    for path in [*files, *TOP.glob("*")]:
        if path.is_file() and not {"__pycache__", "node_modules"} & set(path.parts):
            try:
                yield path.relative_to(TOP), path.read_text()
            except UnicodeDecodeError:
                continue


@pytest.mark.parametrize("module", modules(), ids=name_of)
def test_a_module_can_be_read_in_one_sitting(module: Path) -> None:
    text = module.read_text()
    assert len(text.splitlines()) <= LONGEST_MODULE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, FUNCTIONS):
            assert (node.end_lineno or 0) - node.lineno < LISTS.get(node.name, LONGEST_FUNCTION), node.name


@pytest.mark.parametrize("module", modules(), ids=name_of)
def test_what_others_use_says_what_it_is_for(module: Path) -> None:
    tree = ast.parse(module.read_text())
    assert ast.get_docstring(tree)
    assert [name for name, node in public(tree) if not ast.get_docstring(node)] == []  # type: ignore[arg-type]


def test_modules_and_classes_are_named_for_what_they_are() -> None:
    named = [path for path in PACKAGE.rglob("*") if path.suffix in ("", ".py")]
    assert [path for path in named if path.stem in NAMELESS] == []
    classes = [
        f"{name_of(module)}: {node.name}"
        for module in modules()
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.ClassDef) and node.name.endswith(EMPTY_WORDS)
    ]
    assert classes == []


def test_the_glossary_has_a_line_for_each_word() -> None:
    lines = [line for line in (TOP / "docs" / "glossary.md").read_text().splitlines() if line.startswith("| **")]
    defined = {word for line in lines for word in re.findall(r"\*\*(.+?)\*\*", line)}
    assert set(WORDS) - defined == set()


@pytest.mark.parametrize(
    ("what", "pattern"),
    [
        # written so that this file does not hold what it looks for
        ("a path of somebody's machine", r"(?<![\w.-])/(?:work|root|home|farm|Users)/\w"),
        (
            "an address of a package registry",
            r"\b(?:py[p]i\.org|files\.python[h]osted|registry\.np[m]js|crates\.i[o])\b",
        ),
        ("an index to install from", r"-index-ur[l][= ]\s*[a-z]"),
    ],
    ids=lambda value: value if value.startswith("a") else "",
)
def test_no_file_holds(what: str, pattern: str) -> None:
    found = [f"{path}: {match[0]}" for path, text in texts() if (match := re.search(pattern, text))]
    assert found == [], what
