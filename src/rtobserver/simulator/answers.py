"""HTTP answers with the headers of each vendor, in the recordings' names and order."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable

from aiohttp import web
from multidict import CIMultiDict

from rtobserver.simulator.beats import Json
from rtobserver.simulator.ids import Provider

_TLS_ONLY = "max-age=31536000; includeSubDomains; preload"


class Answers:
    """Write the HTTP answers of one vendor."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def minted(self, body: Json) -> web.Response:
        """Answer `client_secrets`."""
        return self.respond(200, _compact(body), [("content-type", "application/json")], milliseconds=40)

    def negotiated(self, status: int, body: bytes, content_type: str, locations: Iterable[str]) -> web.Response:
        """Answer an offer."""
        headers = [("access-control-allow-origin", "*")]
        if self._provider == "openai":
            headers += [
                ("access-control-expose-headers", "Location, X-Request-Id"),
                ("access-control-expose-headers", "CF-Ray"),
                ("alt-svc", 'h3=":443"; ma=86400'),
                ("connection", "keep-alive"),
            ]
        else:
            headers.append(("access-control-expose-headers", "Location,X-Request-Id"))
        headers += [("content-type", content_type), *(("location", location) for location in locations)]
        headers.append(("timing-allow-origin", "*"))
        return self.respond(status, body, headers, milliseconds=102 if self._provider == "azure" else None)

    def done(self) -> web.Response:
        """Answer 200 with nothing, as `hangup` does."""
        return self.respond(200, b"", [], milliseconds=12)

    def refused(self, status: int, code: str, message: str, *, param: str | None = None,
                retry_after: str = "") -> web.Response:  # fmt: skip
        """Answer an error in the API's shape."""
        kind = "server_error" if status >= 500 else "invalid_request_error"
        error = {"message": message, "type": kind, "param": param, "code": code}
        headers = [("access-control-allow-origin", "*"), ("content-type", "application/json")]
        headers += [("retry-after", retry_after)] if retry_after else []
        return self.respond(status, _compact({"error": error}), headers)

    def turned_away(self, status: int, code: str, message: str) -> web.Response:
        """Answer an error of Azure's gateway, which has a shape of its own."""
        body = _compact({"error": {"code": code, "message": message}})
        return self.respond(status, body, [("content-type", "application/json")])

    def unauthorized(self, presented: str) -> web.Response:
        """Answer 401; like upstream, this shows parts of what was presented."""
        shown = f"{presented[:7]}***{presented[-4:]}"
        if self._provider == "openai":
            if not presented:
                return self.refused(401, "missing_api_key", "You did not provide an API key.")
            return self.refused(401, "invalid_api_key", f"Incorrect API key provided: {shown}.")
        if not presented:
            return self.turned_away(401, "Unauthorized", "The access token is missing, invalid or expired.")
        return self.turned_away(401, "401", f"Access denied: {shown} is not a key or token of this resource.")

    def no_such_model(self) -> web.Response:
        """Answer that the deployment, or the model, does not exist."""
        if self._provider == "openai":
            return self.refused(400, "invalid_model", "The requested model does not exist.", param="session.model")
        return self.turned_away(404, "DeploymentNotFound", "The API deployment for this resource does not exist.")

    def preflight(self, wanted: str) -> web.Response:
        """Answer a browser's OPTIONS."""
        headers = [
            ("access-control-allow-headers", wanted or "authorization, content-type"),
            ("access-control-allow-methods", "GET, OPTIONS, POST"),
            ("access-control-allow-origin", "*"),
            ("access-control-max-age", "86400"),
        ]
        return self.respond(204, b"", headers)

    def respond(
        self, status: int, body: bytes, headers: list[tuple[str, str]], *, milliseconds: int | None = None
    ) -> web.Response:
        """Answer with these headers and those that the vendor adds to all, in the order of their names."""
        headers = [*headers, *self._common(milliseconds)]
        if status != 204:
            headers.append(("content-length", str(len(body))))
        # Python's sort is stable: repeated names keep their order.
        ordered = CIMultiDict(sorted(headers, key=lambda pair: pair[0]))
        return web.Response(status=status, body=body, headers=ordered)

    def _common(self, milliseconds: int | None) -> list[tuple[str, str]]:
        timing = [] if milliseconds is None else [("openai-processing-ms", str(milliseconds))]
        if self._provider == "openai":
            return [*timing, ("strict-transport-security", _TLS_ONLY)]
        version = [("openai-version", "2020-10-01")] if timing else []
        return [
            ("apim-request-id", str(uuid.uuid4())),
            ("azureml-served-by-cluster", "hyena-simulated-01"),
            *timing,
            *version,
            ("strict-transport-security", _TLS_ONLY),
        ]


def _compact(body: Json) -> bytes:
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
