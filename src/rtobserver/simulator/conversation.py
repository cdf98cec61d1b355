"""The state of one call's conversation, as upstream keeps it: session, items, responses, playback.

Pure but for the ids: no clock and no socket. `responses.py` and `script.py` make it speak,
`acknowledgements.py` lets clients change it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

from rtobserver.simulator.beats import Json
from rtobserver.simulator.faults import Faults
from rtobserver.simulator.frames import Frames
from rtobserver.simulator.ids import Ids, Provider
from rtobserver.simulator.media import Loudspeaker
from rtobserver.simulator.voice import Voice

SECONDS_PER_WORD = 0.35
UNSCRIPTED = "[words that no script foresaw]"
"""The transcript of what a caller really says beyond the script: nobody here understands words."""


def speaking_seconds(text: str) -> float:
    """Estimate how long it takes to say a text."""
    return round(max(1, len(text.split())) * SECONDS_PER_WORD, 3)


@dataclass(frozen=True, slots=True)
class Answer:
    """Say what the model's next response is to contain."""

    text: str = ""
    seconds: float = 0.0
    """How long it plays; 0 is the time that the words take."""
    latency: float = 0.4
    function: tuple[str, str] | None = None
    """Name and arguments of a function call, instead of words."""
    fails: tuple[Literal["failed", "incomplete"], str] | None = None
    """Status and reason with which the response breaks off."""


@dataclass(slots=True, eq=False)
class Response:
    """Hold a response from its creation to its `response.done`."""

    id: str
    modalities: list[str]
    voice: object
    max_tokens: object
    metadata: object
    apart: bool
    """Out of band: outside the conversation, beside any other response."""
    status: str = "in_progress"
    item_id: str = ""
    """Of the item that is being generated, once it was added."""
    follows: str | None = None
    """The item before it."""
    text: str = ""
    """What was generated so far; a function call's arguments, if it is one."""
    function: tuple[str, str] | None = None
    """Name and call id."""
    finished: list[Json] = field(default_factory=list)
    text_in: int = 0
    audio_in: int = 0

    def is_over(self) -> bool:
        """Say whether its `response.done` is out; a timeline asks again after each pause."""
        return self.status != "in_progress"

    @property
    def speaks(self) -> bool:
        """Say whether it answers in sound."""
        return self.modalities == ["audio"]


@dataclass(slots=True, eq=False)
class Exchange:
    """Hold what a script lets the caller have said, when the caller really speaks."""

    user: str
    answer: Answer
    transcription_error: str = ""
    is_over: bool = False


@dataclass(slots=True, eq=False)
class Playback:
    """Hold what the browser is hearing."""

    response_id: str
    item_id: str
    heard_seconds: float = 0.0
    is_over: bool = False


class Conversation:
    """Keep the state of one call."""

    def __init__(self, provider: Provider, ids: Ids, faults: Faults, session: Json) -> None:
        self.provider = provider
        self.ids = ids
        self.faults = faults
        self.session = session
        self.frames = Frames(provider, ids)
        self.id = ids.stamped("conv_")
        self.items: dict[str, Json] = {}
        """Items by id, in the order of the conversation."""
        self.audio_seconds: dict[str, float] = {}
        """How much sound an item holds."""
        self.active: Response | None = None
        """The default conversation's response that is being generated."""
        self.apart: dict[str, Response] = {}
        """Out-of-band responses that are being generated."""
        self.playback: Playback | None = None
        self.loudspeaker: Loudspeaker | None = None
        """Really plays the model's speech; None where that is only told."""
        self.voice: Voice | None = None
        """The caller's real voice, where that begins turns; None where the script says when the user speaks."""
        self.expected: deque[Exchange] = deque()
        """What the caller is going to say."""
        self.last_spoken: str | None = None
        """The last response that began to play."""
        self.prepared: Answer | None = None
        """What the script wants the next response to say, whoever asks for it."""
        self.input_seconds = 1.2
        """The input clock: sound received since the session began."""
        self.response_count = 0
        self.tokens_left = 15_000_000

    @property
    def is_busy(self) -> bool:
        """Say whether the model is generating or still being heard."""
        return self.active is not None or self.playback is not None

    @property
    def has_sound(self) -> bool:
        """Say whether the caller can be told to hear something."""
        return self.faults.media_path and (self.loudspeaker is None or self.loudspeaker.is_ready)

    @property
    def last_item(self) -> str | None:
        """Give the id of the last item."""
        return next(reversed(self.items), None)

    @property
    def turn_detection(self) -> Json | None:
        """Give the session's turn detection, or None where the page commits by itself."""
        detection: Json | None = self.session["audio"]["input"]["turn_detection"]
        return detection

    @property
    def transcription(self) -> Json | None:
        """Give the session's transcription settings, or None where it is off."""
        transcription: Json | None = self.session["audio"]["input"]["transcription"]
        return transcription

    def add_item(self, item: Json, *, after: str | None = None) -> tuple[Json, Json]:
        """Put a finished item into the conversation and give its `added` and `done`.

        `after` is an item's id, `root` for the front, or None for the end.
        """
        order = list(self.items)
        place = 0 if after == "root" else order.index(after) + 1 if after else len(order)
        previous = order[place - 1] if place else None
        order.insert(place, item["id"])
        self.items[item["id"]] = item
        self.items = {key: self.items[key] for key in order}
        return (
            self.frames.plain("conversation.item.added", previous_item_id=previous, item=item),
            self.frames.plain("conversation.item.done", previous_item_id=previous, item=item),
        )

    def transcribed(self, item_id: str, transcript: str) -> None:
        """Keep the words of what the user said, for those who ask for the item."""
        item = self.items.get(item_id)
        if item is not None:
            self.items[item_id] = {**item, "content": [{"type": "input_audio", "transcript": transcript}]}

    def begin(self, request: Json) -> Response:
        """Open a response with the settings of a `response.create`; an empty one takes the session's."""
        audio = self.session["audio"]["output"]
        wanted = (request.get("audio") or {}).get("output") or {}
        self.response_count += 1
        response = Response(
            id=self.ids.stamped("resp_"),
            modalities=list(request.get("output_modalities") or self.session["output_modalities"]),
            voice=wanted.get("voice", audio["voice"]),
            max_tokens=request.get("max_output_tokens", self.session["max_output_tokens"]),
            metadata=request.get("metadata"),
            apart=request.get("conversation") == "none",
        )
        response.text_in, response.audio_in = self._context()
        if response.apart:
            self.apart[response.id] = response
        else:
            self.active = response
        return response

    def end(self, response: Response) -> None:
        """Forget a response that is over."""
        self.apart.pop(response.id, None)
        if self.active is response:
            self.active = None

    def play(self, response: Response, seconds: float) -> Playback:
        """Begin to play a response's sound."""
        self.playback = Playback(response.id, response.item_id)
        self.last_spoken = response.id
        if self.loudspeaker is not None:
            self.loudspeaker.say(seconds)
        return self.playback

    def stop_playing(self) -> Playback | None:
        """End the playback, if there is one."""
        playback, self.playback = self.playback, None
        if playback is not None:
            playback.is_over = True
            if self.loudspeaker is not None:
                playback.heard_seconds = self.loudspeaker.heard_seconds
                self.loudspeaker.hush()
        return playback

    def _context(self) -> tuple[int, int]:
        text = len(self.session["instructions"]) // 4
        audio = 0.0
        for key, item in self.items.items():
            seconds = self.audio_seconds.get(key, 0.0)
            audio += seconds * (10 if item.get("role") == "user" else 20)
            text += 4 + sum(len(str(part.get("text") or "")) // 4 for part in item.get("content", ()))
        return text, round(audio)
