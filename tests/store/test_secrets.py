from __future__ import annotations

from rtobserver.store import secrets
from rtobserver.store.writer import Writer


async def test_a_key_is_made_once_and_stays(writer: Writer) -> None:
    made = await writer.run(lambda transaction: secrets.keep(transaction, secrets.TOKEN_KEY))
    assert len(made) == secrets.KEY_BYTES
    assert await writer.run(lambda transaction: secrets.keep(transaction, secrets.TOKEN_KEY)) == made
    assert await writer.run(lambda transaction: secrets.keep(transaction, secrets.AUDIO_KEY)) != made
