"""Server events, written by hand in the key order that the recordings show (protocol.md 3.4)."""

from __future__ import annotations

from rtobserver.simulator.beats import Json
from rtobserver.simulator.ids import Ids, Provider


class Frames:
    """Write the events of one vendor."""

    def __init__(self, provider: Provider, ids: Ids) -> None:
        self._provider = provider
        self._ids = ids

    def plain(self, kind: str, **fields: object) -> Json:
        """Write an event that is its type, its id and `fields` in the order given."""
        return {"type": kind, "event_id": self._ids.event(), **fields}

    def buffer(self, what: str, response_id: str) -> Json:
        """Write `output_audio_buffer.started`, `.stopped` or `.cleared`."""
        return {
            "type": f"output_audio_buffer.{what}",
            "event_id": self._ids.buffer_event(),
            "response_id": response_id,
        }

    def part(self, kind: str, response_id: str, item_id: str, **fields: object) -> Json:
        """Write an event about the first part of a response's item."""
        return self.plain(
            f"response.{kind}",
            response_id=response_id,
            item_id=item_id,
            output_index=0,
            content_index=0,
            **fields,
        )

    def content_part(self, when: str, response_id: str, item_id: str, part: Json) -> Json:
        """Write `response.content_part.added` or `.done`; Azure repeats the part as `content`."""
        event = self.part(f"content_part.{when}", response_id, item_id, part=part)
        if self._provider == "azure":
            event["content"] = dict(part)
        return event

    def padded(self, event: Json) -> Json:
        """Add the padding by which upstream hides the length of a delta."""
        event["obfuscation"] = self._ids.letters(16 - len(event["delta"]) % 16)
        return event

    def error(self, code: str | None, message: str, *, param: str | None = None, cause: str | None = None,
              kind: str = "invalid_request_error") -> Json:  # fmt: skip
        """Write an error; `cause` is the `event_id` of the client event that failed."""
        return self.plain(
            "error",
            error={"type": kind, "code": code, "message": message, "param": param, "event_id": cause},
        )


def usage(*, text_in: int, audio_in: int, cached: int, text_out: int, audio_out: int) -> Json:
    """Write the token counts of a response; all cached tokens are text."""
    return {
        "total_tokens": text_in + audio_in + text_out + audio_out,
        "input_tokens": text_in + audio_in,
        "output_tokens": text_out + audio_out,
        "input_token_details": {
            "text_tokens": text_in,
            "audio_tokens": audio_in,
            "image_tokens": 0,
            "cached_tokens": cached,
            "cached_tokens_details": {"text_tokens": cached, "audio_tokens": 0, "image_tokens": 0},
        },
        "output_token_details": {"text_tokens": text_out, "audio_tokens": audio_out},
    }


def pieces(text: str) -> list[str]:
    """Cut a text as upstream cuts it into deltas: words with the blank before them, signs alone."""
    found: list[str] = []
    word = ""
    for letter in text:
        if letter in ".,!?;:":
            found += [word, letter] if word else [letter]
            word = ""
        elif letter == " " and word.strip():
            found.append(word)
            word = letter
        else:
            word += letter
    return [*found, word] if word else found
