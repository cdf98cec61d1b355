"""Run the scripts on the connection that `rtobserver.store.schema` lends, inside its transaction.

There is no `alembic.ini` and no URL here: a developer writes a new script with
`alembic revision -m "..." --rev-id NNNN` and runs it with `rtobserver migrate`.
"""

from __future__ import annotations

from alembic import context

connection = context.config.attributes.get("connection")
if connection is None:
    raise SystemExit("run `rtobserver migrate`: it lends the connection that these scripts need")

# the lender has begun the transaction, which holds SQLite's write lock; DDL is part of it
context.configure(
    connection=connection,
    target_metadata=context.config.attributes.get("metadata"),
    transactional_ddl=True,
)
context.run_migrations()
