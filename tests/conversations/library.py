"""Conversations, each with its transcript, turns, metrics and cost, reckoned by hand.

Prices are those of `played.py`, in millionths of a dollar a token: text 4 in, 0.4 cached, 16 out;
audio 32 in, 64 out. A second of transcription costs 0.0001 dollars. Each transcription is of 3 s
unless its script says otherwise.
"""

from __future__ import annotations

from tests.conversations import scripts
from tests.conversations.played import Conversation

HINT = (
    "there is no deployment of that name: on Azure `audio.input.transcription.model` is the name of a "
    "deployment, so deploy a transcription model and put its deployment's name into the profile"
)

LIBRARY = [
    Conversation(
        "plain",
        scripts.plain,
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
        scripts.typed,
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
        scripts.barge_in,
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
        scripts.barge_in_after_the_response,
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
        scripts.false_barge_in,
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
        scripts.chained_tools,
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
        scripts.mcp,
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
        scripts.cancelled,
        [
            "user speech: Tell me a story.",
            # 1000 of 40 tokens * 50 ms: the eighth of 16 characters, back to a whole word
            "assistant speech: Once upon a time | Once (incomplete)",
        ],
        [
            {
                "user_item_id": "U1", "response_ids": ["R1"], "user_text": "Tell me a story.",
                "assistant_text": "Once upon a time", "heard_latency_ms": 500, "generation_latency_ms": 200,
                "span": (0, 2500),
            }
        ],
        # a client that stops the model is no interruption by the user
        {"turn_count": 1, "cost_usd": "0.00286", "first_audio": (500, 500), "generation": (200, 200)},
        {"user_talk_ms": 1000, "assistant_talk_ms": 1000, "dead_air_ms": 500},
    ),
    Conversation(
        "failed",
        scripts.failed,
        ["user text: Hello?"],
        [{"user_item_id": "U1", "response_ids": ["R1"], "user_text": "Hello?", "span": (0, 200)}],
        {"turn_count": 1, "error_count": 2, "cost_usd": "0"},
        usage={"responses_without_usage": 1},
    ),
    Conversation(
        "content filter",
        scripts.content_filter,
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
        scripts.no_transcription,
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
        scripts.late_transcription,
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
        scripts.transcription_failed,
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
        scripts.idle_time_out,
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
        scripts.out_of_band,
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
        scripts.beta_names,
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
        scripts.two_gaps,
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
        scripts.greeting,
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
