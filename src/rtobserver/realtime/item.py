"""Working state of one item of a conversation, and the row that it makes."""

from __future__ import annotations

from typing import Any

from rtobserver.realtime import heard
from rtobserver.realtime.response import Response
from rtobserver.realtime.rows import ItemRow, Kind, Role
from rtobserver.realtime.values import MAX_TEXT, identifier, mapping, objects, text

MAX_DELTAS = 131_072
"""Longest text that is gathered from deltas, in characters; beyond it they are not checked."""
_JOIN = 4_096
"""Gathered deltas are joined each so many characters: small strings cost ten times their length."""

_ROLES: dict[str, Role] = {"user": "user", "assistant": "assistant", "system": "system"}
_STATUSES = {"in_progress", "completed", "incomplete"}


class Item:
    """Keep what is known of one item.

    `introduced` says that upstream announced it, so that it was not merely named; `added` that it
    was added to the conversation; `visible` that it is a line of the transcript; `open` that deltas
    are being gathered.
    """

    __slots__ = (
        "added",
        "called_at",
        "committed_at",
        "ended_at",
        "epoch",
        "error",
        "generated_by",
        "heard_by",
        "id",
        "idle",
        "introduced",
        "kind",
        "open",
        "parts",
        "previous",
        "recovered",
        "response_id",
        "role",
        "row",
        "seq",
        "size",
        "skipped",
        "speech_end",
        "speech_from_ms",
        "started_at",
        "status",
        "texts",
        "threshold",
        "tool_call_id",
        "tool_name",
        "tool_output",
        "transcribed",
        "truncated_ms",
        "turn",
        "visible",
    )

    def __init__(self, item_id: str, epoch: int, seq: int, at: int) -> None:
        self.id = item_id
        self.epoch = epoch
        self.seq = seq
        self.started_at: int | None = at
        self.ended_at: int | None = None
        self.introduced = False
        self.added = False
        self.visible = False
        self.previous: str | None = None
        self.response_id: str | None = None
        self.role: Role = "assistant"
        self.kind: Kind = "speech"
        self.status = "in_progress"
        self.error: str | None = None
        self.texts: dict[int, str] = {}
        self.open = False
        self.parts: list[str] = []
        self.size = 0
        self.threshold = _JOIN
        self.skipped = False
        self.idle = False
        self.turn = False
        self.speech_from_ms: int | None = None
        self.speech_end: int | None = None
        self.committed_at: int | None = None
        self.transcribed = False
        self.generated_by: str | None = None
        self.heard_by: str | None = None
        self.truncated_ms: int | None = None
        self.tool_name: str | None = None
        self.tool_call_id: str | None = None
        self.tool_output: str | None = None
        self.called_at: int | None = None
        self.recovered = False
        self.row: ItemRow | None = None

    @property
    def text(self) -> str:
        """The final text; until there is one, what deltas gave so far."""
        final = "\n".join(self.texts[index] for index in sorted(self.texts) if self.texts[index])
        # what came in deltas may hold what no column can
        return text(final + "".join(self.parts)) or ""

    @property
    def user_end(self) -> int | None:
        """When the user ceased to speak; without voice detection, when the speech was committed."""
        return self.speech_end if self.speech_end is not None else self.committed_at

    @property
    def is_done(self) -> bool:
        """True when nothing but corrections is to be expected."""
        return self.status != "in_progress" and not self.open

    @property
    def lacks_text(self) -> bool:
        """True while its final text did not come; a user's speech is told by its transcription."""
        if self.role == "user" and self.kind == "speech":
            return not self.texts and not self.idle and self.status not in {"failed", "deleted"}
        return not self.is_done

    def grow(self) -> None:
        """Join what was gathered, and stop gathering at the limit. Called when `size` passes `threshold`."""
        if self.size > MAX_DELTAS:
            self.stop_gathering()
            return
        self.parts = ["".join(self.parts)]
        self.threshold = self.size + _JOIN

    def stop_gathering(self) -> None:
        """Forget the deltas, and let the self-check skip this item."""
        self.parts = []
        self.open = False
        self.skipped = True

    def finish_part(self, index: int, final: str) -> bool:
        """Take the final text of one part of the content; say whether its deltas agree."""
        gathered, self.parts, self.size, self.open = "".join(self.parts), [], 0, False
        self.threshold = _JOIN
        self.recovered = False
        if final or index not in self.texts:
            self.texts[index] = final
        return self.skipped or not gathered or gathered[:MAX_TEXT] == final or text(gathered) == final

    def absorb(self, value: dict[str, Any], at: int) -> None:
        """Take in what upstream says of the item, in whatever event it says it."""
        kind = text(value.get("type"))
        if kind in {"mcp_list_tools", "mcp_approval_request", "mcp_approval_response"}:
            self.visible = False
            return
        if kind == "message" or kind is None:
            self._absorb_message(value)
        elif kind in {"function_call", "mcp_call"}:
            self.role, self.kind, self.visible = "assistant", "tool_call", True
            self.tool_name = text(value.get("name")) or self.tool_name
            self.tool_call_id = identifier(value.get("call_id")) or self.tool_call_id
            self._settle_text(value.get("arguments"))
            if kind == "mcp_call":
                self.tool_output = text(value.get("output")) or self.tool_output
                self._absorb_failure(value.get("error"))
        elif kind == "function_call_output":
            self.role, self.kind, self.visible = "tool", "tool_output", True
            self.tool_call_id = identifier(value.get("call_id")) or self.tool_call_id
            self._settle_text(value.get("output"))
            self.status = "completed" if self.status == "in_progress" else self.status
            self.ended_at = at if self.ended_at is None else self.ended_at
        status = text(value.get("status"))
        if status in _STATUSES and self.status in {"in_progress", "incomplete"} and status != "in_progress":
            self.status = status

    def recover(self, value: dict[str, Any]) -> bool:
        """Take in an item that was asked for, if it tells the final text; say whether it does.

        When it was said is not told that way, so that the times stay as they are.
        """
        if text(value.get("status")) == "in_progress":
            return False
        content = objects(value.get("content"))
        if text(value.get("type")) in {"message", None} and not any(_words(part) for part in content):
            return False
        ended_at = self.ended_at
        self.absorb(value, 0)
        self.ended_at = ended_at
        if self.role == "user":
            spoken = {index: _words(part) for index, part in enumerate(content) if part.get("type") == "input_audio"}
            self.texts.update((index, words) for index, words in spoken.items() if words)
        if self.visible and self.status == "in_progress":
            self.status = "completed"
        self.recovered = self.visible and not self.lacks_text
        return self.recovered

    def fail(self, error: object) -> None:
        """Note that a tool or a transcription failed, with the code if there is one."""
        code = text(mapping(error).get("code")) or text(mapping(error).get("type"))
        self.error = (code or text(error) or "unknown")[:200]
        if self.status != "deleted":
            self.status = "failed"

    def make_row(self, response: Response | None, siblings: list[Item]) -> ItemRow:
        """Make the row; `siblings` are the spoken items of its response, this one included."""
        speech = self.role == "assistant" and self.kind == "speech"
        started, ended = self.started_at, self.ended_at
        if speech and response is not None and response.playback_started_at is not None:
            # when it was said, not when it was generated: generation runs ahead of the sound
            started, ended = response.playback_started_at, response.playback_ended_at or ended
        whole = self.text
        heard_text, confidence = None, None
        if speech:
            if self.truncated_ms is not None:
                length = self._audio_ms(response, siblings)
                heard_text, confidence = heard.cut(whole, self.truncated_ms, length)
            elif response is not None and response.cleared_after_us is not None:
                start, length = self._offset_ms(response, siblings)
                played = response.cleared_after_us // 1000 - start
                if length is None or played < length:
                    heard_text, confidence = heard.cut(whole, played, length)
        cut_short = heard_text is not None or (response is not None and response.is_interrupted)
        return ItemRow(
            item_id=self.id,
            epoch=self.epoch,
            seq=self.seq,
            previous_item_id=self.previous,
            response_id=self.response_id,
            role=self.role,
            kind=self.kind,
            text=whole,
            heard_text=heard_text,
            heard_confidence=confidence,
            status=self.status,
            interrupted=speech and cut_short,
            started_at=started,
            ended_at=ended,
            tool_name=self.tool_name,
            tool_call_id=self.tool_call_id,
            called_at=self.called_at,
            tool_output=self.tool_output,
            out_of_band=response is not None and response.is_out_of_band,
            idle_timeout=self.idle,
            error=self.error,
            recovered=self.recovered,
        )

    def _absorb_message(self, value: dict[str, Any]) -> None:
        role = _ROLES.get(text(value.get("role")) or "")
        if role is not None:
            self.role = role
            self.visible = True
        content = objects(value.get("content"))
        types = {text(part.get("type")) for part in content}
        if types & {"input_audio", "output_audio", "audio"}:
            self.kind = "speech"
        elif types or self.role != "assistant":
            self.kind = "text" if self.committed_at is None else "speech"
        for index, part in enumerate(content):
            # a user's speech is told by its transcription alone (protocol, section 5.2)
            if self.role == "user" and part.get("type") != "input_text":
                continue
            words = _words(part)
            if words:
                self.texts[index] = words
                self.parts, self.open = [], False

    def _settle_text(self, value: object) -> None:
        words = text(value)
        if words:
            self.texts = {0: words}
            self.parts, self.open = [], False

    def _absorb_failure(self, error: object) -> None:
        if error:
            self.fail(error)

    def _audio_ms(self, response: Response | None, siblings: list[Item]) -> int | None:
        return None if response is None else self._offset_ms(response, siblings)[1]

    def _offset_ms(self, response: Response, siblings: list[Item]) -> tuple[int, int | None]:
        """Place the item in its response's audio, by the share of its text: start and length."""
        audio_ms = response.usage.output_audio * heard.AUDIO_TOKEN_MS if response.usage else 0
        lengths = [len(each.text) for each in siblings]
        before = sum(lengths[: siblings.index(self)]) if self in siblings else 0
        total = sum(lengths)
        if not audio_ms or not total:
            return heard.spoken_ms(" " * before), None
        return audio_ms * before // total, audio_ms * len(self.text) // total


def _words(part: dict[str, Any]) -> str | None:
    return text(part.get("text")) or text(part.get("transcript"))
