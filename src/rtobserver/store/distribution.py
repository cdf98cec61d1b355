"""Spread the tables of calls over the nodes of a Citus cluster (`store.distribution = "citus"`).

Every table of calls is distributed by `call_key` and lies beside `call`, so that all rows of a call are on
one node and joins within a call stay there. The others are ordinary tables of the node that one connects to,
the coordinator. What makes that possible are rules about the schema and about statements, which hold on every
PostgreSQL and are tested there (`tests/store/test_distribution.py`).
"""

from __future__ import annotations

import sqlalchemy as sa

from rtobserver.errors import StoreError
from rtobserver.store import tables

COLUMN = "call_key"
FIRST = tables.call.name
"""The table that the others lie beside."""


def distribute(connection: sa.Connection) -> list[str]:
    """Distribute the tables of calls that are not distributed yet, with the rows that they hold; gives their names.

    Raises:
        StoreError: the server has no Citus.

    """
    if connection.execute(sa.text("SELECT to_regclass('pg_dist_partition')::text")).scalar() is None:
        raise StoreError('store.distribution is "citus", and this database has no extension citus')
    statement = sa.text("SELECT logicalrelid::text FROM pg_dist_partition")
    done = {str(name).strip('"') for name in connection.execute(statement).scalars()}
    begun = []
    for table in tables.PER_CALL:
        if table.name in done:
            continue
        beside = "default" if table.name == FIRST else FIRST
        connection.execute(
            sa.text(
                "SELECT create_distributed_table(CAST(:name AS regclass), :column, 'hash', colocate_with => :beside)"
            ),
            {"name": f'"{table.name}"', "column": COLUMN, "beside": beside},
        )
        begun.append(table.name)
    return begun
