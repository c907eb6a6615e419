"""What a measured job says, and what several of them say together. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from benchmarks.work import CellResult


@dataclass(frozen=True)
class JobResult:
    """Seconds of a job: ``import_s`` before, ``wall_s`` all of the work, ``phases`` parts of it.

    ``error`` is why there is nothing else.
    """

    rival: str
    import_s: float = 0.0
    wall_s: float = 0.0
    phases: Mapping[str, float] = field(default_factory=dict)
    cells: tuple[CellResult, ...] = ()
    peak_mb: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None

    @staticmethod
    def from_json(text: str) -> JobResult:
        values = json.loads(text)
        cells = tuple(
            CellResult(c["label"], tuple(c["train_loss"]), tuple(c["val_accuracy"]), c["test_accuracy"])
            for c in values.pop("cells")
        )
        return JobResult(cells=cells, **values)

    @property
    def images_given_s(self) -> float | None:
        """The work but for decoding; None where that isn't a part of its own."""
        return self.wall_s - self.phases["decode"] if "decode" in self.phases else None

    @property
    def features_kept_s(self) -> float | None:
        """The work but for decoding and the frozen pass, for those who keep its features."""
        if "prefix" not in self.phases:
            return None
        return self.wall_s - self.phases["prefix"] - self.phases.get("decode", 0.0)


@dataclass(frozen=True)
class Spread:
    """The median of the repeats, and the smallest and the largest of them."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float | None]) -> Spread | None:
    """None where there is nothing to sum up."""
    found = [v for v in values if v is not None]
    return Spread(median(found), min(found), max(found)) if found else None


def largest_difference(one: JobResult, other: JobResult) -> float:
    """Between the curves of the training loss, over all cells and epochs."""
    return max(
        abs(a - b)
        for mine, yours in zip(one.cells, other.cells, strict=True)
        for a, b in zip(mine.train_loss, yours.train_loss, strict=True)
    )
