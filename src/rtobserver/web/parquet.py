"""Write tables as Parquet, one group of rows at a time; pyarrow is an extra.

A group is held in memory until it is full: `GROUP_ROWS` rows or about `GROUP_BYTES` of them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

from rtobserver.web.columns import Column, Kind

GROUP_ROWS = 20_000
GROUP_BYTES = 8 * 1024 * 1024


def is_installed() -> bool:
    """Tell whether the extra `parquet` is there."""
    return importlib.util.find_spec("pyarrow") is not None


class Table:
    """Write one file, for whoever takes its bytes as they come; its methods are for one thread at a time."""

    def __init__(self, columns: Sequence[Column]) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        types: dict[Kind, Any] = {
            "text": pa.string(),
            "whole": pa.int64(),
            "number": pa.float64(),
            "truth": pa.bool_(),
            "time": pa.timestamp("us", tz="UTC"),
            "bytes": pa.binary(),
        }
        self._pa = pa
        self._schema = pa.schema([(column.name, types[column.kind]) for column in columns])
        self._names = [column.name for column in columns]
        self._sink = _Sink()
        self._writer = parquet.ParquetWriter(pa.PythonFile(self._sink, mode="w"), self._schema, compression="zstd")

    def group(self, rows: Sequence[Sequence[Any]]) -> bytes:
        """Add a group of rows, values in the order of the columns; gives the bytes that came of it."""
        values = zip(*rows, strict=True) if rows else ([] for _ in self._names)
        arrays = [
            self._pa.array(list(column), type=field.type) for column, field in zip(values, self._schema, strict=True)
        ]
        self._writer.write_table(self._pa.Table.from_arrays(arrays, schema=self._schema))
        return self._sink.taken()

    def close(self) -> bytes:
        """End the file; gives its last bytes."""
        self._writer.close()
        return self._sink.taken()


class _Sink:
    """Be a file that keeps nothing which was taken."""

    closed = False

    def __init__(self) -> None:
        self._held = bytearray()
        self._written = 0

    def write(self, data: Any) -> int:
        before = len(self._held)
        self._held += data
        self._written += len(self._held) - before
        return len(self._held) - before

    def tell(self) -> int:
        return self._written

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def taken(self) -> bytes:
        data = bytes(self._held)
        self._held.clear()
        return data
