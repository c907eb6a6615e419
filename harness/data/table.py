"""A CSV or TSV file that lists images and their labels."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import ClassVar

import numpy as np

from harness.contracts import UNSTATED, DataCard, SampleTable
from harness.data.listed import SPLIT_NAMES, Missing, keep_present, names_in, require_path
from harness.errors import DataError, UnknownName

_PATH_COLUMNS = ("path", "filename", "image", "file")
_LABEL_COLUMNS = ("label", "class", "target")
_DELIMITERS = {".csv": ",", ".tsv": "\t"}


@dataclass(frozen=True)
class Table:
    """A file with a header, a column of paths and a column of labels.

    The paths are relative to the file's folder; ``target`` names the label column where it has
    another name. Columns ``group`` and ``split`` are optional; other columns that hold 0/1 or
    -1/1 only are kept as attributes. Classes are sorted by name, or by value if all are integers.
    """

    name: ClassVar[str] = "table"
    summary: ClassVar[str] = "a .csv or .tsv file of paths and labels"
    default_target: ClassVar[str | None] = None
    default_split: ClassVar[str] = "auto"
    needs_path: ClassVar[bool] = True

    def read(self, path: Path | None, *, target: str | None, missing: Missing) -> SampleTable:
        file = require_path(path, self.name, "a .csv or .tsv file")
        columns, lines = _read_columns(file)
        path_column = _column(file, columns, _PATH_COLUMNS, "paths")
        if target is None:
            label_column = _column(file, columns, _LABEL_COLUMNS, "labels")
        elif target in columns:
            label_column = target
        else:
            raise UnknownName("label column", target, columns)
        ids = _ids(file, columns[path_column], lines)
        labels = _filled(file, columns, label_column, lines)
        classes = _class_names(labels)
        if len(classes) < 2:
            raise DataError(f"{file}: column '{label_column}' holds only one class, '{classes[0]}'")
        index = {name: i for i, name in enumerate(classes)}
        paths = [file.parent / i for i in ids]
        others = columns.keys() - {path_column, label_column, "group", "split"}
        table = SampleTable(
            ids=ids,
            paths=tuple(map(str, paths)),
            labels=np.array([index[label] for label in labels], dtype=np.int64),
            class_names=classes,
            card=DataCard(
                title=file.stem,
                description=f"Images listed in {file.name}.",
                labels=f"The column '{label_column}' of {file.name}.",
                license=UNSTATED,
            ),
            target=target,
            groups=_filled(file, columns, "group", lines) if "group" in columns else None,
            official=_splits(file, columns["split"], lines) if "split" in columns else None,
            attributes={n: b for n, v in columns.items() if n in others and (b := _bits(v)) is not None},
        )
        return keep_present(table, _present(paths), missing, file)


def _read_columns(file: Path) -> tuple[dict[str, list[str]], list[int]]:
    """Column name -> its values, and the line on which each row begins."""
    delimiter = _DELIMITERS.get(file.suffix.lower())
    if delimiter is None:
        raise DataError(f"{file}: expected a .csv or .tsv file")
    rows: list[list[str]] = []
    lines: list[int] = []
    line = 1
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, delimiter=delimiter, strict=True)
            header = [name.strip() for name in next(reader, [])]
            line = reader.line_num + 1
            for row in reader:
                if row and len(row) != len(header):
                    raise DataError(f"{file}, line {line}: {len(row)} columns, expected {len(header)}")
                if row:
                    rows.append(row)
                    lines.append(line)
                line = reader.line_num + 1
    except OSError as error:
        raise DataError(f"{file}: can't be read: {error.strerror}") from error
    except csv.Error as error:
        raise DataError(f"{file}, line {line}: not a row of a table: {error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not a table: {error}") from error
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{file}, line 1: names the column '{twice}' twice")
    if not rows:
        raise DataError(f"{file}: lists no images")
    return {name: [row[i].strip() for row in rows] for i, name in enumerate(header)}, lines


def _column(file: Path, columns: dict[str, list[str]], wanted: Sequence[str], what: str) -> str:
    for name in wanted:
        if name in columns:
            return name
    raise DataError(f"{file}, line 1: no column for the {what}: expected one of {', '.join(wanted)}")


def _filled(file: Path, columns: dict[str, list[str]], name: str, lines: list[int]) -> tuple[str, ...]:
    values = columns[name]
    if "" in values:
        raise DataError(f"{file}, line {lines[values.index('')]}: column '{name}' is empty")
    return tuple(values)


def _ids(file: Path, values: list[str], lines: list[int]) -> tuple[str, ...]:
    seen: set[str] = set()
    ids = [PurePath(value).as_posix() if value else "" for value in values]
    for line, value in zip(lines, ids, strict=True):
        if not value:
            raise DataError(f"{file}, line {line}: no path")
        if value in seen:
            raise DataError(f"{file}, line {line}: names {value} a second time")
        seen.add(value)
    return tuple(ids)


def _splits(file: Path, values: list[str], lines: list[int]) -> tuple[str, ...]:
    for line, value in zip(lines, values, strict=True):
        if value.lower() not in SPLIT_NAMES:
            raise DataError(f"{file}, line {line}: the split '{value}' is not train, val or test")
    return tuple(SPLIT_NAMES[value.lower()] for value in values)


def _class_names(labels: Sequence[str]) -> tuple[str, ...]:
    names = sorted(set(labels))
    try:
        return tuple(sorted(names, key=int))
    except ValueError:
        return tuple(names)


def _bits(values: list[str]) -> np.ndarray | None:
    """int8 ``[n]`` of 0/1 where all values are 0/1 or all are -1/1, else None."""
    found = set(values)
    if found <= {"0", "1"} or found <= {"-1", "1"}:
        return np.array([value == "1" for value in values], dtype=np.int8)
    return None


def _present(paths: Sequence[Path]) -> list[bool]:
    there = {folder: names_in(folder) for folder in {path.parent for path in paths}}
    return [path.name in there[path.parent] for path in paths]
