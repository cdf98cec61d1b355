"""Who has signed in stays so over a restart of the daemon, and with no other database."""

from __future__ import annotations

from pathlib import Path

from tests.support.stage import Stage, staged

# the port is part of what a cookie is for, and a daemon of a test has another one each time
SEEN_AS = "localhost:8081"


async def sign_in(stage: Stage) -> str:
    form = {"key": stage.key, "next": "/"}
    headers = {"Host": SEEN_AS, "Origin": f"http://{SEEN_AS}"}
    url = f"{stage.daemon.operator_url}/login"
    async with stage.http.post(url, data=form, headers=headers, allow_redirects=False) as answer:
        assert answer.status == 303
        return str(answer.headers["Set-Cookie"]).partition(";")[0]


async def read(stage: Stage, cookie: str) -> int:
    url = f"{stage.daemon.operator_url}/api/v1/calls"
    async with stage.http.get(url, headers={"Host": SEEN_AS, "Cookie": cookie}) as answer:
        return answer.status


async def test_a_cookie_is_good_after_a_restart_and_nowhere_else(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        cookie = await sign_in(stage)
        assert await read(stage, cookie) == 200
    async with staged(tmp_path) as stage:
        assert await read(stage, cookie) == 200
        # the same key in it, since tests share one; but not the secret that seals cookies
        (tmp_path / "other").mkdir()
        async with staged(tmp_path / "other") as other:
            assert other.key == stage.key
            assert await read(other, cookie) == 401
