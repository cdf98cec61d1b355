"""Conversations, each with its transcript, turns, metrics and cost, reckoned by hand.

Prices are those of `played.py`, in millionths of a dollar a token: text 4 in, 0.4 cached, 16 out;
audio 32 in, 64 out. A second of transcription costs 0.0001 dollars. Each transcription is of 3 s
unless it says otherwise.
"""

from __future__ import annotations

from typing import Any

from tests.conversations.played import Conversation, Talk
from tests.realtime.script import usage


def heard(talk: Talk, item: str, words: str, seconds: float = 3) -> None:
    talk.is_transcribed(item, words, seconds)


def plain(talk: Talk) -> None:
    talk.speaks("U1", 1000, 3000)
    talk.at(3100).creates("R1")
    talk.at(3400).begins_message("R1", "S1", "U1")
    talk.says_part("R1", "S1", "Hello there.")
    talk.at(3500)
    heard(talk, "U1", "Hi!")
    talk.plays("R1", 3650)
    talk.at(3700).ends_message("R1", "S1", "Hello there.")
    talk.ends("R1", used=usage(100, 20, 10, 50))
    talk.at(5000).send("output_audio_buffer.stopped", response_id="R1")


def typed(talk: Talk) -> None:
    talk.types("U1", "Say hello.")
    talk.at(100).creates("R1", text_only=True)
    talk.at(300).begins_message("R1", "S1", "U1")
    for word in ("Hello", " there!"):
        talk.delta("response.output_text.delta", "R1", "S1", word)
    talk.ends_message("R1", "S1", "Hello there!", kind="output_text")
    talk.ends("R1", used=usage(12, 0, 5, 0))


def barge_in(talk: Talk) -> None:
    talk.speaks("U1", 0, 1000)
    heard(talk, "U1", "Count, please.")
    talk.at(1100).creates("R1")
    talk.at(1400).begins_message("R1", "S1", "U1")
    talk.plays("R1", 1500)
    talk.says_part("R1", "S1", "One two three four five six")
    talk.at(2500).starts_speaking("U2")
    talk.at(2520).send("conversation.item.truncated", item_id="S1", content_index=0, audio_end_ms=1000)
    talk.at(2550).send("output_audio_buffer.cleared", response_id="R1")
    talk.at(2600).ends_message("R1", "S1", "One two three four five six", status="incomplete")
    talk.ends("R1", "cancelled", details={"type": "cancelled", "reason": "turn_detected"}, used=usage(50, 10, 10, 40))
    talk.at(3500).stops_speaking("U2")
    talk.commits("U2", "S1")
    talk.at(3800)
    heard(talk, "U2", "Stop!")


def barge_in_after_the_response(talk: Talk) -> None:
    talk.speaks("U1", 0, 1000)
    heard(talk, "U1", "The alphabet?")
    talk.at(1100).creates("R1")
    talk.at(1300).says("R1", "S1", "U1", "Alpha bravo charlie delta echo")
    talk.plays("R1", 1500)
    talk.at(2000).ends("R1", used=usage(0, 0, 0, 60))
    talk.at(2500).starts_speaking("U2")
    talk.at(2550).send("output_audio_buffer.cleared", response_id="R1")
    talk.at(3000).stops_speaking("U2")
    talk.commits("U2", "S1")
    heard(talk, "U2", "Thanks, enough.")


def false_barge_in(talk: Talk) -> None:
    talk.speaks("U1", 0, 1000)
    heard(talk, "U1", "Go on.")
    talk.at(1100).creates("R1")
    talk.at(1300).begins_message("R1", "S1", "U1")
    talk.plays("R1", 1500)
    talk.says_part("R1", "S1", "Well then")
    talk.at(2000).starts_speaking("U2")
    talk.at(2010).ends_message("R1", "S1", "Well then", status="incomplete")
    talk.ends("R1", "cancelled", details={"type": "cancelled", "reason": "turn_detected"}, used=usage(0, 0, 0, 10))
    talk.at(2200).stops_speaking("U2")
    talk.commits("U2", "S1")
    heard(talk, "U2", "", seconds=0)
    talk.at(2300).send("output_audio_buffer.stopped", response_id="R1")


def chained_tools(talk: Talk) -> None:
    talk.speaks("U1", 0, 1000)
    heard(talk, "U1", "Weather in Oslo, and when?")
    talk.at(1100).creates("R1")
    talk.at(1400).calls_tool("R1", "F1", "U1", "get_weather", "call_1", '{"city":"Oslo"}')
    talk.ends("R1", used=usage(100, 0, 10, 0))
    talk.at(1700).gives_output("O1", "F1", "call_1", "rain")
    talk.creates("R2")
    talk.at(2000).calls_tool("R2", "F2", "O1", "get_time", "call_2", "{}")
    talk.ends("R2", used=usage(100, 0, 10, 0))
    talk.at(2700).gives_output("O2", "F2", "call_2", "noon")
    talk.creates("R3")
    talk.at(2900).says("R3", "S1", "O2", "Rain at noon.")
    talk.plays("R3", 3000, 4000)
    talk.ends("R3", used=usage(100, 0, 0, 20))


def mcp(talk: Talk) -> None:
    talk.types("U1", "Look it up.")
    talk.at(100).creates("R1")
    value: dict[str, Any] = {"id": "M1", "type": "mcp_call", "server_label": "docs", "name": "find", "arguments": ""}
    talk.at(200).puts_out("R1", value, "U1")
    talk.send("response.mcp_call_arguments.done", response_id="R1", item_id="M1", output_index=0, arguments='{"q":1}')
    talk.at(300).send("response.mcp_call.in_progress", item_id="M1", output_index=0)
    talk.at(900).send("response.mcp_call.completed", item_id="M1", output_index=0)
    done = value | {"arguments": '{"q":1}', "output": "page 7"}
    talk.at(910).send("conversation.item.done", item=done, previous_item_id=None)
    talk.send("response.output_item.done", response_id="R1", output_index=0, item=done)
    talk.at(1000).begins_message("R1", "S1", "M1")
    talk.ends_message("R1", "S1", "On page 7.", kind="output_text")
    talk.ends("R1", used=usage(10, 0, 10, 0))


def cancelled(talk: Talk) -> None:
    talk.speaks("U1", 0, 1000)
    heard(talk, "U1", "Tell me a story.")
    talk.at(1100).creates("R1")
    talk.at(1200).begins_message("R1", "S1", "U1")
    talk.says_part("R1", "S1", "Once upon a time")
    talk.plays("R1", 1500)
    talk.at(2500).ends_message("R1", "S1", "Once upon a time", status="incomplete")
    talk.ends("R1", "cancelled", details={"type": "cancelled", "reason": "client_cancelled"}, used=usage(0, 0, 0, 40))
    talk.send("output_audio_buffer.cleared", response_id="R1")


def failed(talk: Talk) -> None:
    talk.types("U1", "Hello?")
    talk.at(100).creates("R1")
    error = {"type": "server_error", "code": "rate_limit_exceeded"}
    talk.at(200).ends("R1", "failed", details={"type": "failed", "error": error}, used=None)
    talk.at(300).send("error", error={"type": "invalid_request_error", "code": "bad_event", "message": "No."})


def content_filter(talk: Talk) -> None:
    talk.speaks("U1", 0, 1000)
    heard(talk, "U1", "Something bad.")
    talk.at(1100).creates("R1")
    talk.at(1300).begins_message("R1", "S1", "U1")
    talk.says_part("R1", "S1", "First you")
    talk.at(1400).ends_message("R1", "S1", "First you", status="incomplete")
    details = {"type": "incomplete", "reason": "content_filter"}
    talk.ends("R1", "incomplete", details=details, used=usage(10, 0, 0, 10))


def no_transcription(talk: Talk) -> None:
    talk.speaks("U1", 0, 1500)
    talk.at(1600).creates("R1")
    talk.at(1900).says("R1", "S1", "U1", "Sure.")
    talk.plays("R1", 2000, 2500)
    talk.ends("R1", used=usage(0, 15, 0, 10))


def late_transcription(talk: Talk) -> None:
    talk.speaks("U1", 0, 1000)
    talk.at(1100).creates("R1")
    talk.at(1300).says("R1", "S1", "U1", "Fine.")
    talk.plays("R1", 1400, 1900)
    talk.ends("R1", used=usage(0, 0, 0, 10))
    talk.speaks("U2", 3000, 4000, "S1")
    heard(talk, "U2", "Second.")
    talk.at(4500)
    heard(talk, "U1", "First.")


def transcription_failed(talk: Talk) -> None:
    talk.speaks("U1", 0, 1000)
    error = {"type": "invalid_request_error", "code": "DeploymentNotFound", "message": "No such deployment."}
    talk.at(1200).send("conversation.item.input_audio_transcription.failed", item_id="U1", content_index=0, error=error)
    talk.at(1300).creates("R1")
    talk.says("R1", "S1", "U1", "Yes.")
    talk.ends("R1", used=usage(0, 10, 0, 10))


def idle_time_out(talk: Talk) -> None:
    talk.speaks("U1", 0, 1000)
    heard(talk, "U1", "Wait.")
    talk.at(7000).send("input_audio_buffer.timeout_triggered", item_id="U2", audio_start_ms=1000, audio_end_ms=7000)
    talk.commits("U2", "U1")
    talk.at(7100).creates("R1")
    talk.at(7200).says("R1", "S1", "U2", "Are you still there?")
    talk.plays("R1", 7300, 8300)
    talk.ends("R1", used=usage(0, 0, 0, 20))


def out_of_band(talk: Talk) -> None:
    talk.types("U1", "I want a refund.")
    talk.at(100).creates("R1", text_only=True)
    talk.at(110).creates("R2", conversation=None, text_only=True)
    talk.at(300).begins_message("R1", "S1", "U1")
    talk.begins_message("R2", "C1", None, added=False)
    talk.delta("response.output_text.delta", "R2", "C1", "angry")
    talk.ends_message("R2", "C1", "angry", kind="output_text")
    talk.at(350).ends("R2", conversation=None, used=usage(20, 0, 1, 0))
    talk.at(400).ends_message("R1", "S1", "I see.", kind="output_text")
    talk.ends("R1", used=usage(10, 0, 3, 0))


def beta_names(talk: Talk) -> None:
    part = {"type": "input_text", "text": "Hi"}
    message = {"id": "U1", "type": "message", "status": "completed", "role": "user", "content": [part]}
    talk.send("conversation.item.created", previous_item_id=None, item=message)
    talk.at(100).send(
        "response.created", response={"id": "R1", "status": "in_progress", "modalities": ["audio", "text"]}
    )
    begun = {"id": "S1", "type": "message", "status": "in_progress", "role": "assistant", "content": []}
    talk.at(200).send("response.output_item.added", response_id="R1", item=begun)
    talk.send("conversation.item.created", previous_item_id="U1", item=begun)
    for word in ("Hel", "lo"):
        talk.delta("response.audio_transcript.delta", "R1", "S1", word)
    names = {"response_id": "R1", "item_id": "S1", "content_index": 0}
    talk.send("response.audio.done", **names)
    talk.send("response.audio_transcript.done", transcript="Hello", **names)
    done = {**begun, "status": "completed", "content": [{"type": "audio", "transcript": "Hello"}]}
    talk.send("response.output_item.done", response_id="R1", item=done)
    response = {"id": "R1", "status": "completed", "output": [done], "usage": usage(10, 0, 0, 10)}
    talk.at(300).send("response.done", response=response)


def two_gaps(talk: Talk) -> None:
    talk.speaks("U1", 0, 1000)
    heard(talk, "U1", "Hello?")
    talk.at(1200).loses_the_sideband(2200)
    talk.speaks("U2", 3000, 4000, "S1")
    heard(talk, "U2", "Again?")
    talk.at(4200).loses_the_sideband(4900)
    talk.at(5000).creates("R2")
    talk.at(5100).says("R2", "S2", "U2", "Here I am.")
    talk.plays("R2", 5200, 6200)
    talk.ends("R2", used=usage(0, 0, 0, 20))


def greeting(talk: Talk) -> None:
    talk.creates("R1")
    talk.at(200).says("R1", "S1", None, "Welcome!")
    talk.plays("R1", 300, 1300)
    talk.ends("R1", used=usage(10, 0, 0, 20))
    talk.speaks("U1", 2000, 2600, "S1")
    heard(talk, "U1", "Bye.", seconds=1)


HINT = (
    "there is no deployment of that name: on Azure `audio.input.transcription.model` is the name of a "
    "deployment, so deploy a transcription model and put its deployment's name into the profile"
)

LIBRARY = [
    Conversation(
        "plain",
        plain,
        ["user speech: Hi!", "assistant speech: Hello there."],
        [
            {
                "user_item_id": "U1", "response_ids": ["R1"], "user_text": "Hi!", "assistant_text": "Hello there.",
                "heard_latency_ms": 650, "generation_latency_ms": 400, "span": (1000, 5000),
            }
        ],
        # 100 * 4 + 20 * 32 + 10 * 16 + 50 * 64 = 4400, and 3 s
        {"turn_count": 1, "cost_usd": "0.0047", "first_audio": (650, 650), "generation": (400, 400)},
        {"user_talk_ms": 2000, "assistant_talk_ms": 1350, "dead_air_ms": 650},
        {"total_tokens": 180, "input": {"text": 100, "audio": 20, "image": 0}, "output": {"text": 10, "audio": 50}},
    ),
    Conversation(
        "typed",
        typed,
        ["user text: Say hello.", "assistant text: Hello there!"],
        [
            {
                "user_item_id": "U1", "response_ids": ["R1"], "user_text": "Say hello.",
                "assistant_text": "Hello there!", "span": (0, 300),
            }
        ],
        {"turn_count": 1, "cost_usd": "0.000128"},  # 12 * 4 + 5 * 16
    ),
    Conversation(
        "barge-in during the response",
        barge_in,
        [
            "user speech: Count, please.",
            # 1000 of 40 tokens * 50 ms were played, half of 27 characters
            "assistant speech: One two three four five six | One two three (incomplete)",
            "user speech: Stop!",
        ],
        [
            {
                "user_item_id": "U1", "response_ids": ["R1"], "user_text": "Count, please.",
                "assistant_text": "One two three four five six", "heard_latency_ms": 500,
                "generation_latency_ms": 400, "interrupted": True, "span": (0, 2600),
            },
            {"user_item_id": "U2", "user_text": "Stop!", "span": (2500, 3500)},
        ],
        # 50 * 4 + 10 * 32 + 10 * 16 + 40 * 64 = 3240, and 6 s
        {
            "turn_count": 2, "interruption_count": 1, "cost_usd": "0.00384", "first_audio": (500, 500),
            "generation": (400, 400),
        },
        {"user_talk_ms": 2000, "assistant_talk_ms": 1050, "dead_air_ms": 500},
    ),
    Conversation(
        "barge-in after the response was done",
        barge_in_after_the_response,
        [
            "user speech: The alphabet?",
            # 1050 of 60 tokens * 50 ms: the tenth of 30 characters, back to a whole word
            "assistant speech: Alpha bravo charlie delta echo | Alpha",
            "user speech: Thanks, enough.",
        ],
        [
            {
                "user_item_id": "U1", "response_ids": ["R1"], "user_text": "The alphabet?",
                "assistant_text": "Alpha bravo charlie delta echo", "heard_latency_ms": 500,
                "generation_latency_ms": 300, "interrupted": True, "span": (0, 2550),
            },
            {"user_item_id": "U2", "user_text": "Thanks, enough.", "span": (2500, 3000)},
        ],
        {
            "turn_count": 2, "interruption_count": 1, "cost_usd": "0.00444", "first_audio": (500, 500),
            "generation": (300, 300),
        },
        {"user_talk_ms": 1500, "assistant_talk_ms": 1050, "dead_air_ms": 500},
    ),
    Conversation(
        "false barge-in",
        false_barge_in,
        ["user speech: Go on.", "assistant speech: Well then (incomplete)", "user speech: "],
        [
            {
                "user_item_id": "U1", "response_ids": ["R1"], "user_text": "Go on.", "assistant_text": "Well then",
                "heard_latency_ms": 500, "generation_latency_ms": 300, "interrupted": True, "span": (0, 2300),
            },
            {"user_item_id": "U2", "span": (2000, 2200)},
        ],
        {
            "turn_count": 2, "interruption_count": 1, "cost_usd": "0.00094", "first_audio": (500, 500),
            "generation": (300, 300),
        },
        {"user_talk_ms": 1200, "assistant_talk_ms": 800, "dead_air_ms": 500},
    ),
    Conversation(
        "chained tools",
        chained_tools,
        [
            "user speech: Weather in Oslo, and when?",
            'assistant tool_call: {"city":"Oslo"}',
            "tool tool_output: rain",
            "assistant tool_call: {}",
            "tool tool_output: noon",
            "assistant speech: Rain at noon.",
        ],
        [
            {
                "user_item_id": "U1", "response_ids": ["R1", "R2", "R3"], "user_text": "Weather in Oslo, and when?",
                "assistant_text": "Rain at noon.", "heard_latency_ms": 2000, "generation_latency_ms": 400,
                "tool_latency_ms": 1000, "span": (0, 4000),
                "tools": [
                    ("get_weather", "call_1", '{"city":"Oslo"}', "rain", 300, "completed"),
                    ("get_time", "call_2", "{}", "noon", 700, "completed"),
                ],
            }
        ],
        # 3 * 100 * 4 + 2 * 10 * 16 + 20 * 64 = 2800, and 3 s
        {"turn_count": 1, "cost_usd": "0.0031", "first_audio": (2000, 2000), "generation": (400, 400)},
        {
            "user_talk_ms": 1000, "assistant_talk_ms": 1000, "dead_air_ms": 2000,
            "tool_latency_ms": {"p50": 300, "p95": 700},
        },
    ),
    Conversation(
        "MCP",
        mcp,
        ["user text: Look it up.", 'assistant tool_call: {"q":1}', "assistant text: On page 7."],
        [
            {
                "user_item_id": "U1", "response_ids": ["R1"], "user_text": "Look it up.",
                "assistant_text": "On page 7.", "tool_latency_ms": 600, "span": (0, 1000),
                "tools": [("find", None, '{"q":1}', "page 7", 600, "completed")],
            }
        ],
        {"turn_count": 1, "cost_usd": "0.0002"},  # 10 * 4 + 10 * 16
        {"tool_latency_ms": {"p50": 600, "p95": 600}},
    ),
    Conversation(
        "cancelled by the client",
        cancelled,
        [
            "user speech: Tell me a story.",
            # 1000 of 40 tokens * 50 ms: the eighth of 16 characters, back to a whole word
            "assistant speech: Once upon a time | Once (incomplete)",
        ],
        [
            {
                "user_item_id": "U1", "response_ids": ["R1"], "user_text": "Tell me a story.",
                "assistant_text": "Once upon a time", "heard_latency_ms": 500, "generation_latency_ms": 200,
                "interrupted": True, "span": (0, 2500),
            }
        ],
        # a client that stops the model is no interruption by the user
        {"turn_count": 1, "cost_usd": "0.00286", "first_audio": (500, 500), "generation": (200, 200)},
        {"user_talk_ms": 1000, "assistant_talk_ms": 1000, "dead_air_ms": 500},
    ),
    Conversation(
        "failed",
        failed,
        ["user text: Hello?"],
        [{"user_item_id": "U1", "response_ids": ["R1"], "user_text": "Hello?", "span": (0, 200)}],
        {"turn_count": 1, "error_count": 2, "cost_usd": "0"},
        usage={"responses_without_usage": 1},
    ),
    Conversation(
        "content filter",
        content_filter,
        ["user speech: Something bad.", "assistant speech: First you (incomplete)"],
        [
            {
                "user_item_id": "U1", "response_ids": ["R1"], "user_text": "Something bad.",
                "assistant_text": "First you", "generation_latency_ms": 300, "span": (0, 1400),
            }
        ],
        # 10 * 4 + 10 * 64 = 680, and 3 s
        {"turn_count": 1, "cost_usd": "0.00098", "generation": (300, 300)},
        {"user_talk_ms": 1000, "assistant_talk_ms": 500},  # nothing was played: 10 tokens * 50 ms
    ),
    Conversation(
        "no transcription",
        no_transcription,
        ["user speech: ", "assistant speech: Sure."],
        [
            {
                "user_item_id": "U1", "response_ids": ["R1"], "assistant_text": "Sure.", "heard_latency_ms": 500,
                "generation_latency_ms": 400, "span": (0, 2500),
            }
        ],
        {"turn_count": 1, "cost_usd": "0.00112", "first_audio": (500, 500), "generation": (400, 400)},
        {"user_talk_ms": 1500, "assistant_talk_ms": 500, "dead_air_ms": 500},
    ),
    Conversation(
        "late transcription",
        late_transcription,
        ["user speech: First.", "assistant speech: Fine.", "user speech: Second."],
        [
            {
                "user_item_id": "U1", "response_ids": ["R1"], "user_text": "First.", "assistant_text": "Fine.",
                "heard_latency_ms": 400, "generation_latency_ms": 300, "span": (0, 1900),
            },
            {"user_item_id": "U2", "user_text": "Second.", "span": (3000, 4000)},
        ],
        {"turn_count": 2, "cost_usd": "0.00124", "first_audio": (400, 400), "generation": (300, 300)},
        {"user_talk_ms": 2000, "assistant_talk_ms": 500, "dead_air_ms": 1500},  # 1000-1400 and 1900-3000
        {"transcription": {"tokens": 0, "seconds": 6.0}},
    ),
    Conversation(
        "failed transcription",
        transcription_failed,
        ["user speech:  (failed)", "assistant speech: Yes."],
        [
            {
                "user_item_id": "U1", "response_ids": ["R1"], "assistant_text": "Yes.",
                "generation_latency_ms": 300, "span": (0, 1300),
            }
        ],
        {"turn_count": 1, "cost_usd": "0.00096", "generation": (300, 300)},  # 10 * 32 + 10 * 64
        {
            "user_talk_ms": 1000, "assistant_talk_ms": 500, "transcription_failure_count": 1,
            "transcription_hint": HINT,
        },
    ),
    Conversation(
        "idle time-out",
        idle_time_out,
        ["user speech: Wait.", "user speech: ", "assistant speech: Are you still there?"],
        [
            {"user_item_id": "U1", "user_text": "Wait.", "span": (0, 1000)},
            # what nobody said is nobody's turn, and has no latency
            {"response_ids": ["R1"], "assistant_text": "Are you still there?", "span": (7100, 8300)},
        ],
        {"turn_count": 1, "cost_usd": "0.00158"},
        {"user_talk_ms": 1000, "assistant_talk_ms": 1000, "dead_air_ms": 6300},
    ),
    Conversation(
        "out of band",
        out_of_band,
        ["user text: I want a refund.", "assistant text: I see."],
        [
            {
                "user_item_id": "U1", "response_ids": ["R1"], "user_text": "I want a refund.",
                "assistant_text": "I see.", "span": (0, 400),
            }
        ],
        {"turn_count": 1, "cost_usd": "0.000184"},  # (20 + 10) * 4 + (1 + 3) * 16: it costs all the same
    ),
    Conversation(
        "beta names",
        beta_names,
        ["user text: Hi", "assistant speech: Hello"],
        [
            {
                "user_item_id": "U1", "response_ids": ["R1"], "user_text": "Hi", "assistant_text": "Hello",
                "span": (0, 300),
            }
        ],
        {"turn_count": 1, "cost_usd": "0.00068"},
        {"assistant_talk_ms": 500},
    ),
    Conversation(
        "two gaps",
        two_gaps,
        ["user speech: Hello?", "user speech: Again?", "assistant speech: Here I am."],
        [
            {"user_item_id": "U1", "user_text": "Hello?", "span": (0, 1000)},
            {
                "user_item_id": "U2", "response_ids": ["R2"], "user_text": "Again?", "assistant_text": "Here I am.",
                "heard_latency_ms": 1200, "generation_latency_ms": 1100, "span": (3000, 6200),
            },
        ],
        {
            "turn_count": 2, "cost_usd": "0.00188", "first_audio": (1200, 1200), "generation": (1100, 1100),
            "gap_count": 2, "completeness": "complete_with_gaps",
        },
        {"user_talk_ms": 2000, "assistant_talk_ms": 1000, "dead_air_ms": 3200},  # 1000-3000 and 4000-5200
    ),
    Conversation(
        "greeting",
        greeting,
        ["assistant speech: Welcome!", "user speech: Bye."],
        [
            {"response_ids": ["R1"], "assistant_text": "Welcome!", "span": (0, 1300)},
            {"user_item_id": "U1", "user_text": "Bye.", "span": (2000, 2600)},
        ],
        # 10 * 4 + 20 * 64 = 1320, and 1 s
        {"turn_count": 1, "cost_usd": "0.00142"},
        {"user_talk_ms": 600, "assistant_talk_ms": 1000, "dead_air_ms": 700},
    ),
]  # fmt: skip
