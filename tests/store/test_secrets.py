from __future__ import annotations

from rtobserver.store import secrets
from rtobserver.store.writing import Writing


async def test_a_key_is_made_once_and_stays(writing: Writing) -> None:
    made = await writing.run(lambda transaction: secrets.keep(transaction, secrets.TOKEN_KEY))
    assert len(made) == secrets.KEY_BYTES
    assert await writing.run(lambda transaction: secrets.keep(transaction, secrets.TOKEN_KEY)) == made
    assert await writing.run(lambda transaction: secrets.keep(transaction, secrets.AUDIO_KEY)) != made
