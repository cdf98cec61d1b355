"""Name the items of a call that are known and whose final text did not come. Pure.

Of some of them it still comes: what is being generated, a transcription under way. `progress` tells
these from those of which nothing more is heard.
"""

from __future__ import annotations

from typing import NamedTuple

from rtobserver.realtime.conversation import Conversation
from rtobserver.realtime.item import Item


class Lack(NamedTuple):
    """Be one item without its final text."""

    item_id: str
    progress: tuple[int, ...] = ()
    """Grows as long as more of it comes, or of its response."""
    is_seen: bool = True
    """False where another item named it, and nothing else."""
    is_at_hand: bool = True
    """False where upstream cannot be asked for it: it is in no conversation."""


def lacking(talk: Conversation, *, transcribes: bool) -> list[Lack]:
    """List them; `transcribes` says that the words of the user are to be expected."""
    named = {item.previous for item in talk.items.values()}
    found = []
    for item in talk.items.values():
        if not item.lacks_text:
            continue
        if item.role == "user" and item.kind == "speech":
            # what was begun and not committed may still go on, or was nothing
            if transcribes and (item.visible or item.id in named):
                found.append(Lack(item.id))
        elif item.visible:
            response = talk.responses.get(item.response_id or "")
            outputs = [item] if response is None else talk.outputs(response)
            is_at_hand = response is None or not response.is_out_of_band
            found.append(Lack(item.id, _progress(outputs), is_at_hand=is_at_hand))
    return found + [Lack(item_id, is_seen=False) for item_id in talk.lost]


def _progress(outputs: list[Item]) -> tuple[int, ...]:
    texts = sum(len(item.texts) for item in outputs)
    return len(outputs), texts, sum(item.is_done for item in outputs), sum(item.size for item in outputs)
