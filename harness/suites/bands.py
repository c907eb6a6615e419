"""Bands: where a figure is expected to lie. A union, since a collapse is a legitimate outcome too."""

from __future__ import annotations

import math
from dataclasses import dataclass

from harness.stats import Interval
from harness.suites.table import Table, is_number

MAJORITY = "majority"
# Figures of a record's test part and of its last epoch of training, and how far training went.
METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "loss", "train_loss", "train_accuracy", "moved")
# A collapsed network may still answer otherwise for this share of the images (verdicts.COLLAPSED_SHARE).
COLLAPSE_SLACK = 0.005
_ROUNDING = 1e-9  # a share such as 0.93 is no binary fraction; both edges count


@dataclass(frozen=True)
class Band:
    """A union of closed intervals and, with ``majority``, the largest class's share of the test images."""

    intervals: tuple[Interval, ...]
    majority: bool = False

    def holds(self, value: float, majority: float) -> bool:
        """Whether ``value`` lies in it, edges included, where the majority share is ``majority``."""
        if not math.isfinite(value):
            return False
        if self.majority and abs(value - majority) <= COLLAPSE_SLACK + _ROUNDING:
            return True
        return any(low - _ROUNDING <= value <= high + _ROUNDING for low, high in self.intervals)

    def __str__(self) -> str:
        parts = [MAJORITY] if self.majority else []
        return " or ".join([*parts, *(f"[{low:g}, {high:g}]" for low, high in self.intervals)])


def read_band(t: Table, key: str) -> Band:
    """``[0.93, 0.975]``, or a union: ``["majority", [0.93, 0.975]]``."""
    value = t.values[key]
    wanted = f'must be [LOW, HIGH] or a list of such pairs and "{MAJORITY}"; it is {value!r}'
    if not isinstance(value, list) or not value:
        t.fail(key, wanted)
    parts = [value] if all(is_number(v) for v in value) else value
    intervals, majority = [], False
    for part in parts:
        if part == MAJORITY and key == "accuracy":
            majority = True
        elif isinstance(part, list) and len(part) == 2 and all(is_number(v) for v in part):
            if not part[0] <= part[1]:
                t.fail(key, f"has a lower edge above the upper one: {part!r}")
            intervals.append(Interval(float(part[0]), float(part[1])))
        else:
            t.fail(key, wanted if key == "accuracy" else wanted.replace(f' and "{MAJORITY}"', ""))
    return Band(tuple(intervals), majority)
