"""Signing in with a key, and what the cookie is good for that one gets for it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from http.cookies import SimpleCookie
from pathlib import Path
from urllib.parse import quote, urlencode, urljoin, urlsplit

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from rtobserver.config.sections import Operator
from rtobserver.store import keys, tables
from rtobserver.web import bearer
from rtobserver.web.cookies import LASTS_SECONDS
from rtobserver.web.pages.login import FORM, FORM_CAP, own_path
from tests.store.stored import call
from tests.support.watch import Watch
from tests.web.event_stream import Stream
from tests.web.operator_stage import Answer, Stage, stage

HTML = "text/html,application/xhtml+xml"
HOUR_US = 3_600_000_000


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Stage]:
    async with stage(tmp_path) as opened:
        opened.insert(tables.call, call("rtc_1"))
        yield opened


async def post_login(api: Stage, key: str, wanted: str = "/", **headers: str) -> Answer:
    sent = {"Origin": api.url, "Content_Type": FORM} | headers
    return await api.send("POST", "/login", urlencode({"key": key, "next": wanted}).encode(), **sent)


def audited(api: Stage, *actions: str) -> list[tuple[str, str, str, int, int]]:
    column = tables.audit.c
    found = sa.select(column.action, column.object, column.actor, column.status, column.count)
    return api.select(found.where(column.action.in_(actions)).order_by(column.audit_id))


async def test_a_key_is_changed_into_a_cookie_that_opens_pages_and_the_api(api: Stage) -> None:
    cookie = await api.sign_in()
    for path in ("/", "/api/v1/calls", "/api/v1/calls/rtc_1"):
        assert (await api.send("GET", path)).status in (303, 401)
        assert (await api.send("GET", path, Cookie=cookie)).status in (200, 303)
    assert b"rtc_1" in (await api.send("GET", "/api/v1/calls", Cookie=cookie)).body


async def test_the_cookie_is_for_this_port_only_and_out_of_reach_for_scripts(api: Stage) -> None:
    answer = await post_login(api, f" {api.key}\n")
    parsed: SimpleCookie = SimpleCookie(answer.headers["Set-Cookie"])
    [(name, cookie)] = parsed.items()
    assert name == f"rtobserver_{urlsplit(api.url).port}"
    assert cookie["httponly"] is True
    assert not cookie["secure"]
    assert (cookie["samesite"], cookie["path"], cookie["max-age"], cookie["domain"]) == ("Strict", "/", "43200", "")
    assert api.key not in answer.headers["Set-Cookie"]
    assert api.key.split("_")[1] not in answer.headers["Set-Cookie"]


async def test_behind_https_the_cookie_is_secure(tmp_path: Path) -> None:
    section = Operator(base_url="https://calls.example")
    async with stage(tmp_path, section=section) as api:
        answer = await post_login(api, api.key, Host="calls.example", Origin="https://calls.example")
        assert answer.status == 303
        assert re.match(r"rtobserver_443=.*; Secure", answer.headers["Set-Cookie"])
        cookie = answer.headers["Set-Cookie"].partition(";")[0]
        found = await api.send("GET", "/api/v1/calls", Cookie=cookie, Host="calls.example")
        assert found.status == 200
        assert (await api.send("GET", "/api/v1/calls", Cookie=cookie)).status == 401


async def test_who_comes_past_the_proxy_by_a_tunnel_can_sign_in_as_well(tmp_path: Path) -> None:
    async with stage(tmp_path, section=Operator(base_url="https://calls.example")) as api:
        cookie = await api.sign_in()
        assert (await api.send("GET", "/api/v1/calls", Cookie=cookie)).status == 200
        other = api.url.replace("127.0.0.1", "localhost")
        answer = await post_login(api, api.key, Origin=other)
        assert (answer.status, answer.headers.get("Set-Cookie")) == (403, None)
        answer = await post_login(api, api.key, Host="calls.example", Origin=api.url)
        assert (answer.status, answer.headers.get("Set-Cookie")) == (403, None)


async def test_signing_out_takes_the_cookie_away(api: Stage) -> None:
    cookie = await api.sign_in()
    answer = await api.send("POST", "/logout", Cookie=cookie, Origin=api.url)
    assert (answer.status, answer.headers["Location"]) == (303, "/login")
    assert "Max-Age=0" in answer.headers["Set-Cookie"]
    assert answer.headers["Set-Cookie"].startswith(cookie.partition("=")[0] + "=")
    assert audited(api, "logout") == [("logout", "", api.key.split("_")[1], 200, 1)]


async def test_signing_out_is_for_our_own_pages(api: Stage) -> None:
    cookie = await api.sign_in()
    for headers in ({}, {"Origin": "null"}, {"Origin": "http://127.0.0.1:1"}):
        answer = await api.send("POST", "/logout", Cookie=cookie, **headers)
        assert answer.status == 403
        assert "Set-Cookie" not in answer.headers


async def test_a_cookie_lasts_half_a_day(api: Stage) -> None:
    cookie = await api.sign_in()
    api.clock.ahead = LASTS_SECONDS - 5.0
    assert (await api.send("GET", "/api/v1/calls", Cookie=cookie)).status == 200
    api.clock.ahead = LASTS_SECONDS + 1.0
    assert (await api.send("GET", "/api/v1/calls", Cookie=cookie)).status == 401
    assert (await api.send("GET", "/", Cookie=cookie)).headers["Location"] == "/login?next=%2F"


async def test_a_revoked_or_expired_key_takes_its_cookies_along(api: Stage) -> None:
    revoked = api.make_key("read")
    expiring = api.make_key("read", expires_at=api.clock.now_us() + HOUR_US)
    cookies = [await api.sign_in(revoked), await api.sign_in(expiring)]
    keys.revoke(api.path, revoked.split("_")[1], now_us=api.clock.now_us())
    api.clock.ahead = 3601.0
    for cookie in cookies:
        assert (await api.send("GET", "/api/v1/calls", Cookie=cookie)).code == "no_key"
        assert (await api.send("GET", "/", Cookie=cookie)).status == 303


async def test_the_cookie_can_do_what_the_key_can_and_no_more(api: Stage) -> None:
    cookie = await api.sign_in(api.make_key("metrics"))
    answer = await api.send("GET", "/api/v1/calls", Cookie=cookie)
    assert (answer.status, answer.code) == (403, "scope_missing")
    assert (await api.send("GET", "/", Cookie=cookie)).status == 403


async def test_figures_for_machines_take_no_cookie(api: Stage) -> None:
    assert (await api.send("GET", "/metrics", Cookie=await api.sign_in(api.make_key("metrics")))).status == 401


async def test_an_authorization_header_counts_before_the_cookie(api: Stage) -> None:
    cookie = await api.sign_in()
    assert (await api.send("GET", "/api/v1/calls", Cookie=cookie, Authorization="Bearer rto_wrong")).status == 401
    assert (await api.send("GET", "/api/v1/calls", Cookie=cookie, Authorization="")).status == 401
    other = f"Bearer {api.make_key('metrics')}"
    assert (await api.send("GET", "/api/v1/calls", Cookie=cookie, Authorization=other)).status == 403


async def test_the_cookie_of_one_daemon_is_nothing_to_another_on_the_same_host(api: Stage, tmp_path: Path) -> None:
    cookie = await api.sign_in()
    (tmp_path / "other").mkdir()
    # of the same key for cookies, as two replicas have it
    async with stage(tmp_path / "other") as other:
        both = f"{cookie}; {await other.sign_in()}"
        assert (await api.send("GET", "/api/v1/calls", Cookie=both)).status == 200
        assert (await other.send("GET", "/api/v1/calls", Cookie=both)).status == 200
        name = f"rtobserver_{urlsplit(other.url).port}"
        renamed = f"{name}={cookie.partition('=')[2]}"
        assert (await other.send("GET", "/api/v1/calls", Cookie=renamed)).status == 401


async def test_a_cookie_that_was_tampered_with_is_none(api: Stage) -> None:
    name, _, value = (await api.sign_in()).partition("=")
    for number in range(len(value)):
        other = "A" if value[number] != "A" else "B"
        changed = f"{name}={value[:number]}{other}{value[number + 1 :]}"
        assert (await api.send("GET", "/api/v1/calls", Cookie=changed)).status == 401, number
    for wrong in ("", "=", "A" * 5000, value[:-8], value + "AAAA", '"' + value, "%00"):
        assert (await api.send("GET", "/api/v1/calls", Cookie=f"{name}={wrong}")).status == 401


async def test_a_key_in_an_address_signs_nobody_in(api: Stage) -> None:
    for path in (f"/?key={api.key}", f"/login?key={api.key}", f"/api/v1/calls?key={api.key}"):
        answer = await api.send("GET", path, Accept=HTML)
        assert "Set-Cookie" not in answer.headers
        assert answer.status != 200
    # a form that is sent by GET would put the key into the address
    assert b'method="post"' in (await api.send("GET", "/login")).body


async def test_whoever_fails_to_sign_in_is_audited_and_then_only_counted(api: Stage) -> None:
    for _ in range(bearer.REFUSALS_PER_MINUTE + 5):
        answer = await post_login(api, "rto_wrong")
        assert answer.status == 401
        assert b"This key is not good" in answer.body
        assert "Set-Cookie" not in answer.headers
    assert audited(api, "refused") == [("refused", "/login", "", 401, 1)] * bearer.REFUSALS_PER_MINUTE
    api.clock.ahead = 61.0
    await post_login(api, "rto_wrong")
    assert audited(api, "refused")[-2:] == [("refused", "", "", 401, 5), ("refused", "/login", "", 401, 1)]


async def test_whoever_signs_in_is_audited_and_the_key_is_written_nowhere(api: Stage) -> None:
    await api.sign_in()
    assert audited(api, "login") == [("login", "", api.key.split("_")[1], 200, 1)]
    assert api.key not in str(api.select(sa.select(tables.audit)))


async def test_whoever_has_not_signed_in_yet_is_not_audited_as_refused(api: Stage) -> None:
    assert (await api.send("GET", "/")).status == 303
    assert audited(api, "refused") == []
    await api.send("GET", "/", Cookie=f"rtobserver_{urlsplit(api.url).port}=AAAA")
    assert audited(api, "refused") == [("refused", "/", "", 401, 1)]


async def test_nobody_signs_in_without_the_audit(api: Stage) -> None:
    await api.writer.close()
    answer = await post_login(api, api.key)
    assert answer.status == 503
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize("origin", [None, "null", "http://127.0.0.1:1", "http://evil.example"])
async def test_only_our_own_form_signs_people_in(api: Stage, origin: str | None) -> None:
    body = urlencode({"key": api.key, "next": "/"}).encode()
    sent = {"Content_Type": FORM} | ({} if origin is None else {"Origin": origin})
    answer = await api.send("POST", "/login", body, **sent)
    assert answer.status == 403
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize(
    ("body", "media", "status"),
    [
        (b'{"key": "rto_x"}', "application/json", 415),
        (b"key=" + b"a" * FORM_CAP, FORM, 413),
        (b"key", FORM, 400),
        (b"key=%FF%FE", FORM, 400),
        ("key=ü".encode(), FORM, 400),
        (b"&".join(b"key=a" for _ in range(20)), FORM, 400),
        (b"next=%2F", FORM, 401),
        (b"key=&next=", FORM, 401),
    ],
)
async def test_what_is_not_our_form_is_refused_by_a_page(api: Stage, body: bytes, media: str, status: int) -> None:
    answer = await api.send("POST", "/login", body, Origin=api.url, Content_Type=media)
    assert answer.status == status
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"


# --- changes by cookie -------------------------------------------------------------------------------


async def test_a_change_by_cookie_takes_the_header_and_our_own_origin(api: Stage) -> None:
    cookie = await api.sign_in(api.make_key("read", "erase"))
    token = bearer.CSRF_HEADER.replace("-", "_")
    for headers in ({}, {"Origin": api.url}, {token: "1"}, {token: "", "Origin": api.url}):
        answer = await api.send("DELETE", "/api/v1/calls/rtc_1", Cookie=cookie, **headers)
        assert (answer.status, answer.code) == (403, "csrf_header_missing"), headers
    foreign = {token: "1", "Origin": "http://127.0.0.1:1"}
    answer = await api.send("DELETE", "/api/v1/calls/rtc_1", Cookie=cookie, **foreign)
    assert (answer.status, answer.code) == (403, "origin_not_allowed")
    assert (await api.send("GET", "/api/v1/calls/rtc_1", Cookie=cookie)).json["status"] == "live"
    await api.writer.run(lambda work: work.execute(tables.call.update().values(status="ended", ended_at=1)))
    answer = await api.send("DELETE", "/api/v1/calls/rtc_1", Cookie=cookie, **{token: "1", "Origin": api.url})
    assert answer.status in (200, 202, 204)


async def test_a_change_by_key_takes_neither(api: Stage) -> None:
    answer = await api.send("DELETE", "/api/v1/calls/rtc_9", Authorization=f"Bearer {api.make_key('erase')}")
    assert (answer.status, answer.code) == (404, "call_not_found")


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_pages_of_other_origins_have_no_use_of_the_cookie(api: Stage, site: str) -> None:
    cookie = await api.sign_in()
    linked = {"Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
    for headers in ({"Sec_Fetch_Mode": "no-cors"}, {"Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "iframe"}, linked):
        answer = await api.send("GET", "/api/v1/calls", Cookie=cookie, Sec_Fetch_Site=site, **headers)
        assert answer.status == 401
    framed = await api.send("GET", "/", Cookie=cookie, Sec_Fetch_Site=site, Sec_Fetch_Mode="navigate")
    assert framed.status == 303
    # a link on a page of another port, such as the demo's
    assert (await api.send("GET", "/", Cookie=cookie, Sec_Fetch_Site=site, **linked)).status == 200


# --- streams --------------------------------------------------------------------------------------


async def test_streams_by_cookie_end_within_a_second_of_its_key(api: Stage) -> None:
    key = api.make_key("read")
    cookie = await api.sign_in(key)
    async with api.client.get(f"{api.url}/api/v1/tail", headers={"Cookie": cookie}) as response:
        assert response.status == 200
        watch = Watch()
        keys.revoke(api.path, key.split("_")[1], now_us=api.clock.now_us())
        await Stream(response).rest()
        assert watch.seconds() < 1


async def test_streams_by_cookie_end_with_the_cookie(api: Stage) -> None:
    cookie = await api.sign_in()
    async with api.client.get(f"{api.url}/api/v1/tail", headers={"Cookie": cookie}) as response:
        assert response.status == 200
        api.clock.ahead = LASTS_SECONDS + 1.0
        await Stream(response).rest(deadline=1.5)


# --- where one goes afterwards ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "wanted", ["/", "/calls?status=live&label.team=a%20b", "/calls/rtc_1#turn-3", "/search?q=%C3%BC"]
)
async def test_after_signing_in_one_is_where_one_wanted_to_be(api: Stage, wanted: str) -> None:
    answer = await post_login(api, api.key, wanted)
    assert (answer.status, answer.headers["Location"]) == (303, wanted)


EVIL = [
    "//evil.example",
    "//evil.example/calls",
    "/\\evil.example",
    "\\\\evil.example",
    "\\/evil.example",
    "/\t/evil.example",
    "/\n/evil.example",
    "/\r\nSet-Cookie: a=b",
    "\t//evil.example",
    " //evil.example",
    "http://evil.example",
    "https:evil.example",
    "https:/evil.example",
    "javascript:alert(1)",
    "data:text/html,x",
    "evil.example",
    "?next=//evil.example",
    "@evil.example",
    "/ü",
    "/\x00",
    "/login",
    "/logout",
    "/" + "a" * 5000,
]


@pytest.mark.parametrize("wanted", EVIL)
async def test_nobody_is_led_away_from_here(api: Stage, wanted: str) -> None:
    assert (await post_login(api, api.key, wanted)).headers["Location"] == "/"
    # and the form does not hold it either
    shown = await api.send("GET", f"/login?next={quote(wanted, safe='')}")
    assert shown.status == 400 or b'name="next" value="/"' in shown.body


def as_browsers_read(address: str) -> str:
    """Resolve an address as the URL standard says, as far as the host goes."""
    address = re.sub(r"[\t\n\r]", "", address.strip("".join(map(chr, range(33))))).replace("\\", "/")
    return urlsplit(urljoin("http://own.example/login", address)).netloc


@given(
    st.lists(
        st.sampled_from(
            ["/", "\\", "//", ".", "..", "@", ":", "?", "#", "%2F", "%5C", "%09", "\t", "\n", "evil.example"]
        )
        | st.text(max_size=3),
        max_size=8,
    ).map("".join)
)
def test_whatever_is_wanted_the_way_stays_here(wanted: str) -> None:
    for found in (own_path(wanted), own_path("/" + wanted)):
        assert as_browsers_read(found) == "own.example"
        assert re.fullmatch(r"/(?:[!-~][!-~]*)?", found)
        assert not found.startswith("//")


def test_most_paths_of_ours_are_kept() -> None:
    for path in ("/live", "/calls/rtc_1?x=1", "/search?q=%2F%2Fevil.example", "/stats?since=7d#cost"):
        assert own_path(path) == path
