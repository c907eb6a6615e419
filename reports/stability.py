"""The stability map: what becomes of each strategy at each learning rate."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from harness.verdicts import DIVERGED
from reports.findings import StabilityCell, StabilityMap
from reports.model import Cell
from reports.record_types import Record
from reports.wording import options_shown, strategy_name, varying_options


def stability(cells: Sequence[Cell], failed: Iterable[Record]) -> StabilityMap | None:
    """The map of an experiment's cells and of the failed runs that belong to it.

    ``None`` unless there are two learning rates.
    """
    lost = [record for record in failed if _belongs(record, cells[0].record)]
    records = [*(c.record for c in cells), *lost]
    rates = sorted({record.spec.lr for record in records})
    if len(rates) < 2:
        return None
    varying = varying_options(records)
    by_place: dict[tuple[str, float], tuple[list[Cell], list[Record]]] = {}
    trained: dict[str, float] = {}
    for cell in cells:
        by_place.setdefault(_place(cell.record, varying), ([], []))[0].append(cell)
    for record in lost:
        by_place.setdefault(_place(record, varying), ([], []))[1].append(record)
    for record in records:
        row = _place(record, varying)[0]
        trained[row] = min(
            trained.get(row, math.inf), record.strategy.trainable if record.strategy else math.inf
        )
    rows = sorted(trained, key=lambda row: (trained[row], row))
    return StabilityMap(
        rows=tuple(rows),
        rates=tuple(rates),
        cells=tuple(
            tuple(_cell(*by_place[row, lr]) if (row, lr) in by_place else None for lr in rates)
            for row in rows
        ),
    )


def diverged(record: Record) -> bool:
    """Whether a failed run failed because its loss was not finite any more."""
    return (record.error or "").startswith(DIVERGED)


def _belongs(failed: Record, record: Record) -> bool:
    """Whether a run that failed would have been a cell beside ``record``."""
    a, b = failed.spec, record.spec
    asked = ("data", "target", "split", "group", "split_seed", "limit", "backbone", "weights", "head")
    return all(getattr(a, name) == getattr(b, name) for name in asked) and all(
        failed.digests.get(name) in (None, record.digests.get(name)) for name in ("data", "split")
    )


def _place(record: Record, varying: Iterable[str]) -> tuple[str, float]:
    name = strategy_name(record.strategy) if record.strategy else record.spec.strategy
    return ", ".join([name, *options_shown(record, varying)]), record.spec.lr


def _cell(cells: Sequence[Cell], lost: Sequence[Record]) -> StabilityCell:
    kinds = Counter(cell.verdict.kind for cell in cells)
    fell = sum(map(diverged, lost))
    return StabilityCell(
        accuracy=sum(c.test.accuracy for c in cells) / len(cells) if cells else None,
        finished=len(cells),
        collapsed=kinds["collapsed"],
        diverged=kinds[DIVERGED] + fell,
        failed=len(lost) - fell,
        seeds=len(cells) + len(lost),
        verdict=kinds.most_common(1)[0][0] if cells else DIVERGED if fell else "failed",
    )
