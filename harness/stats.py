"""Intervals and tests of test-set figures, from counts.

SciPy's implementations are used where it has them; what it lacks (Newcombe's interval, Holm's
correction, signs exchanged a group at a time) is written out here with its source, and the tests
hold it against statsmodels. What resamples images is in :mod:`harness.resampling`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest, fisher_exact, norm

LEVEL = 0.95  # of every interval
ALPHA = 0.05  # of every test, after correction
POWER = 0.80  # with which the smallest resolvable difference would be found


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


def wilson_effective(share: float, n: float, level: float = LEVEL) -> Interval:
    """Wilson's interval where ``n`` > 0 is an effective size, no whole number: fewer independent images."""
    z2 = float(norm.isf((1 - level) / 2)) ** 2 / n
    middle = (share + z2 / 2) / (1 + z2)
    reach = math.sqrt(z2 * (share * (1 - share) + z2 / 4)) / (1 + z2)
    return Interval(max(middle - reach, 0.0), min(middle + reach, 1.0))


def fisher_exact_p(right_a: float, n_a: float, right_b: float, n_b: float) -> float:
    """Two-sided p-value that two independent shares are one (Fisher 1935); counts are rounded."""
    a, b = [round(right_a), round(n_a) - round(right_a)], [round(right_b), round(n_b) - round(right_b)]
    return float(fisher_exact([a, b]).pvalue)


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


class ZTest(NamedTuple):
    """A z statistic, the standard error under the hypothesis of no difference, the two-sided p-value."""

    z: float
    se: float
    p: float


def unpaired_z(share_a: float, n_a: int, share_b: float, n_b: int) -> ZTest:
    """Whether two shares of independent samples differ: the z test with the pooled share.

    For the same images it wastes the pairing and is too careful; it is all that two published
    figures allow. Two shares that are both 0 or both 1 don't differ.
    """
    pooled = (share_a * n_a + share_b * n_b) / (n_a + n_b)
    se = math.sqrt(pooled * (1 - pooled) * (1 / n_a + 1 / n_b))
    z = (share_a - share_b) / se if se else 0.0
    return ZTest(z, se, float(2 * norm.sf(abs(z))))


def mcnemar_exact(only_a: int, only_b: int) -> float:
    """Two-sided p-value that two classifiers are equally often right on the same images.

    ``only_a`` counts the images that ``a`` gets right and ``b`` wrong, ``only_b`` the reverse
    (McNemar 1947, in its exact binomial form). Without a single such image it is 1.
    """
    if only_a + only_b == 0:
        return 1.0
    return float(binomtest(int(only_a), int(only_a + only_b), 0.5).pvalue)


def sign_flip_exact(differences: Sequence[int] | np.ndarray) -> float:
    """The same p-value where images come in groups (people), from a group's right answers of ``a`` less
    those of ``b``, int ``[groups]``.

    Fisher's randomisation test (1935): were the two alike, a group's difference could as well have had
    the other sign. All sign patterns are counted, by adding group after group to the distribution of
    the sum. With groups of one image it is the exact McNemar test.
    """
    sizes = np.abs(np.asarray(differences, dtype=np.int64))
    sizes = sizes[sizes > 0]
    reach, observed = int(sizes.sum()), abs(int(np.sum(differences)))
    chances = np.zeros(2 * reach + 1)
    chances[reach] = 1.0
    for size in sizes:
        chances = 0.5 * (np.roll(chances, size) + np.roll(chances, -size))
    sums = np.abs(np.arange(-reach, reach + 1))
    return min(1.0, float(chances[sums >= observed].sum()))


def smallest_difference(se: float, n: int, alpha: float = ALPHA, power: float = POWER) -> float:
    """The difference of two shares that a test at ``alpha`` finds with probability ``power``.

    ``se`` is the standard error of the difference if there were none: for pairs the root of the share
    of images on which exactly one of the two is right, over the root of ``n`` (Connor, Biometrics 43,
    1987, to first order). Never less than what so many images can show at all: with ``k`` images of
    difference, all to one side, exact McNemar gives ``2 / 2**k``.
    """
    fewest = math.ceil(math.log2(2 / alpha))
    return min(1.0, max(float(norm.isf(alpha / 2) + norm.ppf(power)) * se, fewest / n))


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
