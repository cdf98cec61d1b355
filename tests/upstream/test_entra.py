"""The real azure-identity against token endpoints on this machine, each in a process with a clean environment."""

import asyncio
import json
import ssl
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.upstream.raw_peer import answer, peer

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

PROBE = Path(__file__).with_name("entra_probe.py")
TENANT = "11111111-2222-3333-4444-555555555555"
CLIENT = "66666666-7777-8888-9999-000000000000"
CANARY = "canary-client-secret"
RESOURCE = "https://cognitiveservices.azure.com"


@dataclass
class Endpoint:
    """A token endpoint of every kind, which answers with numbered tokens unless told otherwise."""

    url: str = ""
    asked: list[web.Request] = field(default_factory=list)
    forms: list[dict[str, Any]] = field(default_factory=list)
    life: int = 3600
    instead: list[web.Response] = field(default_factory=list)
    stalls: bool = False
    never: asyncio.Event = field(default_factory=asyncio.Event)

    async def give(self, request: web.Request, **more: Any) -> web.Response:
        self.asked.append(request)
        self.forms.append(dict(await request.post()))
        if self.stalls:
            await self.never.wait()
        if self.instead:
            return self.instead.pop(0)
        return web.json_response({"access_token": f"token-{len(self.asked)}", "token_type": "Bearer", **more})

    async def identity(self, request: web.Request) -> web.Response:
        return await self.give(request, expires_on=str(int(time.time()) + self.life), resource=RESOURCE)

    async def machine(self, request: web.Request) -> web.Response:
        ends = {"expires_on": str(int(time.time()) + self.life), "expires_in": str(self.life)}
        return await self.give(request, resource=RESOURCE, **ends)

    async def entra(self, request: web.Request) -> web.Response:
        return await self.give(request, expires_in=self.life, ext_expires_in=self.life)

    async def discovery(self, request: web.Request) -> web.Response:
        authority = f"{self.url}/{TENANT}"
        return web.json_response(
            {
                "token_endpoint": f"{authority}/oauth2/v2.0/token",
                "authorization_endpoint": f"{authority}/oauth2/v2.0/authorize",
                "issuer": f"{authority}/v2.0",
            }
        )


@asynccontextmanager
async def endpoint(tls: ssl.SSLContext | None = None) -> AsyncIterator[Endpoint]:
    made = Endpoint()
    app = web.Application()
    app.router.add_get("/msi/token", made.identity)
    app.router.add_get("/metadata/identity/oauth2/token", made.machine)
    app.router.add_post(f"/{TENANT}/oauth2/v2.0/token", made.entra)
    app.router.add_get(f"/{TENANT}/v2.0/.well-known/openid-configuration", made.discovery)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    made.url = f"{'https' if tls else 'http'}://localhost:{runner.addresses[0][1]}"
    try:
        yield made
    finally:
        made.never.set()
        await runner.cleanup()


class Probe:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def ask(self, command: str) -> Any:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{command}\n".encode())
        await self.process.stdin.drain()
        async with asyncio.timeout(60):
            return json.loads(await self.process.stdout.readline())


@asynccontextmanager
async def probe(timeout: float = 10.0, proxy: str = "", *, environment: dict[str, str]) -> AsyncIterator[Probe]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "error::ResourceWarning",
        str(PROBE),
        str(timeout),
        proxy,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": "", "HOME": "/nonexistent", "LANG": "C.UTF-8"} | environment,
    )
    try:
        yield Probe(process)
    finally:
        if process.stdin is not None:
            process.stdin.close()
        try:
            async with asyncio.timeout(10):
                _, told = await process.communicate()
        except TimeoutError:
            process.kill()
            _, told = await process.communicate()
    assert CANARY.encode() not in told
    assert b"token-" not in told
    assert process.returncode == 0, told.decode()


def app_service(found: Endpoint) -> dict[str, str]:
    return {"IDENTITY_ENDPOINT": f"{found.url}/msi/token", "IDENTITY_HEADER": "identity-header"}


def service_principal(found: Endpoint, root: Path) -> dict[str, str]:
    return {
        "AZURE_AUTHORITY_HOST": found.url,
        "AZURE_TENANT_ID": TENANT,
        "AZURE_CLIENT_ID": CLIENT,
        "SSL_CERT_FILE": str(root),
    }


async def test_a_managed_identity_is_asked_once_by_many_and_again_when_upstream_refuses() -> None:
    async with endpoint() as found, probe(environment=app_service(found) | {"AZURE_CLIENT_ID": CLIENT}) as entra:
        assert await entra.ask("storm 20") == ["Bearer token-1"]
        assert await entra.ask("headers") == "Bearer token-1"
        assert len(found.asked) == 1
        await entra.ask("refresh")
        assert await entra.ask("storm 20") == ["Bearer token-2"]
        await entra.ask("refresh")
        assert await entra.ask("headers") == "Bearer token-2"
        await entra.ask("advance 61")
        await entra.ask("refresh")
        assert await entra.ask("headers") == "Bearer token-3"

    assert len(found.asked) == 3
    assert found.asked[0].headers["X-IDENTITY-HEADER"] == "identity-header"
    assert found.asked[0].query["resource"] == RESOURCE
    assert found.asked[0].query["client_id"] == CLIENT


async def test_a_token_that_ends_is_replaced() -> None:
    async with endpoint() as found, probe(environment=app_service(found)) as entra:
        found.life = 3
        assert await entra.ask("headers") == "Bearer token-1"
        # The library gives its own token until its end, so that real time has to pass.
        async with asyncio.timeout(20):
            while await entra.ask("headers") == "Bearer token-1":
                pass

    assert len(found.asked) == 2


async def test_a_refused_token_is_kept_while_there_is_no_other() -> None:
    async with endpoint() as found, probe(3, environment=app_service(found)) as entra:
        assert await entra.ask("headers") == "Bearer token-1"
        found.stalls = True
        await entra.ask("refresh")
        assert await entra.ask("headers") == "Bearer token-1"
        await entra.ask("advance 3600")
        assert "CredentialError" in await entra.ask("headers")
        found.stalls = False
        assert str(await entra.ask("headers")).startswith("Bearer token-")


@pytest.mark.parametrize("status", [400, 401, 403, 429, 500])
async def test_a_token_endpoint_that_fails_is_an_error_until_it_recovers(status: int) -> None:
    async with endpoint() as found, probe(3, environment=app_service(found)) as entra:
        body = json.dumps({"error": "unauthorized", "error_description": CANARY})
        found.instead = [web.Response(status=status, text=body, content_type="application/json") for _ in range(30)]

        told = await entra.ask("storm 5")

        assert len(told) == 1
        assert told[0].startswith("CredentialError: no token for https://cognitiveservices.azure.com/.default")
        assert CANARY not in told[0]
        found.instead = []
        assert str(await entra.ask("headers")).startswith("Bearer token-")


@pytest.mark.parametrize("body", ["", "<html>", "[]", "{}", '{"access_token":"canary-client-secret"}'])
async def test_an_answer_that_is_no_token_is_an_error(body: str) -> None:
    async with endpoint() as found, probe(3.0, environment=app_service(found)) as entra:
        found.instead = [web.Response(text=body, content_type="application/json") for _ in range(30)]

        told = await entra.ask("headers")

    assert told.startswith("CredentialError")
    assert CANARY not in told


async def test_a_slow_token_endpoint_is_given_up() -> None:
    async with endpoint() as found, probe(3, environment=app_service(found)) as entra:
        found.stalls = True

        assert await entra.ask("headers") == (
            "CredentialError: no token for https://cognitiveservices.azure.com/.default within 3 s"
        )


async def test_a_virtual_machine_asks_its_metadata() -> None:
    async with endpoint() as found, probe(environment={"AZURE_POD_IDENTITY_AUTHORITY_HOST": found.url}) as entra:
        assert str(await entra.ask("headers")).startswith("Bearer token-")

    assert found.asked[-1].path == "/metadata/identity/oauth2/token"
    assert found.asked[-1].headers["Metadata"] == "true"


async def test_a_workload_shows_its_federated_token(authority: tuple[ssl.SSLContext, Path], tmp_path: Path) -> None:
    tls, root = authority
    (tmp_path / "federated").write_text("federated-assertion")
    async with endpoint(tls) as found:
        environment = service_principal(found, root) | {"AZURE_FEDERATED_TOKEN_FILE": str(tmp_path / "federated")}
        async with probe(environment=environment) as entra:
            assert await entra.ask("headers") == "Bearer token-1"

    assert found.forms[0]["client_assertion"] == "federated-assertion"
    assert found.forms[0]["scope"] == "https://cognitiveservices.azure.com/.default"


async def test_a_service_principal_shows_its_secret_to_entra_only(authority: tuple[ssl.SSLContext, Path]) -> None:
    tls, root = authority
    async with (
        endpoint(tls) as found,
        probe(environment=service_principal(found, root) | {"AZURE_CLIENT_SECRET": CANARY}) as entra,
    ):
        assert await entra.ask("storm 10") == ["Bearer token-1"]
        assert found.forms == [found.forms[0] | {"client_secret": CANARY, "client_id": CLIENT}]
        await entra.ask("advance 4000")
        body = {"error": "invalid_client", "error_description": f"AADSTS7000215: Invalid client secret {CANARY}."}
        found.instead = [web.json_response(body, status=401)] * 5
        await entra.ask("refresh")
        told = await entra.ask("headers")

    assert "AADSTS7000215" in told
    assert CANARY not in told


async def test_an_authority_that_is_not_trusted_gets_nothing(authority: tuple[ssl.SSLContext, Path]) -> None:
    tls, _ = authority
    async with endpoint(tls) as found:
        environment = service_principal(found, Path()) | {"AZURE_CLIENT_SECRET": CANARY}
        del environment["SSL_CERT_FILE"]
        async with probe(3.0, environment=environment) as entra:
            assert str(await entra.ask("headers")).startswith("CredentialError")
        assert found.asked == []


async def test_without_any_identity_there_is_a_clear_error() -> None:
    async with peer() as gone:
        metadata = gone.url
    async with probe(environment={"AZURE_POD_IDENTITY_AUTHORITY_HOST": metadata}) as entra:
        told = await entra.ask("headers")

    assert told.startswith("CredentialError: no token for https://cognitiveservices.azure.com/.default")
    assert "EnvironmentCredential" in told
    assert "ManagedIdentityCredential" in told


async def test_the_chain_is_narrowed_by_the_librarys_own_variable(authority: tuple[ssl.SSLContext, Path]) -> None:
    tls, root = authority
    async with endpoint() as managed, endpoint(tls) as entra_endpoint:
        both = service_principal(entra_endpoint, root) | {"AZURE_CLIENT_SECRET": CANARY} | app_service(managed)
        async with probe(environment=both) as entra:
            await entra.ask("headers")
        assert (len(managed.asked), len(entra_endpoint.asked)) == (0, 1)
        async with probe(environment=both | {"AZURE_TOKEN_CREDENTIALS": "ManagedIdentityCredential"}) as entra:
            await entra.ask("headers")
        assert (len(managed.asked), len(entra_endpoint.asked)) == (1, 1)
        async with probe(environment=both | {"AZURE_TOKEN_CREDENTIALS": "nonsense"}) as entra:
            assert "CredentialError" in await entra.ask("headers")


async def test_proxies_of_the_environment_are_not_used(authority: tuple[ssl.SSLContext, Path]) -> None:
    tls, root = authority
    async with peer() as proxy, endpoint() as managed, endpoint(tls) as entra_endpoint:
        address = f"http://127.0.0.1:{proxy.port}"
        through = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"), address)
        async with probe(environment=app_service(managed) | through) as entra:
            assert await entra.ask("headers") == "Bearer token-1"
        principal = service_principal(entra_endpoint, root) | {"AZURE_CLIENT_SECRET": CANARY}
        async with probe(environment=principal | through) as entra:
            assert await entra.ask("headers") == "Bearer token-1"
        assert proxy.opened == 0


async def test_a_configured_proxy_is_used_for_entra_and_not_for_this_machines_own_identity(
    authority: tuple[ssl.SSLContext, Path],
) -> None:
    tls, root = authority
    async with peer() as proxy, endpoint() as managed, endpoint(tls) as entra_endpoint:
        address = f"http://127.0.0.1:{proxy.port}"
        async with probe(10.0, address, environment=app_service(managed)) as entra:
            assert await entra.ask("headers") == "Bearer token-1"
        assert proxy.opened == 0
        proxy.will(*[answer(502)] * 30)
        principal = service_principal(entra_endpoint, root) | {"AZURE_CLIENT_SECRET": CANARY}
        async with probe(2.0, address, environment=principal) as entra:
            assert "CredentialError" in await entra.ask("headers")
        assert proxy.asked[0].line.startswith("CONNECT localhost:")
        assert entra_endpoint.asked == []
