"""Our figures beside the range of those that were published for the same cell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from harness.suites import Reference
from reports.model import Cell, PublishedRange, PublishedRow
from reports.published import ROUNDED_ACCURACY


def published_ranges(rows: Iterable[PublishedRow]) -> tuple[PublishedRange, ...]:
    """One entry a cell, in the order of ``rows``."""
    by_cell: dict[int, list[PublishedRow]] = {}
    for row in rows:
        by_cell.setdefault(row.cell.number, []).append(row)
    majority = _majority(row.reference for group in by_cell.values() for row in group)
    return tuple(_range(group, majority) for group in by_cell.values())


def _range(rows: Sequence[PublishedRow], majority: float | None) -> PublishedRange:
    cell = rows[0].cell
    learned = [r.reference.accuracy for r in rows if not _collapsed(r.reference.accuracy, majority)]
    low, high = (min(learned), max(learned)) if learned else (None, None)
    collapsed = majority if len(learned) < len(rows) else None
    return PublishedRange(
        cell=cell,
        sources=len(rows),
        low=low,
        high=high,
        collapsed=collapsed,
        place=_place(cell, low, high, collapsed),
        applies=all(r.same_data for r in rows),
    )


def _place(
    cell: Cell, low: float | None, high: float | None, collapsed: float | None
) -> Literal["inside", "inside, given its interval", "outside"]:
    if cell.verdict.kind == "collapsed":
        return "outside" if collapsed is None else "inside"
    if low is None or high is None:
        return "outside"
    if low - ROUNDED_ACCURACY <= cell.test.accuracy <= high + ROUNDED_ACCURACY:
        return "inside"
    meets = cell.interval.low <= high and cell.interval.high >= low
    return "inside, given its interval" if meets else "outside"


def _majority(references: Iterable[Reference]) -> float | None:
    """The share of the largest class in the sources' test set, where one prints its counts."""
    for reference in references:
        if reference.confusion is not None:
            rows = [sum(row) for row in reference.confusion]
            return max(rows) / sum(rows)
    return None


def _collapsed(accuracy: float, majority: float | None) -> bool:
    return majority is not None and abs(accuracy - majority) <= ROUNDED_ACCURACY
