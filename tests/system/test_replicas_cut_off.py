"""Two daemons on one PostgreSQL whose database goes away, or takes one of them for dead, in the middle of something."""

from __future__ import annotations

from pathlib import Path

import pytest

from rtobserver.errors import StoreUnavailable
from rtobserver.store.identity import CallRef
from rtobserver.store.leases import Claim, Leases
from tests.system.test_replicas import pair

pytestmark = pytest.mark.timeout(120)


async def test_a_hand_over_in_which_the_database_goes_away_ends_nothing_and_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pair(tmp_path) as them:
        a, b = await them.start("a"), await them.start("b")
        calls = [await a.call(), await a.call()]
        for call_id in calls:
            await b.until(call_id, status="live")
        attached, cut = Leases.attached, set[str]()

        async def cut_off(self: Leases, call: CallRef, at: int) -> None:
            if call.call_id in calls[:1]:
                cut.add(call.call_id)
                raise StoreUnavailable("the connection to the database was lost")
            await attached(self, call, at)

        monkeypatch.setattr(Leases, "attached", cut_off)
        await them.stop("a")
        assert cut == set(calls[:1])
        for call_id in calls:
            them.simulator.produce(call_id, {"type": "talk", "event_id": "event_last"})
        for call_id in calls:
            await b.until_stored(call_id, lambda found: any(e.fields["event_id"] == "event_last" for e in found))
            assert [each.payload for each in await b.entries(call_id) if each.kind == "event"] == b.produced(call_id)
        assert b.daemon._supervisor.count == 2


async def test_what_was_claimed_under_an_id_that_others_fenced_meanwhile_is_not_taken_up(tmp_path: Path) -> None:
    async with pair(tmp_path) as them:
        a, b = await them.start("a"), await them.start("b")
        call_id = await a.call()
        await b.until(call_id, status="live")
        [(key, day, epoch)] = a.select("SELECT call_key, day, epoch FROM lease")
        ref = CallRef(call_id, day, key)
        ref.epoch = epoch + 1
        observed = b.daemon._supervisor
        observed.take_over(Claim(ref=ref, owner="rep_before", previous="rep_other", registration={}))
        await b.simulator.until(lambda: not observed.knows(call_id))
        assert observed.refs() == []
        call = them.simulator.calls[call_id]
        await b.simulator.until(lambda: len(call.open_sidebands) == 1)
