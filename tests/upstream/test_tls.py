import asyncio
import json
import ssl
import sys
from pathlib import Path

import pytest
from aiohttp import web
from websockets.asyncio.server import ServerConnection, serve

pytestmark = pytest.mark.process

PROBE = Path(__file__).with_name("tls_probe.py")


async def probed(loop: str, authority: tuple[ssl.SSLContext, Path], *, trusted: bool) -> tuple[list[str], list[str]]:
    """Give what the probe said, and the connections and requests that reached the other side."""
    tls, root = authority
    reached: list[str] = []

    async def mint(request: web.Request) -> web.Response:
        assert request.transport is not None
        reached.append(f"mint from {request.transport.get_extra_info('peername')[1]}")
        return web.json_response({"value": "ek_tls", "expires_at": 1795400060, "session": {}})

    async def stay(socket: ServerConnection) -> None:
        reached.append("attach")
        await socket.send("hello")
        await socket.wait_closed()

    app = web.Application()
    app.router.add_post("/openai/v1/realtime/client_secrets", mint)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    async with serve(stay, "127.0.0.1", 0, ssl=tls) as server:
        sockets = next(iter(server.sockets)).getsockname()[1]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-W",
            "error::ResourceWarning",
            str(PROBE),
            loop,
            f"https://localhost:{runner.addresses[0][1]}/openai/v1",
            f"https://localhost:{sockets}/openai/v1",
            stdout=asyncio.subprocess.PIPE,
            env={"PATH": ""} | ({"SSL_CERT_FILE": str(root)} if trusted else {}),
        )
        async with asyncio.timeout(40):
            out, _ = await process.communicate()
    await runner.cleanup()
    return json.loads(out), reached


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_requests_and_sidebands_go_over_tls_on_either_loop(
    loop: str, authority: tuple[ssl.SSLContext, Path]
) -> None:
    told, reached = await probed(loop, authority, trusted=True)

    assert told == ["ek_tls", "ek_tls", "hello"]
    assert reached[2] == "attach"
    assert reached[0] == reached[1]


async def test_a_server_that_is_not_trusted_gets_no_request(authority: tuple[ssl.SSLContext, Path]) -> None:
    told, reached = await probed("asyncio", authority, trusted=False)

    assert reached == []
    assert told[0] == told[1]
    assert "ClientConnectorCertificateError" in told[0]
    assert "SSLCertVerificationError" in told[2]
