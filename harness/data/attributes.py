"""The text files of CelebA: binary attributes by file name, and pairs of a file name and a value.

202,599 rows of 40 attributes are too many for a loop in Python, so the attribute file is taken
apart with NumPy: where the fields begin and end, how many there are on a line, what they say.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.errors import DataError

_NAME_COLUMNS = ("image_id", "filename")
_BLOCK = 1 << 20  # bytes
_QUOTED = re.compile(rb'(?m)(^|,)"([^",\n]*)"(?=,|$)')
_EMPTY = re.compile(rb"(?m)^,|,,|,$")


@dataclass(frozen=True)
class AttributeFile:
    """File names, attribute names and values, int8 ``[files, attributes]`` of 0/1, in file order."""

    files: tuple[str, ...]
    attributes: tuple[str, ...]
    values: np.ndarray


def read_attributes(path: Path) -> AttributeFile:
    """Read ``list_attr_celeba.txt`` (a count, the names, the rows) or a CSV with a header.

    Values -1 and 0 both become 0. Raises DataError naming the file, and the line where one is at
    fault: a count or a number of columns that doesn't fit, another value, a file named twice, no text.
    """
    data = _read(path)
    comma = path.suffix.lower() == ".csv"
    first, _, rest = data.partition(b"\n")
    if comma:
        header, body, first_row, count = first, rest, 2, None
    else:
        count = _count(path, first)
        header, _, body = rest.partition(b"\n")
        first_row = 3
    attributes = _header(path, header, comma, first_row - 1)
    body = _unquoted(path, body, first_row) if comma else body.rstrip()
    files, values = _rows(path, body, len(attributes) + 1, b",\n" if comma else b" \t\n", first_row)
    if count is not None and count != len(files):
        raise DataError(f"{path}, line 1: announces {count} rows, but there are {len(files)}")
    _check_unique(path, files, first_row)
    return AttributeFile(files, attributes, values)


def read_pairs(path: Path, files: Sequence[str]) -> tuple[str, ...]:
    """The value of each of ``files`` from a file of lines ``NAME VALUE`` (CSV: a header, then commas)."""
    comma = path.suffix.lower() == ".csv"
    found: dict[str, str] = {}
    for number, line in enumerate(_read(path).rstrip().split(b"\n"), start=1):
        pair = _cells(path, line, comma, number)
        if len(pair) != 2:
            raise DataError(f"{path}, line {number}: {len(pair)} columns, expected 2")
        if pair[0] in found:
            raise DataError(f"{path}, line {number}: names {pair[0]!r} a second time")
        if number > comma:  # a CSV begins with its header
            found[pair[0]] = pair[1].strip()
    try:
        return tuple([found[name] for name in files])
    except KeyError as error:
        raise DataError(f"{path}: has no line for {error.args[0]}, which the attribute file lists") from error


def _read(path: Path) -> bytes:
    """UTF-8 text whose lines end in a newline, without the mark that may precede it."""
    try:
        data = path.read_bytes().removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n")
        data.decode("utf-8")
    except OSError as error:
        raise DataError(f"{path}: can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}, {_line_at(data, error.start)}: not UTF-8 text: {error.reason}") from error
    for character, what in ((b"\0", "a NUL"), (b"\r", "a carriage return without a newline")):
        if (at := data.find(character)) >= 0:
            raise DataError(f"{path}, {_line_at(data, at)}: {what}: not a text file as CelebA's are")
    return data


def _line_at(data: bytes, at: int, first: int = 1) -> str:
    number = first + data.count(b"\n", 0, at)
    return f"line {number}"


def _cells(path: Path, line: bytes, comma: bool, number: int) -> list[str]:
    """What stands on a line between commas, or between spaces and tabs."""
    if not comma:
        return [cell.decode() for cell in line.split()]
    try:
        return next(csv.reader([line.decode()], strict=True), [])
    except csv.Error as error:
        raise DataError(f"{path}, line {number}: not a row of a CSV: {error}") from error


def _unquoted(path: Path, body: bytes, first_row: int) -> bytes:
    """The rows of a CSV without the quotes around its cells, none of which is empty."""
    body = body.rstrip(b"\n")
    body = _QUOTED.sub(rb"\1\2", body) if b'"' in body else body
    if (at := body.find(b'"')) >= 0:
        raise DataError(f"{path}, {_line_at(body, at, first_row)}: a quote that isn't around a cell")
    if empty := _EMPTY.search(body):
        raise DataError(f"{path}, {_line_at(body, empty.start(), first_row)}: an empty cell")
    return body


def _count(path: Path, line: bytes) -> int:
    try:
        return int(line)
    except ValueError:
        raise DataError(f"{path}, line 1: expected the number of rows") from None


def _header(path: Path, line: bytes, comma: bool, number: int) -> tuple[str, ...]:
    names = _cells(path, line, comma, number)
    if comma:
        names = [name.strip() for name in names]
        if (first := names[0] if names else "") not in _NAME_COLUMNS:
            expected = " or ".join(_NAME_COLUMNS)
            raise DataError(f"{path}, line {number}: the first column is {first!r}, expected {expected}")
        names = names[1:]
    if not names:
        raise DataError(f"{path}, line {number}: expected the names of the attributes")
    if len(set(names)) < len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise DataError(f"{path}, line {number}: names the attribute {twice!r} twice")
    return tuple(names)


def _rows(
    path: Path, body: bytes, columns: int, separators: bytes, first_row: int
) -> tuple[tuple[str, ...], np.ndarray]:
    """File names and int8 ``[rows, columns - 1]`` of 0/1."""
    if not body:
        raise DataError(f"{path}: lists no images")
    body += b"\n"
    is_separator = np.zeros(256, dtype=bool)
    is_separator[list(separators)] = True
    files: list[str] = []
    values: list[np.ndarray] = []
    begin = 0
    while begin < len(body):  # by blocks of whole lines: what NumPy makes of one stays in the cache
        end = body.find(b"\n", begin + _BLOCK) + 1 or len(body)
        names, found = _block(path, body[begin:end], columns, is_separator, first_row + len(files))
        files.extend(names)
        values.append(found)
        begin = end
    return tuple(files), np.concatenate(values)


def _block(
    path: Path, lines: bytes, columns: int, is_separator: np.ndarray, first_row: int
) -> tuple[list[str], np.ndarray]:
    text = b"\n" + lines  # so that every field has a separator on both sides
    characters = np.frombuffer(text, np.uint8)
    outside = is_separator[characters]
    edges = np.flatnonzero(outside[1:] != outside[:-1]) + 1
    starts, ends = edges[0::2], edges[1::2]
    line_ends = np.flatnonzero(characters == ord("\n"))[1:]
    fields = np.diff(np.searchsorted(starts, line_ends), prepend=0)
    wrong = np.flatnonzero(fields != columns)
    if wrong.size:
        row = int(wrong[0])
        raise DataError(f"{path}, line {first_row + row}: {fields[row]} columns, expected {columns}")
    starts, ends = starts.reshape(-1, columns), ends.reshape(-1, columns)
    values = _values(path, characters, starts[:, 1:], ends[:, 1:], first_row)
    spans = zip(starts[:, 0].tolist(), ends[:, 0].tolist(), strict=True)
    return [text[a:b].decode() for a, b in spans], values


def _values(
    path: Path, characters: np.ndarray, starts: np.ndarray, ends: np.ndarray, first_row: int
) -> np.ndarray:
    width = ends - starts
    last = characters[ends - 1]
    single = width == 1
    one = single & (last == ord("1"))
    minus_one = (width == 2) & (last == ord("1")) & (characters[starts] == ord("-"))
    legal = one | minus_one | (single & (last == ord("0")))
    if not legal.all():
        row, column = (int(i) for i in np.argwhere(~legal)[0])
        value = characters[starts[row, column] : ends[row, column]].tobytes().decode("utf-8", "replace")
        raise DataError(f"{path}, line {first_row + row}: the value {value!r} is not -1, 0 or 1")
    return one.astype(np.int8)


def _check_unique(path: Path, files: tuple[str, ...], first_row: int) -> None:
    if len(set(files)) == len(files):
        return
    seen: set[str] = set()
    for number, name in enumerate(files, start=first_row):
        if name in seen:
            raise DataError(f"{path}, line {number}: names {name!r} a second time")
        seen.add(name)
