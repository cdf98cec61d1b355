"""The commands of `rtobserver policies`, in processes of their own, over real files."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from rtobserver.policy.active import Active
from rtobserver.settings import load
from rtobserver.store import sqlite, tables
from rtobserver.store.writer import Writer
from tests.conversations.played import Talk, record
from tests.process.stage import command, configure, run
from tests.realtime.script import START_US
from tests.store.stored import call, entomb, fresh, insert, writer_of

OLD = """
[lists]
money = ["refund", "chargeback"]

[[policy]]
id = "money"
phrase = { speaker = "assistant", any = ["@money"] }
do = [{ cancel_response = true }, { tag = "money" }]

[[policy]]
id = "chargebacks"
phrase = { speaker = "assistant", any = ["chargeback"] }
do = [{ tag = "chargeback" }]
"""
NEW = """
[[policy]]
id = "money"
mode = "enforce"
phrase = { speaker = "assistant", any = ["refund"] }
do = [{ cancel_response = true }, { say = "Let me ask a colleague." }]

[[policy]]
id = "thanks"
when = "call.turn_count >= 1"
limit = { per_call = 1 }
phrase = { speaker = "user", any = ["thank you"], whole = true }
do = [{ tag = "thanks" }]
"""
ADDRESS = "http://127.0.0.1:9/openai/v1"
CALLS = 200


def write(folder: Path, policies: str) -> Path:
    folder.mkdir(exist_ok=True)
    return configure(folder, ADDRESS, more=policies)


def one_call(number: int) -> Talk:
    """A call of one turn: what the user and the model say goes by its number."""
    talk = Talk()
    talk.speaks("U1", 0, 1000)
    talk.is_transcribed("U1", "Well, thank you!" if number % 5 == 0 else "Well.")
    talk.at(1100).creates("R1")
    words = {0: "you get a refund today", 1: "that is a chargeback then", 2: "no refund and no chargeback"}
    talk.at(1400).says("R1", "S1", "U1", words.get(number % 4, "nothing to say"))
    talk.at(2000).ends("R1")
    return talk


@asynccontextmanager
async def writing(path: Path) -> AsyncIterator[Writer]:
    writer = writer_of(path)
    await writer.open()
    try:
        yield writer
    finally:
        await writer.close()


async def recorded(folder: Path, count: int, policies: str = OLD) -> Path:
    """Record calls by policies; gives the configuration that they were recorded with."""
    config = write(folder, policies)
    path = fresh(folder)
    active = Active(load(config, {}).policies)
    async with writing(path) as writer:
        for number in range(count):
            began = START_US + number * 1_000_000
            await record(writer, f"rtc_{number:03}", one_call(number).happened, began, active=active)
    path.rename(folder / "calls.db")
    return config


def changed(folder: Path, policies: str, name: str = "new.toml") -> Path:
    """Write another configuration over the same calls."""
    text = (folder / "config.toml").read_text()
    at = folder / name
    begin, end = text.index("[lists]"), text.index("[[profile]]")
    at.write_text(text[:begin] + policies + text[end:])
    return at


# --- replay ---------------------------------------------------------------------------------------


def expected_lines() -> list[str]:
    """What the diff says of each call, newest first, reckoned by hand.

    Entry 1:1 is the gap before the attach, 1:6 the transcription, 1:11 the first delta of the answer.
    """
    lines = []
    for number in reversed(range(CALLS)):
        changes = []
        if number % 5 == 0:
            changes.append('  +     1:7  thanks  phrase  "thank you"  tag')
        match number % 4:
            case 0:
                said = "cancel_response, tag -> cancel_response, say"
                changes.append(f'  ~    1:14  money  phrase  "refund"  {said}')
            case 1:
                changes.append('  -    1:14  chargebacks  phrase  "chargeback"  tag')
                changes.append('  -    1:14  money  phrase  "chargeback"  cancel_response, tag')
            case 2:
                said = "cancel_response, tag -> cancel_response, say"
                changes.append(f'  ~    1:12  money  phrase  "refund"  {said}')
                changes.append('  -    1:15  chargebacks  phrase  "chargeback"  tag')
                changes.append('  -    1:15  money  phrase  "chargeback"  cancel_response, tag')
        if changes:
            second = 1_795_000_000 + number
            minutes, seconds = divmod(second % 3600, 60)
            lines.append(f"rtc_{number:03}  2026-11-18 {second // 3600 % 24:02}:{minutes:02}:{seconds:02}  default")
            lines += changes
    return lines


async def test_a_replay_over_two_hundred_calls_prints_what_is_different_line_by_line(tmp_path: Path) -> None:
    await recorded(tmp_path, CALLS)
    new = changed(tmp_path, NEW)
    code, out, err = await run("policies", "replay", "--config", new, "--since", "2026-01-01")
    assert code == 0, err
    lines = out.splitlines()
    end = lines.index("")
    assert lines[:end] == expected_lines()
    table = [line.split() for line in lines[end + 1 :] if line]
    assert table[0][:6] == ["policy", "recorded", "now", "new", "vanished", "changed"]
    assert table[1:5] == [
        ["chargebacks", "100", "0", "0", "100", "0", "100"],
        ["money", "200", "100", "0", "100", "100", "150"],
        ["thanks", "0", "40", "40", "0", "0", "40"],
        ["all", "300", "140", "40", "200", "100", "160"],
    ]
    assert lines[-1].startswith("200 calls, ")
    assert lines[-1].endswith("; 40 new, 200 vanished, 100 changed")


async def test_a_replay_with_the_same_policies_finds_no_difference(tmp_path: Path) -> None:
    config = await recorded(tmp_path, 8)
    for words in ((), ("--against", config)):
        code, out, err = await run("policies", "replay", "--config", config, "--since", "2026-01-01", *words)
        assert code == 0, err
        assert out.splitlines()[-1].endswith("; 0 new, 0 vanished, 0 changed")
        assert "rtc_" not in out


async def test_programs_get_a_line_of_json_for_each_call_and_a_summary(tmp_path: Path) -> None:
    await recorded(tmp_path, 3)
    new = changed(tmp_path, NEW)
    against = ("--against", tmp_path / "config.toml", "--limit", "2", "--profile", "default")
    code, out, err = await run("policies", "replay", "--config", new, "--since", "2026-01-01", "--json", *against)
    assert code == 0, err
    *calls, summary = [json.loads(line) for line in out.splitlines()]
    assert [(each["kind"], each["call_id"], each["profile"]) for each in calls] == [
        ("call", "rtc_002", "default"),
        ("call", "rtc_001", "default"),
    ]
    assert [(each["change"], each["position"], each["policy"]) for each in calls[1]["changes"]] == [
        ("vanished", "1:14", "chargebacks"),
        ("vanished", "1:14", "money"),
    ]
    [kept, *_] = calls[0]["changes"]
    assert kept["before"]["actions"] == ["cancel_response", "tag"]
    assert kept["after"] == {
        "policy": "money",
        "position": "1:12",
        "trigger": "phrase",
        "mode": "enforce",
        "acts": True,
        "would_act": True,
        "actions": ["cancel_response", "say"],
        "match": "refund",
        "fault": None,
    }
    assert summary["kind"] == "summary"
    assert (summary["calls"], summary["complete"], summary["skipped"]) == (2, True, {})
    assert summary["policy_set"] == load(new, {}).policies.hash
    assert summary["against"] == load(tmp_path / "config.toml", {}).policies.hash
    assert (summary["new"], summary["vanished"], summary["changed"], summary["calls_that_differ"]) == (0, 4, 1, 2)


async def test_calls_that_cannot_be_replayed_are_named(tmp_path: Path) -> None:
    config = await recorded(tmp_path, 1)
    path = tmp_path / "calls.db"
    rows: dict[str, dict[str, object]] = {
        "rtc_live": {"status": "live"},
        "rtc_purged": {"purged_at": 5},
        "rtc_erased": {"purged_at": 0},
        "rtc_no": {},
    }
    for id_, values in rows.items():
        insert(path, tables.call, call(id_, **({"status": "ended"} | values)))
    entomb(path, "rtc_erased")
    code, out, err = await run("policies", "replay", "--config", config, "--since", "2026-01-01")
    assert code == 0, err
    for id_, why in {
        "rtc_live": "it is still going on",
        "rtc_purged": "its entries were purged",
        "rtc_erased": "it was erased",
        "rtc_no": "nothing was recorded of it",
    }.items():
        assert any(line.startswith(id_) and line.endswith(f"not replayable: {why}") for line in out.splitlines()), out
    assert "1 call, " in out
    assert "4 calls not replayable" in out
    code, out, _ = await run("policies", "replay", "--config", config, "--since", "2026-01-01", "--json")
    reasons = {row["call_id"]: row["reason"] for row in map(json.loads, out.splitlines()) if row["kind"] == "skipped"}
    assert reasons == {"rtc_live": "live", "rtc_purged": "purged", "rtc_erased": "erased", "rtc_no": "empty"}


async def test_a_replay_reads_beside_a_daemon(tmp_path: Path) -> None:
    config = await recorded(tmp_path, 2)
    with sqlite.hold(tmp_path / "calls.db"):
        code, _, err = await run("policies", "replay", "--config", config, "--since", "2026-01-01")
    assert code == 0, err


async def test_an_interrupted_replay_leaves_cleanly(tmp_path: Path) -> None:
    config = await recorded(tmp_path, CALLS)
    words = ("policies", "replay", "--config", config, "--against", config, "--since", "2026-01-01", "--json")
    async with command(*words) as begun:
        assert begun.process.stdout is not None
        await begun.process.stdout.readline()
        begun.process.send_signal(signal.SIGINT)
        code, out, err = await begun.ended()
    assert "Traceback" not in err
    summary = json.loads(out.splitlines()[-1])
    assert summary["kind"] == "summary"
    assert (code, summary["complete"]) in ((1, False), (0, True))
    if code:
        assert "interrupted" in err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("replay", "--since", "soon"), "'soon' is not a time such as 2026-01-31T08:00:00Z"),
        (("replay", "--limit", "0"), "--limit"),
        (("replay", "--profile", "defualt"), "there is no profile 'defualt' and no call of one; did you mean default?"),
        (("replay", "--against", "nowhere.toml"), "nowhere.toml"),
        (("explain", "--call", "rtc_000", "--entry", "12"), "'12' is no position such as 1:57"),
    ],
)
async def test_wrong_usage_is_said(tmp_path: Path, words: tuple[str, ...], says: str) -> None:
    config = await recorded(tmp_path, 0)
    code, out, err = await run("policies", *words, "--config", config)
    assert (code, out) == (2, "")
    assert says in err


async def test_a_profile_that_is_gone_can_be_replayed_as_long_as_there_are_calls_of_it(tmp_path: Path) -> None:
    config = await recorded(tmp_path, 1)
    config.write_text(config.read_text().replace('name = "default"', 'name = "other"'))
    for profile in ("default", "other"):
        words = ("--profile", profile, "--since", "2026-01-01")
        code, out, err = await run("policies", "replay", "--config", config, *words)
        assert code == 0, err
        assert out.splitlines()[-1].startswith("1 call," if profile == "default" else "0 calls,")
    code, out, err = await run("policies", "replay", "--config", config, "--profile", "defaults")
    assert (code, out) == (2, "")
    assert "did you mean default?" in err


async def test_without_a_store_it_says_what_makes_one(tmp_path: Path) -> None:
    config = write(tmp_path, OLD)
    code, _, err = await run("policies", "replay", "--config", config)
    assert code == 2
    assert "`rtobserver serve` or `migrate` makes it" in err


# --- check ----------------------------------------------------------------------------------------


async def test_a_check_lists_the_policies_for_people_and_for_programs(tmp_path: Path) -> None:
    config = write(tmp_path, NEW)
    code, out, err = await run("policies", "check", "--config", config)
    assert code == 0, err
    head, money, thanks, last = out.splitlines()
    assert head.split() == ["policy", "mode", "trigger", "actions", "profiles", "when", "limits"]
    assert money.split()[:2] == ["money", "enforce"]
    assert "user says 'thank you', whole" in thanks
    assert "1 per call, 60 per minute" in thanks
    assert last == f"{config} is good: 2 policies, 0 tests, set {load(config, {}).policies.hash}"
    code, out, _ = await run("policies", "check", "--config", config, "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert [(row["policy"], row["mode"], row["when"]) for row in rows] == [
        ("money", "enforce", None),
        ("thanks", "observe", "call.turn_count >= 1"),
    ]


async def test_a_check_warns_of_a_limit_of_cost_without_a_price(tmp_path: Path) -> None:
    config = write(tmp_path, '[[policy]]\nid = "cap"\nusage = { cost_usd = 1 }\ndo = [{ tag = "a" }]\n')
    assert (await run("policies", "check", "--config", config))[2] == ""
    config.write_text(config.read_text().replace('"gpt-realtime"', '"our-deployment"'))
    code, _, err = await run("policies", "check", "--config", config)
    assert code == 0
    assert 'warning: cap: "our-deployment" of profile default has no price' in err


async def test_a_check_names_every_mistake(tmp_path: Path) -> None:
    config = write(tmp_path, NEW.replace('"refund"', '"..."').replace("per_call", "per_cal"))
    code, out, err = await run("policies", "check", "--config", config)
    assert (code, out) == (2, "")
    assert "policy[0].phrase.any[0]" in err
    assert "policy[1].limit.per_cal" in err


async def test_a_check_warns_of_what_will_not_do_what_was_meant(tmp_path: Path) -> None:
    config = write(tmp_path, NEW + '[[policy]]\nid = "x"\non = "response.dune"\ndo = [{ tag = "x" }]\n')
    code, _, err = await run("policies", "check", "--config", config)
    assert code == 0
    assert err.startswith("warning: ")
    assert "response.dune" in err


# --- test -----------------------------------------------------------------------------------------

DELTAS = ["You get a ref", "und", " today"]


def write_events(path: Path) -> None:
    place = {"response_id": "R1", "item_id": "S1", "output_index": 0, "content_index": 0}
    events = [{"type": "response.output_audio_transcript.delta", **place, "delta": delta} for delta in DELTAS]
    path.write_text("\n".join(map(json.dumps, events)))


def with_test(events: str, *actions: str) -> str:
    listed = ", ".join(f'"{action}"' for action in actions)
    expect = f'[{{ policy = "money", actions = [{listed}] }}]' if actions else "[]"
    return f'{NEW}\n[[policy.test]]\nname = "split over deltas"\nevents = "{events}"\nexpect = {expect}\n'


async def test_tests_beside_policies_pass(tmp_path: Path) -> None:
    config = write(tmp_path, with_test("refund.ndjson", "cancel_response", "say"))
    write_events(tmp_path / "refund.ndjson")
    code, out, err = await run("policies", "test", "--config", config)
    assert code == 0, err
    assert out.splitlines() == ["passed  split over deltas  (policy[1].test[0])", "1 passed, 0 failed"]


async def test_a_test_that_fails_says_what_was_decided_instead(tmp_path: Path) -> None:
    config = write(tmp_path, with_test("refund.ndjson", "cancel_response", "tag"))
    write_events(tmp_path / "refund.ndjson")
    code, out, _ = await run("policies", "test", "--config", config)
    assert code == 1
    assert out.splitlines() == [
        "FAILED  split over deltas  (policy[1].test[0])",
        "    - money: cancel_response, tag   expected, not decided",
        "    + money: cancel_response, say   at 1:2",
        "0 passed, 1 failed",
    ]
    code, out, _ = await run("policies", "test", "--config", config, "--json")
    [row] = map(json.loads, out.splitlines())
    assert (code, row["passed"], row["expected"]) == (1, False, ["money: cancel_response, tag"])
    assert [each["position"] for each in row["decided"]] == ["1:2"]


async def test_a_file_that_cannot_be_read_fails_its_test(tmp_path: Path) -> None:
    config = write(tmp_path, with_test("refund.ndjson"))
    code, out, _ = await run("policies", "test", "--config", config)
    assert code == 1
    assert "refund.ndjson: No such file or directory" in out
    (tmp_path / "refund.ndjson").write_text('{"type": "a"}\nnonsense\n')
    code, out, _ = await run("policies", "test", "--config", config)
    assert code == 1
    assert "refund.ndjson: line 2: not a JSON object" in out


async def test_a_check_reads_the_events_of_tests_as_well(tmp_path: Path) -> None:
    config = write(tmp_path, with_test("refund.ndjson"))
    code, out, err = await run("policies", "check", "--config", config)
    assert (code, out) == (2, "")
    assert "policy[1].test[0].events" in err
    assert "refund.ndjson: No such file or directory" in err
    (tmp_path / "refund.ndjson").write_text('{"type": "a"}\nnonsense\n')
    code, _, err = await run("policies", "check", "--config", config)
    assert code == 2
    assert "line 2: not a JSON object" in err
    write_events(tmp_path / "refund.ndjson")
    assert (await run("policies", "check", "--config", config))[0] == 0


async def test_no_tests_are_no_failure_but_said(tmp_path: Path) -> None:
    code, out, err = await run("policies", "test", "--config", write(tmp_path, NEW))
    assert (code, out) == (0, "")
    assert "has no [[policy.test]]" in err


# --- explain --------------------------------------------------------------------------------------


async def test_an_explanation_tells_each_term_with_its_value(tmp_path: Path) -> None:
    await recorded(tmp_path, 1)
    new = changed(tmp_path, NEW)
    code, out, err = await run("policies", "explain", "--config", new, "--call", "rtc_000", "--entry", "1:14")
    assert code == 0, err
    money, thanks = out.split("\n\n")[:2]
    assert money.splitlines()[0] == "money: acts"
    assert "  yes trigger      phrase: assistant says 'refund'; assistant has said 'you get a refund' in S1" in money
    assert 'match.text = "refund"' in money
    assert "action       cancel_response" in money
    assert 'action       say {"text": "Let me ask a colleague."}' in money
    assert thanks.splitlines()[0] == "thanks: does nothing: trigger"
    assert "call.turn_count = 1" in thanks
    assert "1 of 1 in this call are used" in thanks


async def test_an_explanation_of_nothing_is_refused_with_words(tmp_path: Path) -> None:
    config = await recorded(tmp_path, 1)
    for words, says in (
        (("--call", "rtc_000", "--entry", "1:999"), "there is no entry at 1:999 in rtc_000"),
        (("--call", "rtc_9", "--entry", "1:1"), "there is no call rtc_9"),
    ):
        code, out, err = await run("policies", "explain", "--config", config, *words)
        assert (code, out) == (1, "")
        assert says in err


async def test_an_explanation_for_programs_is_a_line_per_policy(tmp_path: Path) -> None:
    config = await recorded(tmp_path, 1)
    words = ("--call", "rtc_000", "--entry", "1:14", "--json")
    code, out, err = await run("policies", "explain", "--config", config, *words)
    assert code == 0, err
    rows = [json.loads(line) for line in out.splitlines()]
    assert [(row["policy"], row["verdict"]) for row in rows] == [
        ("money", "would act, but only observes"),
        ("chargebacks", "does nothing: trigger"),
    ]
    assert rows[0]["decision"]["match"] == "refund"
    assert {term["name"]: term["holds"] for term in rows[0]["terms"]} == {
        "profile": True,
        "trigger": True,
        "mode": None,
    }


async def test_the_group_says_what_it_can_do() -> None:
    code, out, _ = await run("policies", "--help")
    assert code == 0
    assert all(f"\n  {name} " in out for name in ("check", "test", "explain", "replay"))
