"""The rules that keep the schema fit for partitions and for more than one node."""

from __future__ import annotations

from types import NoneType
from typing import get_args

import msgspec
import pytest
import sqlalchemy as sa

from rtobserver.realtime.rows import ItemRow, ResponseRow
from rtobserver.store import tables

OWN = ("call_key", "day")


@pytest.mark.parametrize("table", tables.PER_CALL, ids=lambda table: str(table.name))
def test_every_key_of_a_calls_table_starts_with_the_call(table: sa.Table) -> None:
    if table is tables.call:
        assert [column.name for column in table.primary_key] == ["call_key"]
        return
    keys = [
        list(key.columns) for key in table.constraints if isinstance(key, sa.PrimaryKeyConstraint | sa.UniqueConstraint)
    ]
    for columns in filter(None, keys):
        assert [column.name for column in columns][:2] == list(OWN)


def test_no_table_has_foreign_keys_or_sequences_or_defaults() -> None:
    for table in tables.metadata.tables.values():
        assert not table.foreign_keys
        for column in table.columns:
            assert column.default is None
            assert column.server_default is None
            assert column.autoincrement is not True


def test_no_index_on_event_ids_is_unique_and_an_entry_has_one_index() -> None:
    assert not tables.entry.indexes
    uniques = [key for key in tables.entry.constraints if isinstance(key, sa.UniqueConstraint)]
    assert [[column.name for column in key.columns] for key in uniques] == [["call_key", "day", "epoch", "seq"]]


@pytest.mark.parametrize(("row", "table"), [(ItemRow, tables.item), (ResponseRow, tables.response)])
def test_folded_rows_and_their_tables_have_the_same_names(row: type[ItemRow | ResponseRow], table: sa.Table) -> None:
    assert set(row.__struct_fields__) == {column.name for column in table.columns} - set(OWN)
    for field in msgspec.structs.fields(row):
        assert table.columns[field.name].nullable == (NoneType in get_args(field.type)), field.name
