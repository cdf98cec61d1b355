"""What happens in the conversations of the library; times are milliseconds since a call's beginning."""

from __future__ import annotations

from typing import Any

from tests.conversations.played import Talk
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
