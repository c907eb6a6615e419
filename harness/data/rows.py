"""Rows of Parquet and Arrow files, by pyarrow (extra ``hf``).

Arrow files are mapped: a row is read where it lies. Of a Parquet file the whole row group that a row is in
is decompressed; the latest ones are kept, so that rows in order cost one pass over the file.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from harness.errors import DataError, UsageError

if TYPE_CHECKING:
    import pyarrow as pa

Stamp = tuple[int, int]  # size, mtime_ns
_FILES_OPEN = 64
_GROUPS_KEPT = 4
_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"
_END = len(_END_OF_STREAM)
_LOADING = threading.Lock()  # threads that want the same row group decompress it once


def require_pyarrow() -> Any:
    """pyarrow; UsageError naming the extra where it isn't installed."""
    try:
        import pyarrow
    except ImportError:
        raise UsageError(
            "reading Parquet and Arrow files needs pyarrow: pip install 'transfer-harness[hf]'"
        ) from None
    return pyarrow


class RowFile(Protocol):
    """An open file of rows."""

    schema: pa.Schema
    count: int

    def columns(self, names: Sequence[str]) -> pa.Table:
        """All rows of some columns; ``a.b`` is the field b of a struct."""
        ...

    def around(self, column: str, row: int) -> tuple[pa.ChunkedArray, int]:
        """Values of ``column`` that include ``row``, and the row of the first of them."""
        ...

    def without(self, column: str, part: str) -> np.ndarray:
        """Bool ``[count]``: where a column (or with ``part`` the field of it) is null."""
        ...


def open_rows(file: str) -> RowFile:
    """A Parquet or Arrow file (streamed or not). Raises DataError naming one that can't be read."""
    require_pyarrow()
    try:
        status = os.stat(file)  # noqa: PTH116 - once an image
        return _opened(file, (status.st_size, status.st_mtime_ns, status.st_ctime_ns))
    except (OSError, ValueError) as error:  # pyarrow's errors are of these
        raise DataError(f"{file}: can't be read: {_reason(error)}") from error


def row_bytes(file: str, column: str, row: int) -> bytes:
    """The bytes of the image in a row: a binary value, or the field ``bytes`` of a struct."""
    with _LOADING:
        rows = open_rows(file)
        if column not in rows.schema.names or row >= rows.count:
            raise DataError(f"{file}: has no row {row} of a column '{column}': it isn't the file it was")
        try:
            values, first = rows.around(column, row)
        except (OSError, ValueError) as error:
            raise DataError(f"{file}, row {row}: can't be read: {_reason(error)}") from error
    value = values[row - first].as_py()
    if isinstance(value, dict):
        value = value.get("bytes")
    if not isinstance(value, bytes):
        raise DataError(f"{file}, row {row}: column '{column}' holds no image")
    return value


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error).splitlines() or [type(error).__name__])[0]


@lru_cache(maxsize=_FILES_OPEN)
def _opened(file: str, stamp: Stamp) -> RowFile:
    return _Arrow(file) if file.lower().endswith(".arrow") else _Parquet(file, stamp)


class _Arrow:
    def __init__(self, file: str) -> None:
        import pyarrow as pa

        with Path(file).open("rb") as stream:
            stream.seek(-min(_END, os.fstat(stream.fileno()).st_size), os.SEEK_END)
            end = stream.read()
        if end != _END_OF_STREAM and not end.endswith(b"ARROW1"):
            raise ValueError("it ends without the mark of its end: it was cut off")  # rows would be missed
        mapped = pa.memory_map(file)
        try:
            table = pa.ipc.open_stream(mapped).read_all()
        except pa.ArrowInvalid:
            mapped.seek(0)
            table = pa.ipc.open_file(mapped).read_all()
        self._table: pa.Table = table
        self.schema, self.count = table.schema, table.num_rows

    def columns(self, names: Sequence[str]) -> pa.Table:
        import pyarrow as pa
        import pyarrow.compute as pc

        def one(name: str) -> pa.ChunkedArray:
            if name in self.schema.names:
                return self._table.column(name)
            whole, _, part = name.rpartition(".")
            return pc.struct_field(self._table.column(whole), part)

        return pa.table([one(name) for name in names], names=list(names))

    def around(self, column: str, row: int) -> tuple[pa.ChunkedArray, int]:
        return self._table.column(column), 0

    def without(self, column: str, part: str) -> np.ndarray:
        values = self.columns([f"{column}.{part}" if part else column]).column(0)
        return np.asarray(values.is_null().to_numpy(), dtype=bool)


class _Parquet:
    def __init__(self, file: str, stamp: Stamp) -> None:
        import pyarrow.parquet as pq

        self._file, self._stamp = file, stamp
        self._open = pq.ParquetFile(file, memory_map=True)
        self.schema = self._open.schema_arrow
        meta = self._open.metadata
        self.count = meta.num_rows
        self._starts = np.cumsum([0, *(meta.row_group(i).num_rows for i in range(meta.num_row_groups))])

    def columns(self, names: Sequence[str]) -> pa.Table:
        import pyarrow as pa
        import pyarrow.compute as pc

        table = self._open.read(columns=list(names))

        def one(name: str) -> pa.ChunkedArray:
            if name in table.column_names:
                return table.column(name)
            whole, _, part = name.rpartition(".")
            return pc.struct_field(table.column(whole), part)

        return pa.table([one(name) for name in names], names=list(names))

    def around(self, column: str, row: int) -> tuple[pa.ChunkedArray, int]:
        number = int(np.searchsorted(self._starts, row, side="right")) - 1
        return _row_group(self._file, self._stamp, column, number), int(self._starts[number])

    def without(self, column: str, part: str) -> np.ndarray:
        absent = np.zeros(self.count, dtype=bool)
        leaf = f"{column}.{part}" if part else column
        meta = self._open.metadata
        for number in range(meta.num_row_groups):
            if _null_count(meta.row_group(number), leaf) == 0:
                continue  # images needn't be read to know that they are there
            values = self._open.read_row_group(number, columns=[leaf]).column(0)
            nulls = [value.as_py() is None or (part and value.as_py()[part] is None) for value in values]
            absent[self._starts[number] : self._starts[number + 1]] = nulls
        return absent


def _null_count(group: Any, leaf: str) -> int | None:
    for index in range(group.num_columns):
        chunk = group.column(index)
        if chunk.path_in_schema == leaf and chunk.statistics is not None:
            count: int | None = chunk.statistics.null_count
            return count
    return None


@lru_cache(maxsize=_GROUPS_KEPT)
def _row_group(file: str, stamp: Stamp, column: str, number: int) -> pa.ChunkedArray:
    opened = _opened(file, stamp)
    assert isinstance(opened, _Parquet)
    return opened._open.read_row_group(number, columns=[column]).column(0)
