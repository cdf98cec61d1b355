import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from rtobserver.web import problems
from rtobserver.web.connection import Patience
from rtobserver.web.listener import listening
from rtobserver.web.static import Folder
from tests.web.wire import Reply, exchange, request

PAGE = b"<!doctype html><title>hi</title>"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "site"
    (root / "app").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / ".git").mkdir()
    (root / ".git" / "config").write_text("secret")
    (root / ".env").write_text("secret")
    (root / "index.html").write_bytes(PAGE)
    (root / "app" / "index.html").write_bytes(b"app")
    (root / "app" / "main.js").write_bytes(b"js")
    (root / "a b.txt").write_bytes(b"space")
    (tmp_path / "outside.txt").write_text("secret")
    (root / "out").symlink_to(tmp_path / "outside.txt")
    (root / "up").symlink_to(tmp_path)
    (root / "hidden").symlink_to(root / ".env")
    (root / "alias.js").symlink_to(root / "app" / "main.js")
    (root / "loop").symlink_to(root / "loop")
    return root


@asynccontextmanager
async def serving(root: Path, patience: Patience | None = None) -> AsyncIterator[int]:
    app = web.Application()
    problems.install(app)
    app.router.add_get("/{path:.*}", Folder(str(root)).serve)
    async with listening(app, host="127.0.0.1", port=0, patience=patience) as listener:
        yield listener.port


async def get(root: Path, path: str, method: str = "GET", **headers: str) -> Reply:
    async with serving(root) as port:
        return await exchange(port, request(method, path, **headers))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/", PAGE),
        ("/index.html", PAGE),
        ("/app/", b"app"),
        ("/app/main.js?v=2", b"js"),
        ("/a%20b.txt", b"space"),
        ("/alias.js", b"js"),
    ],
)
async def test_files_of_the_folder_are_served(root: Path, path: str, body: bytes) -> None:
    reply = await get(root, path)
    assert (reply.status, reply.body) == (200, body)
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert "content-security-policy" not in reply.headers
    assert "permissions-policy" not in reply.headers


async def test_a_files_type_is_told(root: Path) -> None:
    assert (await get(root, "/")).headers["content-type"].startswith("text/html")
    assert "javascript" in (await get(root, "/app/main.js")).headers["content-type"]


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/empty/",
        "/empty",
        "/.env",
        "/.git/config",
        "/.git/",
        "/hidden",
        "/out",
        "/up/outside.txt",
        "/up/",
        "/up",
        "/loop",
        "/../outside.txt",
        "/%2e%2e/outside.txt",
        "/app/..%2f..%2foutside.txt",
        "/app/%2e%2e%5c%2e%2e%5coutside.txt",
        "//etc/passwd",
        "/%2fetc/passwd",
        "/app//main.js",
        "/index.html/",
        "/index.html%00.js",
        "/%ff",
        "/" + "x" * 5000,
        "/./.env",
    ],
)
async def test_nothing_else_is_served(root: Path, path: str) -> None:
    reply = await get(root, path)
    assert (reply.status, reply.code) == (404, "not_found")
    assert b"secret" not in reply.raw


async def test_a_folder_without_its_slash_is_sent_to_the_one_with(root: Path) -> None:
    reply = await get(root, "/app")
    assert (reply.status, reply.headers["location"]) == (308, "/app/")


async def test_a_file_that_may_not_be_read_is_not_there(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    assert Folder(str(root)).find("index.html") is None


async def test_a_file_need_not_be_sent_twice(root: Path) -> None:
    first = await get(root, "/")
    again = await get(root, "/", If_None_Match=first.headers["etag"])
    assert (again.status, again.body) == (304, b"")


async def test_parts_and_heads_of_files_are_served(root: Path) -> None:
    assert (await get(root, "/", Range="bytes=0-8")).body == PAGE[:9]
    head = await get(root, "/", "HEAD")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(len(PAGE)))


async def test_a_file_that_is_not_read_to_its_end_is_given_up(root: Path) -> None:
    (root / "large.bin").write_bytes(bytes(50_000_000))
    async with asyncio.timeout(10):
        async with serving(root, Patience(write=0.2, close=60)) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request("GET", "/large.bin"))
            await reader.readexactly(1)
        # The listener has closed, though nobody took the rest of the file.
        with pytest.raises(asyncio.IncompleteReadError):
            await reader.readexactly(50_000_000)
        writer.close()
