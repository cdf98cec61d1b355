"""The commands that docs/policies.md shows print what it shows."""

from __future__ import annotations

import json
import re
from pathlib import Path

from rtobserver.clock import SystemClock
from tests.conversations.played import Talk, record
from tests.process.stage import run
from tests.store.stored import fresh, writer_of

DOCUMENT = (Path(__file__).parents[1] / "docs" / "policies.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"```\n\$ rtobserver (.*?)\n(.*?)```", DOCUMENT, re.DOTALL)
FIRST, TEST = (
    re.search(rf"```toml\n(\[\[{name}\]\]\n.*?)```", DOCUMENT, re.DOTALL)[1]  # type: ignore[index]
    for name in ("policy", r"policy\.test")
)
CONFIG = """
[upstream]
provider = "azure"
base_url = "https://RESOURCE.openai.azure.com/openai/v1"
auth = "entra"
[store]
url = "sqlite:///calls.db"
[[profile]]
name = "default"
[profile.session]
type = "realtime"
model = "gpt-realtime"
audio = { input = { transcription = { model = "whisper-1" } } }
"""
CALLS = [
    ("Where is my parcel?", "It left our warehouse this morning."),
    ("It never came.", "Then you get your money back, of course."),
    ("Can I send it back?", "Yes, and the refund takes three days."),
]


def talk(user: str, assistant: str) -> Talk:
    spoken = Talk()
    spoken.speaks("item_u1", 0, 1000)
    spoken.is_transcribed("item_u1", user)
    spoken.at(1100).creates("resp_1")
    spoken.at(1400).says("resp_1", "item_a1", "item_u1", assistant)
    spoken.at(2000).ends("resp_1")
    return spoken


def deltas(*texts: str) -> str:
    place = {"response_id": "resp_1", "item_id": "item_1", "output_index": 0, "content_index": 0}
    events = [{"type": "response.output_audio_transcript.delta", **place, "delta": text} for text in texts]
    return "\n".join(map(json.dumps, events))


async def lay_out(folder: Path) -> None:
    """Make the folder in which the document's commands are typed."""
    path = fresh(folder)
    writer = writer_of(path)
    await writer.open()
    now = SystemClock().now_us()
    for number, (user, assistant) in enumerate(CALLS):
        began = now - (len(CALLS) - number) * 3_600_000_000
        await record(writer, f"rtc_8Xk2{number}vQ", talk(user, assistant).happened, began)
    await writer.close()
    path.rename(folder / "calls.db")
    (folder / "config.toml").write_text(f"{CONFIG}\n{FIRST}\n{TEST}")
    (folder / "refund.ndjson").write_text(deltas("You get a ref", "und"))


def timeless(text: str) -> list[str]:
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "TIME", text)
    text = re.sub(r"in [\d.]+ s \([\d,]+ entries/s\)", "in SECONDS", text)
    return [line.rstrip() for line in text.strip().splitlines()]


async def test_the_commands_of_the_guide_print_what_it_shows(tmp_path: Path) -> None:
    await lay_out(tmp_path)
    assert [words.split()[1] for words, _ in COMMANDS] == ["check", "replay", "explain", "test", "test"]
    for words, shown in COMMANDS:
        if "FAILED" in shown:
            config = tmp_path / "config.toml"
            config.write_text(config.read_text().replace('"say", "tag"] }]', '"say"] }]'))
        _, out, err = await run(*words.split(), folder=tmp_path)
        assert timeless(out) == timeless(shown), err
