"""Samples that a file lists: which of them are there, and what to say of those that aren't."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from harness.contracts import SampleTable
from harness.errors import DataError, UsageError

Missing = Literal["error", "skip"]

SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


def require_path(path: Path | None, dataset: str, what: str) -> Path:
    """``path`` if it was given; the dataset called ``dataset`` can't be read without ``what``."""
    if path is None:
        raise UsageError(f"dataset '{dataset}' needs the path of {what}: --data {dataset}=PATH")
    return path


def names_in(folder: Path) -> frozenset[str]:
    """The names in ``folder`` by one scan of it, not one look per file; empty where it doesn't exist."""
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()
    except OSError as error:
        raise DataError(f"{folder}: can't be read: {error.strerror}") from error


def keep_present(
    table: SampleTable, present: Sequence[bool] | np.ndarray, missing: Missing, where: Path
) -> SampleTable:
    """The samples of ``table`` whose image is there.

    ``present`` is bool ``[n]``; ``where`` is the folder or the file to name in an error. Raises
    DataError where images are absent and ``missing`` is ``error``, or where none is left.
    """
    there = np.asarray(present, dtype=bool)
    if there.all():
        return table
    absent = tuple(table.ids[i] for i in np.flatnonzero(~there))
    shown = ", ".join(absent[:3]) + (", ..." if len(absent) > 3 else "")
    if missing == "error":
        raise DataError(
            f"{where}: {len(absent)} of {len(table)} listed images are absent ({shown}); "
            "--missing skip leaves them out"
        )
    if not there.any():
        raise DataError(f"{where}: no images left: all {len(absent)} listed images are absent ({shown})")
    return replace(table.take(np.flatnonzero(there)), missing=absent)
