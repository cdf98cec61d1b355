"""Callers with access tokens, through a whole daemon: who they are stands on their calls, and limits are theirs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from rtobserver.config.sections import Limits, Public
from tests.support.stage import Setting, staged
from tests.web.issuer import issuing, token


def of(user: str, **said: Any) -> dict[str, str]:
    """Give the header with a token that is good for ten minutes."""
    now = int(time.time())
    return {"Authorization": f"Bearer {token(sub=user, iat=now, nbf=now, exp=now + 600, **said)}"}


async def test_a_call_belongs_to_whom_the_token_names(tmp_path: Path) -> None:
    async with issuing() as issuer:
        setting = Setting(public=Public(auth=issuer.auth(label_claims=("tenant",))))
        async with staged(tmp_path, setting) as stage:
            assert (await stage.offer()).status == 401
            call_id = await stage.call(**of("ann", tenant="blue"))
            row = await stage.until(call_id, status="live")
            assert (row["user"], row["labels"]) == ("ann", {"tenant": "blue"})
            assert [found["call_id"] for found in await stage.calls("&user=ann&label.tenant=blue")] == [call_id]
            assert await stage.hang_up(call_id, **of("bob")) == 404
            assert await stage.hang_up(call_id, **of("ann")) == 200
            await stage.ended(call_id, "hung_up")


async def test_a_limit_is_counted_for_each_user_that_tokens_name(tmp_path: Path) -> None:
    async with issuing() as issuer:
        setting = Setting(public=Public(auth=issuer.auth()), limits=Limits(concurrent_calls_per_user=1))
        async with staged(tmp_path, setting) as stage:
            await stage.call(**of("ann"))
            assert (await stage.offer(**of("ann"))).status == 429
            await stage.call(**of("bob"))


async def test_an_issuer_that_is_gone_stops_no_call_and_no_sealed_token(tmp_path: Path) -> None:
    async with issuing() as issuer:
        setting = Setting(public=Public(auth=issuer.auth()))
        async with staged(tmp_path, setting) as stage:
            sealed = await stage.token(**of("ann"))
            issuer.status = 500
            call_id = await stage.call(Authorization=f"Bearer {sealed}")
            assert (await stage.until(call_id, status="live"))["user"] == "ann"
            # its key is known
            await stage.call(**of("ann"))
            assert (await stage.offer(**of("ann", aud="other"))).status == 401
