from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rtobserver.store import tables
from tests.store.stored import call
from tests.web.operator_stage import Stage, stage
from tests.web.test_api_export import record

SCHEMATHESIS = Path(sys.executable).parent / "schemathesis"
EXAMPLES = 40
# a tail has no end that a client could wait for; tests/web/test_api_tail.py has what it answers
ENDLESS = "tail$"
# whether a cursor was given out, or one time lies before another, is more than a schema can say
BEYOND_SCHEMAS = "positive_data_acceptance"


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Stage]:
    async with stage(tmp_path) as opened:
        yield opened


async def document(api: Stage) -> dict[str, Any]:
    answer = await api.get("/api/v1/openapi.json", key="")
    assert answer.status == 200
    found: dict[str, Any] = answer.json
    return found


@pytest.mark.timeout(300)
async def test_the_server_does_what_its_document_says_and_never_fails(api: Stage, tmp_path: Path) -> None:
    for number in range(3):
        record(api.path, number)
    api.insert(tables.call, call("rtc_live"))
    process = await asyncio.create_subprocess_exec(
        SCHEMATHESIS,
        "run",
        f"{api.url}/api/v1/openapi.json",
        *("--header", f"Authorization: Bearer {api.make_key('admin')}"),
        *("--seed", "1"),
        *("--max-examples", str(EXAMPLES)),
        *("--exclude-path-regex", ENDLESS),
        *("--exclude-checks", BEYOND_SCHEMAS),
        *("--generation-database", "none"),
        *("--request-timeout", "20"),
        *("--suppress-health-check", "too_slow"),
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    operations = re.search(r"Tested: +(\d+)", said.decode())
    assert operations is not None, said.decode()
    paths = (await document(api))["paths"]
    # it reads the document itself and asks no more for it
    del paths["/api/v1/openapi.json"]
    assert int(operations[1]) == sum(len(methods) for path, methods in paths.items() if not re.search(ENDLESS, path))


async def test_the_description_is_written_once_and_not_before_somebody_asks(
    api: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[object] = []
    schema_components = msgspec.json.schema_components

    def counted(*words: Any, **named: Any) -> Any:
        written.append(words)
        return schema_components(*words, **named)

    monkeypatch.setattr(msgspec.json, "schema_components", counted)
    await api.get("/api/v1/calls")
    assert not written
    assert len({answer.body for answer in await asyncio.gather(*[api.get("/api/docs", key="") for _ in range(3)])}) == 1
    await document(api)
    assert len(written) == 1


async def test_every_route_says_who_may_use_it_and_what_it_answers(api: Stage) -> None:
    found = await document(api)
    assert found["openapi"].startswith("3.1")
    names = [operation["operationId"] for methods in found["paths"].values() for operation in methods.values()]
    assert len(names) == len(set(names))
    for path, methods in found["paths"].items():
        for method, operation in methods.items():
            where = f"{method} {path}"
            assert operation["summary"].endswith("."), where
            assert all(each["description"].endswith(".") for each in operation["parameters"]), where
            answers = operation["responses"]
            assert any(status.startswith("2") for status in answers), where
            assert {"400", "403", "421"} <= answers.keys(), where
            if path.endswith(("openapi.json", "docs", "docs.css", "livez", "readyz")):
                assert operation["security"] == [], where
            else:
                assert {"401", "503"} <= answers.keys(), where
                assert operation["security"][0]["key"][0] == scope_of(method, path), where


def scope_of(method: str, path: str) -> str:
    """Say what the design asks for."""
    match method:
        case "post":
            return "control"
        case "delete":
            return "erase"
    own = {"/api/v1/export": "export", "/metrics": "metrics", "/api/v1/audit": "admin", "/api/v1/keys": "admin"}
    return own.get(path, "read")


async def test_every_reference_is_to_a_schema_that_is_there(api: Stage) -> None:
    found = await document(api)
    names = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(found)))
    assert names <= found["components"]["schemas"].keys()
    assert {"Call", "Entry", "Gap", "Command", "ProblemDocument"} <= names


@pytest.mark.parametrize("path", ["/api/v1/openapi.json", "/api/docs", "/api/docs.css"])
async def test_the_description_needs_no_key_but_the_right_host_and_origin(api: Stage, path: str) -> None:
    assert (await api.get(path, key="")).status == 200
    assert (await api.get(path, key="", Host="evil.example")).status == 421
    assert (await api.get(path, key="", Origin="https://evil.example")).status == 403
    assert (await api.get(f"{path}?x=1", key="")).status == 400


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


async def test_the_page_for_people_runs_nothing_and_loads_nothing_from_elsewhere(api: Stage) -> None:
    answer = await api.get("/api/docs", key="")
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'self';")
    assert "unsafe" not in policy
    page = Page(answer.body.decode())
    assert not {"script", "iframe", "object", "style", "img", "form"} & {tag for tag, _ in page.tags}
    links = [attrs.get("href") or attrs.get("src") for _, attrs in page.tags if {"href", "src"} & attrs.keys()]
    assert all(link and (link.startswith("#") or link in {"docs.css", "v1/openapi.json"}) for link in links)
    assert not any(name.startswith("on") or name == "style" for _, attrs in page.tags for name in attrs)
    operations = [operation for methods in (await document(api))["paths"].values() for operation in methods.values()]
    assert {operation["operationId"] for operation in operations} <= {attrs.get("id") for _, attrs in page.tags}
