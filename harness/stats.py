"""Intervals and paired tests of test-set figures.

SciPy's implementations are used where it has them; what it lacks (Newcombe's interval, Holm's
correction) is written out here with its source.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest

LEVEL = 0.95  # of every interval
ALPHA = 0.05  # of every test, after correction


class Interval(NamedTuple):
    """The two ends of a confidence interval."""

    low: float
    high: float


def wilson(right: int, n: int, level: float = LEVEL) -> Interval:
    """Wilson's score interval of a share (Wilson 1927), as fractions.

    Unlike the textbook normal interval it stays inside 0..1 and keeps its coverage near 0 and 1.
    Raises ``ValueError`` unless ``0 <= right <= n`` and ``n > 0``.
    """
    if n <= 0 or not 0 <= right <= n:
        raise ValueError(f"{right} right out of {n} is not a share")
    found = binomtest(int(right), int(n)).proportion_ci(confidence_level=level, method="wilson")
    return Interval(float(found.low), float(found.high))


def newcombe_difference(right_a: int, n_a: int, right_b: int, n_b: int, level: float = LEVEL) -> Interval:
    """Interval of ``a``'s share minus ``b``'s for two independent samples.

    Newcombe's hybrid score interval (Statistics in Medicine 17, 1998, method 10), from the two
    Wilson intervals. For paired samples it is too wide.
    """
    a, b = right_a / n_a, right_b / n_b
    interval_a, interval_b = wilson(right_a, n_a, level), wilson(right_b, n_b, level)
    below = math.hypot(a - interval_a.low, interval_b.high - b)
    above = math.hypot(interval_a.high - a, b - interval_b.low)
    return Interval(a - b - below, a - b + above)


def mcnemar_exact(only_a: int, only_b: int) -> float:
    """Two-sided p-value that two classifiers are equally often right on the same images.

    ``only_a`` counts the images that ``a`` gets right and ``b`` wrong, ``only_b`` the reverse
    (McNemar 1947, in its exact binomial form). Without a single such image it is 1.
    """
    if only_a + only_b == 0:
        return 1.0
    return float(binomtest(int(only_a), int(only_a + only_b), 0.5).pvalue)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """The p-values corrected for their number (Holm 1979), in the order given."""
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return tuple(float(x) for x in adjusted)


class Spread(NamedTuple):
    """Mean and sample standard deviation (``None`` for a single value)."""

    mean: float
    sd: float | None


def spread(values: Sequence[float]) -> Spread:
    """Mean and sample standard deviation (divisor ``n - 1``) of at least one value."""
    v = np.asarray(values, dtype=float)
    return Spread(float(v.mean()), float(v.std(ddof=1)) if len(v) > 1 else None)
