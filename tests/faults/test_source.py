"""Upstream closes, keeps silent, holds back, refuses (cases A01 to A08, A10, A23 to A25)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from email.utils import formatdate
from pathlib import Path

import pytest
from aiohttp import web

from rtobserver.simulator.faults import EndpointFault, Faults
from tests.faults.acts import attaches, order, place, recovery, secret_hits, settled, still
from tests.faults.ground import Site, record, site, stream
from tests.faults.table import Case
from tests.process.stage import PATIENCE, Daemon
from tests.process.test_killed import further, observed

pytestmark = [pytest.mark.timeout(180)]

PROBING = {"RTOBSERVER_OBSERVER__IDLE_PROBE": "1s"}
IMPATIENT = {"RTOBSERVER_OBSERVER__ATTACH_TIMEOUT": "2s"}
ON_ITS_WAY = 0.5
"""Seconds from the beginning of an attempt to upstream's receipt of it, on a busy machine."""
CAP = "Your session hit the maximum duration of 60 minutes."


@pytest.mark.quarter
@pytest.mark.case("A01")
async def test_a_clean_close_in_the_middle_of_an_answer_is_no_end(case: Case, tmp_path: Path) -> None:
    async with site(tmp_path, scenario=stream(20)) as here, here.serving() as daemon:
        call_ids = await place(daemon, here, 4)
        for _ in range(3):
            for call_id in call_ids:
                await here.simulator.close_sidebands(call_id, 1000)
            await observed(here.simulator, call_ids)
            await further(here.simulator, call_ids, 5)
        for call_id in call_ids:
            assert (await daemon.get(f"/calls/{call_id}"))["status"] == "live"
        await here.end(daemon, call_ids)
        longest = recovery(here, call_ids)
        gaps = [len((await record(daemon, call_id)).gaps) for call_id in call_ids]
        case.show(await here.figures(daemon, call_ids), t_recover_s=longest, gaps=sum(gaps))
        assert longest <= 1
        assert gaps == [4] * len(call_ids)
        await daemon.command.stopped()


@pytest.mark.quarter
@pytest.mark.case("A02")
async def test_a_close_of_any_code_is_a_gap_while_the_call_goes_on(case: Case, tmp_path: Path) -> None:
    codes = (1001, 1006, 1011, 1012, 1013, 4000)
    async with site(tmp_path, scenario=stream(20)) as here, here.serving() as daemon:
        call_ids = await place(daemon, here, len(codes))
        for call_id, code in zip(call_ids, codes, strict=True):
            if code == 1006:
                await here.simulator.drop_sidebands(call_id)
            else:
                await here.simulator.close_sidebands(call_id, code, "for a reason")
        await observed(here.simulator, call_ids)
        await further(here.simulator, call_ids, 5)
        told = {each["call_id"]: each["code"] for each in daemon.command.events("detached")}  # type: ignore[attr-defined]
        await here.end(daemon, call_ids)
        noticed = [told[call_id] for call_id in call_ids]
        case.show(await here.figures(daemon, call_ids), t_recover_s=recovery(here, call_ids), codes=noticed)
        assert noticed == [None if code == 1006 else code for code in codes]
        await daemon.command.stopped()


@pytest.mark.case("A02")
async def test_a_sideband_that_keeps_dying_is_not_hammered(case: Case, tmp_path: Path) -> None:
    async with site(tmp_path, scenario=stream(20)) as here, here.serving() as daemon:
        [call_id] = await place(daemon, here)
        began = time.time()
        while time.time() < began + 30:
            await here.simulator.drop_sidebands(call_id)
            await observed(here.simulator, [call_id])
        tries = [at for at in attaches(here, call_id) if began <= at < began + 30]
        await here.end(daemon, [call_id])
        case.show(await here.figures(daemon, [call_id]), attempts_in_30_s=len(tries))
        assert len(tries) <= 12
        await daemon.command.stopped()


@pytest.mark.quarter
@pytest.mark.case("A02")
async def test_the_words_of_the_cap_end_the_call_without_a_storm(case: Case, tmp_path: Path) -> None:
    async with site(tmp_path, scenario=stream(20)) as here, here.serving() as daemon:
        [call_id] = await place(daemon, here)
        await here.simulator.end_call(call_id, 1001, CAP)
        await daemon.call_with(call_id, status="ended", outcome="expired", completeness="complete")
        tries = len(attaches(here, call_id))
        case.show(await here.figures(daemon, [call_id]), attempts=tries)
        assert tries == 2
        await daemon.command.stopped()


@pytest.mark.case("A04")
async def test_a_connection_that_died_without_a_word_is_found(case: Case, tmp_path: Path) -> None:
    async with site(tmp_path, scenario=stream(10), proxied=True) as here, here.serving() as daemon:
        assert here.proxy is not None
        proxy = here.proxy
        [call_id] = await place(daemon, here, events=20)
        [dead] = [link.head for link in proxy.links if b"call_id" in link.head]
        proxy.concerns = lambda head: head == dead
        proxy.up.swallow = proxy.down.swallow = True
        cut = time.time()
        await here.simulator.until(lambda: len(here.simulator.calls[call_id].sidebands) == 2, 60)
        found = time.time()
        await further(here.simulator, [call_id], 20)
        await here.end(daemon, [call_id])
        figures = await here.figures(daemon, [call_id], cut=[(cut, found)])
        case.show(figures, t_detect_s=round(found - cut, 1))
        assert found - cut <= 45
        await daemon.command.stopped()


@pytest.mark.parametrize(
    "gone", [pytest.param(True, id="gone", marks=pytest.mark.quarter), pytest.param(False, id="alive")]
)
@pytest.mark.case("A05")
async def test_silence_is_probed_and_only_a_404_ends_the_call(case: Case, tmp_path: Path, gone: bool) -> None:
    async with site(tmp_path) as here, here.serving(**PROBING) as daemon:
        [call_id] = await place(daemon, here, events=0)
        began = time.monotonic()
        if gone:
            await here.simulator.end_call(call_id, "none")
            await daemon.call_with(call_id, status="ended", outcome="browser_left")
        else:
            await daemon.until(lambda: len(attaches(here, call_id)) >= 3)
            assert (await daemon.get(f"/calls/{call_id}"))["status"] == "live"
            here.simulator.produce(call_id, {"type": "after.the.silence"})
            await here.end(daemon, [call_id])
        took = time.monotonic() - began
        case.show(
            await here.figures(daemon, [call_id]), t_detect_s=round(took, 2), attaches=len(attaches(here, call_id))
        )
        assert not gone or took < 5
        await daemon.command.stopped()


@pytest.mark.case("A05")
async def test_a_call_that_lasts_too_long_is_hung_up_once(case: Case, tmp_path: Path) -> None:
    async with site(tmp_path, scenario=stream(10)) as here:
        here.configure(profile='max_duration = "2s"')
        async with here.serving() as daemon:
            call_ids = await place(daemon, here, 3)
            for call_id in call_ids:
                await daemon.call_with(call_id, status="ended", outcome="max_duration")
            hang_ups = [here.simulator.calls[call_id].hangups for call_id in call_ids]
            case.show(await here.figures(daemon, call_ids), hang_ups=hang_ups)
            assert hang_ups == [1, 1, 1]
            await daemon.command.stopped()


@pytest.mark.parametrize("refusals", [pytest.param(1, marks=pytest.mark.quarter), 5])
@pytest.mark.case("A06")
async def test_a_call_that_is_not_known_yet_is_attached_to_in_the_end(
    case: Case, tmp_path: Path, refusals: int
) -> None:
    faults = Faults(attach=EndpointFault(status=404, times=refusals))
    async with site(tmp_path, scenario=stream(10), begin="answered", faults=faults) as here, here.serving() as daemon:
        call_ids = await place(daemon, here, 2)
        await here.end(daemon, call_ids)
        tries = [len(attaches(here, call_id)) for call_id in call_ids]
        case.show(await here.figures(daemon, call_ids), attempts=tries)
        assert all(refusals < count <= refusals + 2 for count in tries)
        await daemon.command.stopped()


@pytest.mark.parametrize("policy", ["continue", pytest.param("hang_up", marks=pytest.mark.quarter)])
@pytest.mark.case("A06")
async def test_a_call_that_is_never_known_is_declared_unobserved(case: Case, tmp_path: Path, policy: str) -> None:
    faults = Faults(attach=EndpointFault(status=404))
    async with site(tmp_path, scenario=stream(10), begin="answered", faults=faults) as here:
        here.configure(profile=f'on_unobserved = "{policy}"')
        async with here.serving(**IMPATIENT) as daemon:
            call_id = await daemon.place()
            await daemon.call_with(call_id, status="unobserved", completeness="incomplete")
            await daemon.command.logged("call_unobserved")
            upstream = here.simulator.calls[call_id]
            if policy == "hang_up":
                await here.simulator.until(lambda: upstream.ended is not None, PATIENCE)
            else:
                await here.simulator.end_call(call_id)
            case.show(await here.figures(daemon, [call_id]), hang_ups=upstream.hangups)
            assert upstream.hangups == (policy == "hang_up")
            await daemon.command.stopped()


@asynccontextmanager
async def identity(given: list[str]) -> AsyncIterator[dict[str, str]]:
    """Be the token endpoint of a managed identity; gives the environment that leads to it."""

    async def give(_request: web.Request) -> web.Response:
        given.append(f"canary-token-{len(given) + 1}")
        token = {"access_token": given[-1], "token_type": "Bearer", "expires_on": str(int(time.time()) + 3600)}
        return web.json_response({**token, "resource": "https://cognitiveservices.azure.com"})

    app = web.Application()
    app.router.add_get("/token", give)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/token"
        yield {"IDENTITY_ENDPOINT": url, "IDENTITY_HEADER": "canary-header"}
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    "refusals", [pytest.param(1, id="once", marks=pytest.mark.quarter), pytest.param(0, id="for_ever")]
)
@pytest.mark.case("A07")
async def test_a_token_that_is_refused_is_replaced_once(case: Case, tmp_path: Path, refusals: int) -> None:
    faults = Faults(attach=EndpointFault(status=401, after=1, times=refusals))
    tokens = tuple(f"canary-token-{number}" for number in range(1, 9))
    given: list[str] = []
    async with AsyncExitStack() as stack:
        environ = await stack.enter_async_context(identity(given))
        here = await stack.enter_async_context(site(tmp_path, scenario=stream(10), faults=faults, entra_tokens=tokens))
        here.configure(entra=True)
        daemon = await stack.enter_async_context(here.serving(**environ))
        call_ids = await place(daemon, here, 3)
        for call_id in call_ids:
            await here.simulator.close_sidebands(call_id, 1001)
        if refusals:
            await observed(here.simulator, call_ids)
            await further(here.simulator, call_ids, 5)
            await here.end(daemon, call_ids)
        else:
            for call_id in call_ids:
                await daemon.call_with(call_id, status="lost")
                await here.simulator.end_call(call_id)
        tries = [len(attaches(here, call_id)) for call_id in call_ids]
        hits = secret_hits(tmp_path, "canary-token", "canary-header", "sim-key")
        case.show(await here.figures(daemon, call_ids), attempts=tries, tokens=len(given), secret_hits=hits)
        assert len(given) == 2
        assert max(tries) <= (4 if refusals else 3)
        # the ledger names no credential, nor does anything else
        assert hits == 0
        await daemon.command.stopped()


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        pytest.param("7", 7.0, 10.0, id="seconds"),
        pytest.param("", 0.1, 3.0, id="absent", marks=pytest.mark.quarter),
        pytest.param("soon", 0.1, 3.0, id="garbage"),
        pytest.param("date", 0.0, 0.0, id="date"),
        pytest.param("1000000000", 60.0, 63.0, id="too_long"),
    ],
)
@pytest.mark.case("A08")
async def test_a_wait_that_upstream_asks_for_is_honoured_up_to_a_minute(
    case: Case, tmp_path: Path, header: str, least: float, most: float
) -> None:
    # far enough for a daemon to start on a busy machine
    due = int(time.time()) + 20
    wish = formatdate(due, usegmt=True) if header == "date" else header
    faults = Faults(attach=EndpointFault(status=429, retry_after=wish, times=1))
    async with site(tmp_path, scenario=stream(10), begin="answered", faults=faults) as here, here.serving() as daemon:
        call_id = await daemon.place()
        await here.simulator.until(lambda: bool(here.simulator.calls[call_id].sidebands), 70)
        first, second = attaches(here, call_id)
        if header == "date":
            least, most = max(0.0, due - first), 1.2 * max(0.0, due - first) + 3
        await further(here.simulator, [call_id], 5)
        await here.end(daemon, [call_id])
        case.show(await here.figures(daemon, [call_id]), waited_s=round(second - first, 2), requests=2)
        assert least <= second - first <= most
        await daemon.command.stopped()


@pytest.mark.case("A08")
async def test_what_upstream_asks_of_one_call_holds_for_the_others_and_they_do_not_come_back_as_one(
    case: Case, tmp_path: Path
) -> None:
    wish = 3.0
    # of each call the first attach
    faults = Faults(attach=EndpointFault(status=429, retry_after=f"{wish:g}", times=1))
    async with site(tmp_path, scenario=stream(10), begin="answered", faults=faults) as here, here.serving() as daemon:
        call_ids = [await daemon.place()]
        # whoever calls now can know of it
        await daemon.command.logged("attach_failed")
        call_ids += [await daemon.place() for _ in range(3)]
        await observed(here.simulator, call_ids)
        asked = {call_id: attaches(here, call_id) for call_id in call_ids}
        await further(here.simulator, call_ids, 5)
        await here.end(daemon, call_ids)
        first = asked[call_ids[0]][0]
        every = sorted(at for times in asked.values() for at in times)
        # each first attach of a call is refused, and is a wish for all: the last one before an attempt counts
        refused = sorted(times[0] for times in asked.values())
        waits = [at - wish - max(since for since in refused if since < at) for at in every if at > first]
        taken = sorted(
            round(times[1] - wish - max(at for at in refused if at < times[1]), 2) for times in asked.values()
        )
        # of one that was refused a moment before, an attempt that was on its way did not know
        early = [wait for wait in waits if -wish + ON_ITS_WAY < wait < 0]
        case.show(
            await here.figures(daemon, call_ids), requests=len(every), while_held=len(early), beyond_the_wish_s=taken
        )
        assert early == []
        assert [at for at in every if first < at < first + wish] == []
        assert len(every) == 2 * len(call_ids)
        assert len(set(taken)) > 1
        # a fifth is how far they are spread; the rest is for a machine that has other things to do
        assert taken[-1] <= wish
        await daemon.command.stopped()


@pytest.mark.case("A10")
async def test_a_handshake_that_is_never_answered_holds_nobody_else_up(case: Case, tmp_path: Path) -> None:
    async with site(tmp_path, scenario=stream(10), proxied=True) as here, here.serving() as daemon:
        assert here.proxy is not None
        before = await place(daemon, here, 20, events=2)
        here.proxy.concerns = lambda head: b"GET /" in head[:5]
        here.proxy.up.swallow = True
        silent = await daemon.place()
        await daemon.until(lambda: any(link.head.find(silent.encode()) > 0 for link in here.proxy.links))  # type: ignore[union-attr]
        dead = {link.head for link in here.proxy.picked() if silent.encode() in link.head}
        here.proxy.concerns = lambda head: head in dead
        after = await place(daemon, here, 20, events=2)
        await observed(here.simulator, [silent])
        call_ids = [*before, silent, *after]
        await further(here.simulator, call_ids, 5)
        await here.end(daemon, call_ids)
        calls = {call_id: await daemon.get(f"/calls/{call_id}") for call_id in call_ids}
        latency = {call_id: call["attach_latency_ms"] for call_id, call in calls.items()}
        worst_before, worst_after = max(map(latency.__getitem__, before)), max(map(latency.__getitem__, after))
        case.show(
            await here.figures(daemon, call_ids),
            attach_ms_before=worst_before,
            attach_ms_beside=worst_after,
            attach_ms_of_the_silent=latency[silent],
        )
        assert 9_000 <= latency[silent] <= 16_000
        assert worst_after <= worst_before + 1_000
        await daemon.command.stopped()


@pytest.mark.quarter
@pytest.mark.case("A23")
async def test_where_one_sideband_is_allowed_a_probe_changes_nothing_and_a_gap_is_short(
    case: Case, tmp_path: Path
) -> None:
    async with site(tmp_path, faults=Faults(max_sidebands=1)) as here, here.serving(**PROBING) as daemon:
        [call_id] = await place(daemon, here, events=0)
        await daemon.until(lambda: len(attaches(here, call_id)) >= 3)
        here.simulator.produce(call_id, {"type": "before"})
        await here.simulator.close_sidebands(call_id, 1012)
        await observed(here.simulator, [call_id])
        here.simulator.produce(call_id, {"type": "after"})
        await here.end(daemon, [call_id])
        figures = await here.figures(daemon, [call_id])
        case.show(figures, refused_probes=len(attaches(here, call_id)) - len(here.simulator.calls[call_id].sidebands))
        assert figures.gap_s <= 2
        assert figures.missing == 0
        await daemon.command.stopped()


@pytest.mark.quarter
@pytest.mark.case("A24")
async def test_a_command_that_upstream_refuses_has_failed_and_is_not_sent_again(case: Case, tmp_path: Path) -> None:
    async with site(tmp_path) as here, here.serving() as daemon:
        [call_id] = await place(daemon, here, events=0)
        await daemon.call_with(call_id, status="live")
        given = await order(daemon, call_id, "commands", {"type": "response.cancel"})
        failed = await settled(daemon, given, "failed")
        assert failed["error"] == "response_cancel_not_active"
        await still(1.0, here)
        [command] = (await daemon.get(f"/calls/{call_id}/commands"))["data"]
        sent = len(here.simulator.calls[call_id].client_events)
        await here.end(daemon, [call_id])
        case.show(await here.figures(daemon, [call_id]), cmd_sent=sent, state=command["state"])
        assert (sent, command["state"]) == (1, "failed")
        await daemon.command.stopped()


async def silent_for(seconds: float, case: Case, here: Site, daemon: Daemon) -> None:
    [call_id] = await place(daemon, here, events=0)
    here.simulator.produce(call_id, {"type": "before"})
    await still(seconds, here)
    assert (await daemon.get(f"/calls/{call_id}"))["status"] == "live"
    here.simulator.produce(call_id, {"type": "after"})
    await here.end(daemon, [call_id])
    figures = await here.figures(daemon, [call_id])
    case.show(figures, silent_s=seconds, attaches=len(attaches(here, call_id)))
    assert (figures.missing, figures.gap_s) == (0, 0)
    await daemon.command.stopped()


@pytest.mark.case("A25")
async def test_a_call_that_is_silent_for_ten_times_the_probes_patience_goes_on(case: Case, tmp_path: Path) -> None:
    async with site(tmp_path) as here, here.serving(**PROBING) as daemon:
        await silent_for(10, case, here, daemon)


# --- with the constants that people run with ------------------------------------------------------


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.case("A25")
async def test_a_call_that_is_silent_for_ten_minutes_goes_on(case: Case, tmp_path: Path) -> None:
    async with site(tmp_path) as here, here.serving() as daemon:
        await silent_for(600, case, here, daemon)


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.case("A05")
async def test_a_browser_that_left_without_a_close_is_found_within_75_seconds(case: Case, tmp_path: Path) -> None:
    async with site(tmp_path) as here, here.serving() as daemon:
        [call_id] = await place(daemon, here, events=0)
        began = time.monotonic()
        await here.simulator.end_call(call_id, "none")
        async with asyncio.timeout(100):
            while (await daemon.get(f"/calls/{call_id}"))["status"] != "ended":
                pass
        took = time.monotonic() - began
        case.show(await here.figures(daemon, [call_id]), t_detect_s=round(took, 1))
        assert took <= 75
        await daemon.command.stopped()


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.case("A06")
async def test_a_call_that_cannot_be_observed_is_hung_up_within_35_seconds(case: Case, tmp_path: Path) -> None:
    faults = Faults(attach=EndpointFault(status=404))
    async with site(tmp_path, scenario=stream(10), begin="answered", faults=faults) as here:
        here.configure(profile='on_unobserved = "hang_up"')
        async with here.serving() as daemon:
            began = time.monotonic()
            call_id = await daemon.place()
            await here.simulator.until(lambda: here.simulator.calls[call_id].ended is not None, 60)
            took = time.monotonic() - began
            await daemon.call_with(call_id, status="unobserved")
            case.show(await here.figures(daemon, [call_id]), t_hang_up_s=round(took, 1))
            assert took <= 35
            await daemon.command.stopped()
