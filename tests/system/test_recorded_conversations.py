"""Calls of the real service, played through the sideband: the API tells what a person reads out of them."""

from __future__ import annotations

from typing import Any

from tests.support.outside import recording
from tests.support.stage import Stage
from tests.system.conftest import Play

GREETING = "Hello, my name is Marcelo."


async def told(stage: Stage, call_id: str) -> tuple[list[tuple[str, str, str]], list[dict[str, Any]], dict[str, Any]]:
    """Read the lines, turns and usage of a call."""
    base = f"/api/v1/calls/{call_id}"
    lines = (await stage.document(f"{base}/transcript"))["data"]
    assert all(line["status"] == "completed" and line["heard_text"] is None for line in lines)
    turns = (await stage.document(f"{base}/turns"))["data"]
    return [(line["role"], line["kind"], line["text"]) for line in lines], turns, await stage.document(f"{base}/usage")


async def test_a_spoken_turn_with_a_tool_on_azure(play: Play) -> None:
    async with play(recording=recording("azure_spoken_turn_with_tool")) as stage:
        call_id = await stage.call()
        call = await stage.ended(call_id)
        lines, [turn], usage = await told(stage, call_id)
        answer = "Hello Marcelo, it's great to meet you! How can I help you today?"
        assert lines == [
            ("user", "speech", GREETING),
            ("assistant", "tool_call", '{  \n  "name": "Marcelo" \n} \n'),
            ("tool", "tool_output", "Stored Marcelo."),
            ("assistant", "speech", answer),
        ]
        assert (turn["user_text"], turn["assistant_text"], len(turn["response_ids"])) == (GREETING, answer, 2)
        [tool] = turn["tools"]
        assert (tool["name"], tool["function_call_id"], tool["output"], tool["status"]) == (
            "remember_name", "call_42LHxWvnwPP9TAch", "Stored Marcelo.", "completed",
        )  # fmt: skip
        # 95 + 122 in, 24 + 97 out; of the input 69 + 96 are text and 26 + 26 audio, 64 of the text cached
        assert (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]) == (217, 121, 338)
        assert (usage["input"], usage["output"]) == (
            {"text": 165, "audio": 52, "image": 0}, {"text": 52, "audio": 69},
        )  # fmt: skip
        assert usage["cached"] == {"text": 64, "audio": 0, "image": 0}
        assert usage["transcription"] == {"tokens": 35, "seconds": 0.0}
        assert [each["usage"]["total_tokens"] for each in usage["responses"]] == [95 + 24, 122 + 97]
        assert (call["turn_count"], call["metrics"]["user_talk_ms"]) == (1, 2168)
        hits = (await stage.document("/api/v1/search?q=marcelo"))["data"]
        assert sorted(hit["snippet"] for hit in hits) == sorted(
            [
                "Hello, my name is \u27e6Marcelo\u27e7.",
                "Hello \u27e6Marcelo\u27e7, it's great to meet you! How can I help you today?",
            ]
        )


async def test_three_spoken_turns_on_openai(play: Play) -> None:
    async with play(recording=recording("openai_three_spoken_turns")) as stage:
        call_id = await stage.call()
        await stage.ended(call_id)
        answers = ["Hi Marcelo! Nice to meet you.", "Hi Marcelo! Great to meet you.", "Hey Marcelo, nice meeting you."]
        lines, turns, usage = await told(stage, call_id)
        assert [text for _, _, text in lines] == [text for answer in answers for text in (GREETING, answer)]
        assert [(turn["user_text"], turn["assistant_text"]) for turn in turns] == [
            (GREETING, answer) for answer in answers
        ]
        # 42 + 139 + 187 in, 60 + 61 + 115 out
        assert (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]) == (368, 236, 604)
        assert usage["cached"] == {"text": 0, "audio": 64, "image": 0}
        assert usage["transcription"] == {"tokens": 0, "seconds": 9.0}


async def test_a_history_that_the_client_seeded_on_azure(play: Play) -> None:
    async with play(recording=recording("azure_history_seeding")) as stage:
        call_id = await stage.call()
        await stage.ended(call_id)
        lines, turns, usage = await told(stage, call_id)
        assert lines[:3] == [
            ("user", "text", "My name is Alice and my favorite color is teal."),
            ("assistant", "text", "Nice to meet you, Alice!"),
            ("user", "text", "What is my name and favorite color?"),
        ]
        assert [len(turn["response_ids"]) for turn in turns] == [0, 1]
        assert (usage["total_tokens"], usage["cached"]["text"]) == (182, 128)


async def test_sidebands_of_both_vendors(play: Play) -> None:
    expected = {
        "azure_sideband_text_turn": ("text", "Hello there!", {"text": 5, "audio": 0}),
        "openai_sideband_audio_turn": ("speech", "Hello there.", None),
    }
    for name, (kind, answer, output) in expected.items():
        async with play(recording=recording(name)) as stage:
            call_id = await stage.call()
            await stage.ended(call_id)
            lines, [turn], usage = await told(stage, call_id)
            assert lines == [("user", "text", "Say hello."), ("assistant", kind, answer)]
            assert turn["assistant_text"] == answer
            assert output is None or usage["output"] == output
            assert output is not None or (usage["total_tokens"], usage["output"]["audio"]) == (82, 61)
