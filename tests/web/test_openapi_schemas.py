"""What the document says that a machine which only tries requests does not find out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.web.operator_stage import stage


@pytest.fixture
async def document(tmp_path: Path) -> AsyncIterator[dict[str, Any]]:
    async with stage(tmp_path) as opened:
        found: dict[str, Any] = (await opened.get("/api/v1/openapi.json", key="")).json
        yield found


def test_every_row_of_the_contract_is_there(document: dict[str, Any]) -> None:
    assert {"/livez", "/readyz", "/metrics", "/api/v1/export"} <= document["paths"].keys()
    assert {"200", "503"} <= document["paths"]["/readyz"]["get"]["responses"].keys()
    assert "304" not in document["paths"]["/readyz"]["get"]["responses"]


def test_fields_that_are_always_there_are_required(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    may_be_absent = {
        name: properties
        for name, schema in schemas.items()
        if (properties := schema.get("properties", {}).keys() - set(schema.get("required", ())))
    }
    bodies = {"HangUp", "Tags"}
    assert may_be_absent.keys() - bodies == {"Entry", "TailedEntry"}
    assert may_be_absent["Entry"] == {"payload", "payload_base64"}


@pytest.mark.parametrize("path", ["/api/docs", "/api/docs.css", "/api/v1/openapi.json", "/api/v1/calls"])
def test_whatever_has_an_etag_may_be_304(document: dict[str, Any], path: str) -> None:
    assert "304" in document["paths"][path]["get"]["responses"]


def test_whatever_reads_a_body_may_find_it_too_slow_or_encoded(document: dict[str, Any]) -> None:
    posts = {path: methods["post"] for path, methods in document["paths"].items() if "post" in methods}
    assert all("415" in each["responses"] for each in posts.values())
    assert {path for path, each in posts.items() if "408" in each["responses"]} == {
        path for path, each in posts.items() if "requestBody" in each
    }


@pytest.mark.parametrize("path", ["/api/v1/tail", "/api/v1/calls/{id}/tail"])
def test_a_tail_takes_where_it_stopped_as_a_header(document: dict[str, Any], path: str) -> None:
    headers = [each["name"] for each in document["paths"][path]["get"]["parameters"] if each["in"] == "header"]
    assert headers == ["Last-Event-ID"]


def test_what_is_refused_for_its_form_does_not_fit_the_schemas(document: dict[str, Any]) -> None:
    command = document["paths"]["/api/v1/calls/{id}/commands"]["post"]["requestBody"]
    assert command["required"]
    assert command["content"]["application/json"]["schema"]["required"] == ["type"]
    schemas = document["components"]["schemas"]
    number, text, _ = schemas["HangUp"]["properties"]["after"]["anyOf"]
    assert (number["minimum"], number["maximum"], "pattern" in text) == (0, 60, True)
    assert all("pattern" in schemas["Tags"]["properties"][name]["items"] for name in ("add", "remove"))
    [words] = [each for each in document["paths"]["/api/v1/search"]["get"]["parameters"] if each["name"] == "q"]
    assert words["schema"]["minLength"] == 1
