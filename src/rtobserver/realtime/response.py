"""Working state of one response of the model, and the row that it makes."""

from __future__ import annotations

from rtobserver.realtime.rows import ResponseRow, Usage


class Response:
    """Keep what is known of one response."""

    __slots__ = (
        "barged",
        "cleared",
        "counted",
        "created_at",
        "done_at",
        "epoch",
        "first_output_at",
        "generated_first",
        "heard_first",
        "id",
        "in_conversation",
        "items",
        "linked",
        "null_conversation",
        "playback_ended_at",
        "playback_started_at",
        "reason",
        "row",
        "seq",
        "status",
        "text_only",
        "truncated",
        "usage",
        "user_end",
        "user_id",
    )

    def __init__(self, response_id: str, epoch: int, seq: int) -> None:
        self.id = response_id
        self.epoch = epoch
        self.seq = seq
        self.status = "in_progress"
        self.reason: str | None = None
        self.null_conversation = False
        self.in_conversation = False
        self.text_only = False
        self.user_id: str | None = None
        self.user_end: int | None = None
        self.linked = False
        self.created_at: int | None = None
        self.done_at: int | None = None
        self.first_output_at: int | None = None
        self.playback_started_at: int | None = None
        self.playback_ended_at: int | None = None
        self.cleared = False
        self.barged = False
        self.truncated = False
        self.counted = False
        self.generated_first = False
        self.heard_first = False
        self.usage: Usage | None = None
        self.items: list[str] = []
        self.row: ResponseRow | None = None

    @property
    def is_done(self) -> bool:
        """True once it ended."""
        return self.status != "in_progress"

    @property
    def is_out_of_band(self) -> bool:
        """True where it names no conversation, and none of its items was added to one."""
        return self.null_conversation and not self.in_conversation

    @property
    def is_interrupted(self) -> bool:
        """True where the user cut in, before or after it was done.

        A client that cancels and clears is no interruption, unless the user spoke over it.
        """
        if self.is_out_of_band:
            return False
        if self.barged or self.reason == "turn_detected":
            return True
        return (self.cleared or self.truncated) and self.reason != "client_cancelled"

    @property
    def cleared_after_us(self) -> int | None:
        """How long it played before the player was cleared; None where it was not."""
        if not self.cleared or self.playback_started_at is None or self.playback_ended_at is None:
            return None
        return max(self.playback_ended_at - self.playback_started_at, 0)

    @property
    def heard_latency_ms(self) -> int | None:
        """From the end of the user's speech to the sound; only the first sound of a turn has one."""
        return self._after_user(self.playback_started_at) if self.heard_first else None

    @property
    def generation_latency_ms(self) -> int | None:
        """From the end of the user's speech to the first output; only the first output of a turn has one."""
        return self._after_user(self.first_output_at) if self.generated_first else None

    def make_row(self) -> ResponseRow:
        """Make the row."""
        return ResponseRow(
            response_id=self.id,
            epoch=self.epoch,
            seq=self.seq,
            status=self.status,
            reason=self.reason,
            out_of_band=self.is_out_of_band,
            user_item_id=None if self.is_out_of_band else self.user_id,
            created_at=self.created_at,
            done_at=self.done_at,
            first_output_at=self.first_output_at,
            playback_started_at=self.playback_started_at,
            playback_ended_at=self.playback_ended_at,
            playback_cleared=self.cleared,
            interrupted=self.is_interrupted,
            heard_latency_ms=self.heard_latency_ms,
            generation_latency_ms=self.generation_latency_ms,
            usage=self.usage,
        )

    def _after_user(self, at: int | None) -> int | None:
        if at is None or self.user_end is None or at < self.user_end or self.is_out_of_band:
            return None
        return (at - self.user_end) // 1000
