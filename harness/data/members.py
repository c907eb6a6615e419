"""Images that lie inside another file: in a tar shard, or in a row of a Parquet or Arrow file.

The path of such an image is ``FILE!/MEMBER``, as URLs into Java's archives write it.
``shard-000.tar!/1536+2048/cat/0001.jpg`` says offset and size in bytes (the rest is for people to read),
``train.parquet!/image/17`` column and row. So a path alone is enough to read an image, without an index.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from harness.errors import DataError

MARK = "!/"
_TAR, _ROWS = (".tar",), (".parquet", ".arrow")
_LARGEST = 2**30  # bytes of one image file; the largest photographs take a tenth of it


def split_member(path: str) -> tuple[str, str] | None:
    """FILE and MEMBER of ``FILE!/MEMBER``; None for a file of its own."""
    at = path.find(MARK)
    while at >= 0:
        if path[:at].lower().endswith((*_TAR, *_ROWS)):
            return path[:at], path[at + len(MARK) :]
        at = path.find(MARK, at + 1)
    return None


def file_of(path: str) -> str:
    """The file that the image at ``path`` lies in, or is."""
    inside = split_member(path)
    return path if inside is None else inside[0]


def home_of(path: str) -> str:
    """What holds the image: the folder of a file of its own, else ``FILE!``; the rest of ``path`` is its
    name there.
    """
    inside = split_member(path)
    return os.path.dirname(path) if inside is None else f"{inside[0]}!"  # noqa: PTH120 - 200,000 of them


def tar_member(file: str, offset: int, size: int, name: str) -> str:
    """The path of the ``size`` bytes at ``offset`` of a tar file, called ``name`` there."""
    return f"{file}{MARK}{offset}+{size}/{name}"


def row_member(file: str, column: str, row: int) -> str:
    """The path of the image in a row of a Parquet or Arrow file."""
    return f"{file}{MARK}{column}/{row}"


def _check_file(path: str, status: os.stat_result) -> None:
    """Raises OSError for what never ends or never begins: a device, a pipe, a file that no image fills."""
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        raise OSError(errno.EINVAL, "it is a device, a pipe or a socket", path)
    if status.st_size > _LARGEST:
        raise OSError(errno.EFBIG, f"it has {status.st_size / 2**30:.1f} GiB, which no image has", path)


def read_bytes(path: str) -> bytes:
    """The bytes of an image, wherever it lies. Raises OSError, or DataError where FILE isn't what it was."""
    inside = split_member(path)
    if inside is None:
        _check_file(path, os.stat(path))  # noqa: PTH116 - once an image
        return Path(path).read_bytes()
    file, member = inside
    if file.lower().endswith(_TAR):
        return _read_span(file, member)
    from harness.data.rows import row_bytes  # pyarrow is an extra

    column, _, row = member.rpartition("/")
    if not (column and row.isdecimal()):
        raise DataError(f"{path}: names no row: expected FILE{MARK}COLUMN/ROW")
    return row_bytes(file, column, int(row))


def _read_span(file: str, member: str) -> bytes:
    span, _, name = member.partition("/")
    offset, _, size = span.partition("+")
    if not (offset.isdecimal() and size.isdecimal()):
        raise DataError(f"{file}{MARK}{member}: names no bytes: expected FILE{MARK}OFFSET+SIZE/NAME")
    with Path(file).open("rb") as stream:
        stream.seek(int(offset))
        data = stream.read(int(size))
    if len(data) < int(size):
        raise DataError(f"{file}: ends before the end of {name}: it was cut off")
    return data
