"""Keys that rtobserver makes for itself, once per database."""

from __future__ import annotations

import os

import sqlalchemy as sa

from rtobserver.store import tables
from rtobserver.store.transaction import Transaction

TOKEN_KEY = "token_key"  # noqa: S105 - the name of a key
"""Seals the tokens that browsers get, unless the configuration has a key for it."""
AUDIO_KEY = "audio_hmac_key"
"""Stands for stripped audio: its HMAC can be compared, but not guessed without this key."""
LOGIN_KEY = "login_key"
"""Seals the cookies that say which operator has signed in."""
KEY_BYTES = 32


def keep(transaction: Transaction, name: str) -> bytes:
    """Give the key of this name, made at random if there was none; for `Writer.run`."""
    made = {"name": name, "value": os.urandom(KEY_BYTES)}
    transaction.execute(transaction.insert(tables.secret).values(made).on_conflict_do_nothing())
    [(value,)] = transaction.execute(sa.select(tables.secret.c.value).where(tables.secret.c.name == name))
    return bytes(value)
