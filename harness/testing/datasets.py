"""What a dataset must keep to."""

from __future__ import annotations

from collections.abc import Sized
from pathlib import Path

import numpy as np

from harness.contracts import Dataset, SampleTable
from harness.data.members import file_of
from harness.errors import HarnessError
from harness.testing.claims import attempt, require, require_words

SPLITS = ("train", "val", "test")
_ABSENT = "no such target"


def check_dataset(dataset: Dataset, path: str | Path | None = None, target: str | None = None) -> None:
    """Reads the samples below ``path`` and looks at the table.

    Columns of equal length; ids that name one sample each; paths of files; labels in the range of
    the class names; a card with its licence and where the labels come from; the same table when read
    twice; an error, not a table, for a path that is needed and absent and for an unknown target.
    AssertionError where not.
    """
    who = type(dataset).__name__
    require_words(dataset, "name")
    where = None if path is None else Path(path)
    wanted = target or dataset.default_target

    def read() -> SampleTable:
        return attempt(f"{who}.read({path!s})", lambda: dataset.read(where, target=wanted, missing="error"))

    table = read()
    require(isinstance(table, SampleTable), f"{who}.read() gave a {type(table).__name__}, not a SampleTable")
    _check_columns(table, who)
    _check_labels(table, who)
    _check_card(table, who)
    _check_split(dataset, table, who)
    _check_same(table, read(), who)
    _check_refusals(dataset, where, who)


def _check_columns(table: SampleTable, who: str) -> None:
    count = len(table.ids)
    require(count > 0, f"{who}: no samples")
    columns: dict[str, Sized | None] = {
        "paths": table.paths,
        "labels": table.labels,
        "groups": table.groups,
        "official": table.official,
        **{f"attributes['{name}']": values for name, values in table.attributes.items()},
    }
    for name, column in columns.items():
        length = count if column is None else len(column)
        require(length == count, f"{who}: {count} ids, but {length} {name}")
    seen: set[str] = set()
    for name in table.ids:
        require(name not in seen, f"{who}: the id '{name}' names two samples")
        seen.add(name)
    for file in table.paths:
        require(Path(file_of(file)).is_file(), f"{who}: the path '{file}' is no file")
    for name, values in table.attributes.items():
        bits = bool(np.isin(values, (0, 1)).all())
        require(bits, f"{who}: attribute '{name}' holds other values than 0 and 1")


def _check_labels(table: SampleTable, who: str) -> None:
    names, labels = table.class_names, table.labels
    require(len(names) > 1, f"{who}: {len(names)} class names; there have to be two or more")
    require(
        all(isinstance(n, str) and n.strip() for n in names) and len(set(names)) == len(names),
        f"{who}: class names have to be words and all different: {names}",
    )
    require(
        isinstance(labels, np.ndarray) and labels.dtype == np.int64 and labels.ndim == 1,
        f"{who}: labels have to be a numpy array int64 [n]",
    )
    for label in np.unique(labels):
        in_range = 0 <= label < len(names)
        require(in_range, f"{who}: there are {len(names)} class names, but a label {label}")


def _check_card(table: SampleTable, who: str) -> None:
    for attribute, what in (
        ("title", "a title"),
        ("description", "what the images are"),
        ("labels", "where the labels come from"),
        ("license", "the licence"),
    ):
        require(bool(getattr(table.card, attribute).strip()), f"{who}: the card lacks {what} ('{attribute}')")


def _check_split(dataset: Dataset, table: SampleTable, who: str) -> None:
    known = ("auto", "stratified", "official")
    split = dataset.default_split
    require(split in known, f"{who}.default_split is {split!r} (there are: {', '.join(known)})")
    require(
        split != "official" or table.official is not None,
        f"{who}.default_split is 'official', but the table has no column 'official'",
    )
    strange = sorted(set(table.official or ()) - set(SPLITS))
    require(not strange, f"{who}: official splits are {', '.join(SPLITS)}, not {strange}")


def _check_same(table: SampleTable, again: SampleTable, who: str) -> None:
    for name in ("ids", "paths", "class_names", "card", "target", "groups", "official", "missing"):
        require(getattr(table, name) == getattr(again, name), f"{who}: read twice, it gives another '{name}'")
    require(np.array_equal(table.labels, again.labels), f"{who}: read twice, it gives other labels")
    require(
        table.attributes.keys() == again.attributes.keys()
        and all(np.array_equal(v, again.attributes[n]) for n, v in table.attributes.items()),
        f"{who}: read twice, it gives other attributes",
    )


def _check_refusals(dataset: Dataset, path: Path | None, who: str) -> None:
    _require_refusal(dataset, path, _ABSENT, f"{who}: a target that it doesn't have")
    if dataset.needs_path:
        _require_refusal(dataset, None, dataset.default_target, f"{who}: no path, which it needs,")


def _require_refusal(dataset: Dataset, path: Path | None, target: str | None, what: str) -> None:
    try:
        dataset.read(path, target=target, missing="error")
    except HarnessError:
        return
    except Exception as error:
        raise AssertionError(
            f"{what} raised {type(error).__name__}: {error}; it has to be a UsageError or a DataError"
        ) from error
    raise AssertionError(f"{what} was accepted; it has to be a UsageError or a DataError")
