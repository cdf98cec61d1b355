"""Simulated events and answers have the shapes, the nulls and the order of the recorded ones."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from typing import cast

import aiohttp
import pytest

from rtobserver.simulator.ids import Provider
from rtobserver.simulator.scenario import Scenario, Spoken, ToolCall
from rtobserver.simulator.server import Simulator, SimulatorOptions
from tests.fidelity.recorded import Json, all_received, interactions, leaves, objects, received
from tests.fidelity.simulated import FAULT_FREE, frames_of, negotiate

UNRECORDED = {
    "response.done.response.status_details": "object",
    "error.error.param": "string",
}
"""Values that no recording shows, since none holds a cut answer or an error."""


def options(provider: str, scenario: str | Scenario) -> SimulatorOptions:
    return SimulatorOptions(provider=cast("Provider", provider), scenario=scenario, pace=0.0, begin="attached")


async def simulated(provider: str, scenario: str | Scenario) -> list[Json]:
    return [json.loads(frame) for frame in await frames_of(options(provider, scenario))]


@pytest.mark.parametrize("provider", ["azure", "openai"])
@pytest.mark.parametrize("scenario", FAULT_FREE)
async def test_objects_have_the_recorded_keys_in_the_recorded_order(provider: str, scenario: str) -> None:
    known: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for event in all_received("azure") + all_received("openai"):
        for place, keys in objects(event, ""):
            known[place].add(keys)
    own: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for event in all_received(provider):
        for place, keys in objects(event, ""):
            own[place].add(keys)
    different = [
        (place, keys, sorted(own.get(place) or known[place]))
        for event in await simulated(provider, scenario)
        for place, keys in objects(event, "")
        if place in known and keys not in (own.get(place) or known[place])
    ]
    assert not different


@pytest.mark.parametrize("provider", ["azure", "openai"])
@pytest.mark.parametrize("scenario", FAULT_FREE)
async def test_values_have_the_recorded_types_and_nulls(provider: str, scenario: str) -> None:
    known: dict[str, set[str]] = defaultdict(set)
    for event in all_received("azure") + all_received("openai"):
        for place, kind in leaves(event, event["type"]):
            known[place].add(kind)
    different = {
        (place, kind, tuple(sorted(known[place])))
        for event in await simulated(provider, scenario)
        for place, kind in leaves(event, event["type"])
        if place in known and kind not in known[place] and UNRECORDED.get(place) != kind
    }
    assert not different


def order(events: list[Json], *, without: str = r"$^") -> list[str]:
    """Give the events' types, runs of deltas as one."""
    kinds = [event["type"] for event in events if not re.search(without, event["type"])]
    return [kind for number, kind in enumerate(kinds) if not number or kind != kinds[number - 1]]


TYPED = [
    {"type": "conversation.item.create", "item": {
        "type": "message", "role": "user", "content": [{"type": "input_text", "text": "Say hello."}]}},
    {"type": "response.create", "response": {"instructions": '"Hello there."'}},
]  # fmt: skip


@pytest.mark.parametrize(
    ("provider", "name", "last"),
    [
        ("azure", "azure_sideband_text_turn", "response.done"),
        ("openai", "openai_sideband_audio_turn", "output_audio_buffer.stopped"),
    ],
)
async def test_a_typed_turn_comes_in_the_recorded_order(provider: str, name: str, last: str) -> None:
    update = next(turn["data"] for turn in interactions(name) if turn["direction"] == "sent")
    frames = await frames_of(options(provider, "quiet"), client_events=[update, *TYPED], last=last)
    events = [json.loads(frame) for frame in frames]
    assert order(events) == order(received(name))
    assert events[0]["session"] | {"id": 0, "expires_at": 0} == received(name)[0]["session"] | {
        "id": 0,
        "expires_at": 0,
    }


def hidden(name: str) -> list[Json]:
    """Give what of a primary websocket a sideband would see."""
    return [e for e in received(name) if e["type"] not in ("session.created", "response.output_audio.delta")]


async def test_a_spoken_turn_with_a_tool_comes_in_the_recorded_order() -> None:
    name = "azure_spoken_turn_with_tool"
    scenario = Scenario(name="tool", steps=(ToolCall(),), transcription="gpt-4o-transcribe")
    events = await simulated("azure", scenario)
    assert order(events, without="output_audio_buffer") == order(hidden(name))


async def test_three_spoken_turns_come_in_the_recorded_order() -> None:
    scenario = Scenario(name="three", steps=(Spoken(), Spoken(), Spoken()), transcription="gpt-realtime-whisper")
    events = await simulated("openai", scenario)
    anywhere = "output_audio_buffer|input_audio_transcription"
    assert order(events, without=anywhere) == order(hidden("openai_three_spoken_turns"), without=anywhere)
    for turn in range(3):
        assert _transcribed(events, turn) == _transcribed(received("openai_three_spoken_turns"), turn)


def _transcribed(events: list[Json], turn: int) -> tuple[bool, bool, str]:
    """Say of a user turn: deltas during speech, completed after the commit, and what the deltas make of the text."""
    item = [e["item_id"] for e in events if e["type"] == "input_audio_buffer.speech_started"][turn]
    own = [e for e in events if e.get("item_id") == item]
    kinds = [e["type"].rsplit(".", 1)[1] for e in own]
    text = "".join(e["delta"] for e in own if e["type"].endswith("transcription.delta"))
    final = next(e["transcript"] for e in own if e["type"].endswith("completed"))
    return (
        kinds.index("delta") < kinds.index("speech_stopped"),
        kinds.index("completed") > kinds.index("committed"),
        "a blank before" if text == f" {final}" else text,
    )


@pytest.mark.parametrize("provider", ["azure", "openai"])
async def test_predecessors_are_named_as_recorded(provider: str) -> None:
    scenario = Scenario(name="three", steps=(Spoken(), Spoken()), transcription="gpt-4o-transcribe")
    names = {"azure": "azure_history_seeding", "openai": "openai_three_spoken_turns"}

    def assistants(events: list[Json]) -> list[bool]:
        """Say of each answer whether its `done` names the item before it."""
        done = [e for e in events if e["type"] == "conversation.item.done" and e["item"].get("role") == "assistant"]
        order = [e["item"]["id"] for e in events if e["type"] == "conversation.item.added"]
        return [(e["previous_item_id"] is None) == (order.index(e["item"]["id"]) == 1) for e in done[-2:]]

    assert all(assistants(await simulated(provider, scenario)))
    assert assistants(received(names[provider]))[-1]


@pytest.mark.parametrize("provider", ["azure", "openai"])
async def test_ids_have_the_recorded_form(provider: str) -> None:
    def forms(events: list[Json]) -> dict[str, set[str]]:
        found: dict[str, set[str]] = defaultdict(set)
        for event in events:
            for text in re.findall(r'"((?:event|item|resp|conv|call)_[^"]+)"', json.dumps(event)):
                place = event["type"] if text.startswith("event_") else ""
                found[place + text.partition("_")[0]].add(re.sub("[0-9A-Za-z]", "x", text.partition("_")[2]))
        return found

    known = forms(all_received("azure")) | forms(all_received("openai"))
    for place, shapes in forms(await simulated(provider, "three_turns")).items():
        assert place not in known or shapes == known[place], place


@pytest.mark.parametrize("provider", ["azure", "openai"])
async def test_deltas_are_padded_as_recorded(provider: str) -> None:
    def lengths(events: list[Json]) -> set[int]:
        return {len(event["delta"]) + len(event["obfuscation"]) for event in events if "obfuscation" in event}

    assert lengths(await simulated(provider, "three_turns")) == lengths(all_received(provider)) == {16}


def header_names(answer: aiohttp.ClientResponse) -> list[str]:
    return [name.decode() for name, _ in answer.raw_headers]


def recorded_names(response: Json) -> list[str]:
    """Give a recorded answer's header names, repeated ones as often as they were there."""
    return [name for name, values in response["headers"].items() for _ in values]


async def test_azures_negotiation_answers_as_recorded() -> None:
    minting, calling = interactions("azure_negotiation")
    async with Simulator(options("azure", "quiet")) as simulator, aiohttp.ClientSession() as http:
        session = minting["request"]["parsed_body"]["session"]
        minted, answered = await negotiate(simulator, http, session, "?webrtcfilter=on")
        assert header_names(minted) == recorded_names(minting["response"])
        assert minted.headers["content-type"] == "application/json"
        body, expected = await minted.json(), minting["response"]["parsed_body"]
        scrubbed = {"id": 0, "instructions": 0}
        assert body["session"] | scrubbed == expected["session"] | scrubbed
        assert set(body) == set(expected)
        _same_answer(answered, calling["response"], await answered.text())


async def test_openais_negotiation_answers_as_recorded() -> None:
    (calling,) = interactions("openai_negotiation")
    async with Simulator(options("openai", "quiet")) as simulator, aiohttp.ClientSession() as http:
        request = calling["request"]
        headers = {
            "authorization": f"Bearer {simulator.options.api_key}",
            "content-type": request["headers"]["content-type"][0],
        }
        url = f"{simulator.base_url}/realtime/calls"
        answered = await http.post(url, headers=headers, data=request["body"].encode())
        _same_answer(answered, calling["response"], await answered.text())
        (call,) = simulator.calls.values()
        assert call.session["audio"]["output"]["voice"] == "cedar"
        assert call.offer.endswith("a=setup:actpass\r\n")


def _same_answer(answered: aiohttp.ClientResponse, expected: Json, body: str) -> None:
    assert answered.status == expected["status"]["code"]
    assert answered.reason == expected["status"]["message"]
    assert header_names(answered) == recorded_names(expected)
    changing = ("location", "content-length", "apim-request-id", "azureml-served-by-cluster", "openai-processing-ms")
    for name, values in expected["headers"].items():
        if name not in changing:
            assert answered.headers.getall(name) == values
    location = expected["headers"]["location"][0]
    assert _form(answered.headers["location"]) == _form(location)
    assert _lines(body) == _lines(expected["body"]["string"])


def _form(text: str) -> str:
    return re.sub(r"rtc_\w+", lambda found: f"rtc {len(found.group())} {found.group().count('_')}", text)


CHANGING = [
    (r"^o=- \d+ \d+", "o=- # #"),
    (r"^(a=fingerprint:sha-256) [0-9A-F:]{95}$", r"\1 #"),
    (r"^(a=ice-pwd):\w{32}$", r"\1:#"),
    (r"^(a=ice-ufrag):\w{8}/realtime-api-vmss-prod-.*", r"\1:azure"),
    (r"^(a=ice-ufrag):\w{6}/u2/\w{6}$", r"\1:openai"),
    (r"^(a=ssrc):\d+", r"\1:#"),
    (r"^(a=candidate):\d+ (\d) (udp|tcp) (\d+) \S+ (\d+ .*) ufrag .*", r"\1:# \2 \3 \4 # \5"),
]


def _lines(answer: str) -> list[str]:
    """Give an answer's lines without what changes; candidates of several hosts count once."""
    for pattern, constant in CHANGING:
        answer = re.sub(pattern, constant, answer.replace("\r\n", "\n"), flags=re.MULTILINE)
    return list(dict.fromkeys(line for line in answer.split("\n") if line.startswith("a=candidate"))) + [
        line for line in answer.split("\n") if not line.startswith("a=candidate")
    ]
