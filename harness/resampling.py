"""Bootstraps of accuracies: test images (or whole groups of them) and seeds, drawn again.

Correct answers come as bool ``[runs, images]``, one row a run (a seed). Every function draws from a
stream of its own, so that the same answers give the same interval, whatever else is computed. scipy's
``bootstrap`` resamples neither groups nor two things at once; here images that no run tells apart
are drawn together, by a multinomial, which is the same in distribution and many times faster.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.stats import t as student

from harness.seeding import generator
from harness.stats import ALPHA, LEVEL, POWER, Interval

DRAWS = 10_000
CHUNK = 2_000_000  # numbers drawn at a time: 16 MB


class Estimate(NamedTuple):
    """A mean over seeds (or a difference of two) as an estimate for new seeds and new images.

    ``se`` is the bootstrap's standard error over both; ``se_images`` is what the choice of test images
    adds, ``se_seeds`` what the choice of seeds does. ``df`` are Satterthwaite's degrees of freedom.
    """

    value: float
    interval: Interval
    p: float
    se: float
    se_images: float
    se_seeds: float
    df: float

    def smallest(self, alpha: float = ALPHA, power: float = POWER) -> float:
        """The difference that a test at ``alpha`` finds with probability ``power``, at most 1."""
        return min(float(student.isf(alpha / 2, self.df) + student.ppf(power, self.df)) * self.se, 1.0)


def group_totals(values: np.ndarray, groups: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Sums of ``values`` ``[runs, images]`` over each group, ``[runs, groups]``, and the groups' sizes.

    ``groups`` holds a number for each image; without, every image is a group.
    """
    values = np.asarray(values).astype(np.int64)
    if groups is None:
        return values, np.ones(values.shape[1], dtype=np.int64)
    _, codes = np.unique(groups, return_inverse=True)
    count = int(codes.max()) + 1
    sums = np.stack([np.bincount(codes, weights=row, minlength=count) for row in values])
    return sums.astype(np.int64), np.bincount(codes, minlength=count)


def interval_of_draws(draws: np.ndarray, level: float = LEVEL) -> Interval:
    """The percentile interval (Efron 1979) of bootstrap draws ``[draws]``."""
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def image_draws(values: np.ndarray, groups: np.ndarray | None, *, draws: int = DRAWS) -> np.ndarray:
    """Means of each row of ``values`` over resampled images, float64 ``[draws, runs]``.

    With ``groups`` whole groups are drawn (the cluster bootstrap) and the mean is that over all images of
    those drawn.
    """
    totals, sizes = group_totals(values, groups)
    kinds, counts = np.unique(np.vstack([totals, sizes]), axis=1, return_counts=True)
    rows = kinds.astype(float).T
    rng = generator(0, "resampling")
    found = np.empty((draws, len(totals)))
    step = max(1, CHUNK // len(counts))
    for start in range(0, draws, step):
        size = min(step, draws - start)
        drawn = rng.multinomial(counts.sum(), counts / counts.sum(), size=size) @ rows
        found[start : start + size] = drawn[:, :-1] / drawn[:, -1:]
    return found


def mean_group_size(groups: np.ndarray) -> float:
    """The mean size of the group that an image is in: each group counts by its size. ``groups`` is int
    ``[images]``.
    """
    sizes = np.unique(groups, return_counts=True)[1]
    return float((sizes**2).sum() / sizes.sum())


def group_correlation(correct: np.ndarray, groups: np.ndarray) -> float:
    """How alike right answers within a group are, 0 to 1: the intraclass correlation.

    From Kish's design effect ``1 + (m - 1) r`` (Survey Sampling, 1965), where ``m`` is the mean size of the
    group that an image is in and the effect is the variance of the accuracy with whole groups drawn over that
    with images drawn. ``correct`` is bool ``[images]``.
    """
    totals, sizes = group_totals(correct[None], groups)
    n, share = len(correct), float(correct.mean())
    alone = share * (1 - share) * n
    size = mean_group_size(groups)
    if alone == 0 or size <= 1:
        return 0.0
    effect = float(((totals[0] - share * sizes) ** 2).sum()) / alone
    return min(max((effect - 1) / (size - 1), 0.0), 1.0)


def accuracy_interval(correct: np.ndarray, groups: np.ndarray) -> Interval:
    """Cluster bootstrap interval of one run's accuracy; ``correct`` is bool ``[images]``."""
    return interval_of_draws(image_draws(correct[None], groups)[:, 0])


def paired_interval(a: np.ndarray, b: np.ndarray, groups: np.ndarray | None = None) -> Interval:
    """Paired bootstrap interval of ``a``'s accuracy less ``b``'s on the same images.

    Both are bool ``[images]``.
    """
    return interval_of_draws(image_draws((a.astype(np.int8) - b.astype(np.int8))[None], groups)[:, 0])


def over_seeds(correct: np.ndarray, groups: np.ndarray | None = None) -> Estimate:
    """Mean accuracy over at least two seeds, ``correct`` being bool ``[seeds, images]``."""
    found = _estimate([correct], groups)
    return found._replace(interval=Interval(max(found.interval.low, 0.0), found.interval.high))


def difference_over_seeds(
    a: np.ndarray, b: np.ndarray, *, same_seeds: bool, groups: np.ndarray | None = None
) -> Estimate:
    """Mean accuracy of ``a``'s seeds less that of ``b``'s, both bool ``[seeds, images]``, at least two each.

    With ``same_seeds`` row ``i`` of both had one seed, and the rows are drawn as pairs.
    """
    if same_seeds:
        return _estimate([a.astype(np.int8) - b.astype(np.int8)], groups)
    return _estimate([a.astype(np.int8), -b.astype(np.int8)], groups)


def _estimate(samples: list[np.ndarray], groups: np.ndarray | None) -> Estimate:
    """The sum of the samples' means, each over its rows and all over the same images.

    Images and seeds are resampled at once and independently (Owen, Annals of Applied Statistics 1,
    2007); of ``s`` seeds ``s - 1`` are drawn, which makes the variance of few unbiased (Rao and Wu, JASA
    83, 1988). The interval is the mean and Student's t times the standard error, since the percentiles
    of a bootstrap over three seeds are far too narrow.
    """
    drawn = image_draws(np.concatenate(samples), groups)
    rng = generator(0, "resampling seeds")
    still, moved, variances, at = np.zeros(len(drawn)), np.zeros(len(drawn)), [], 0
    for sample in samples:
        seeds = len(sample)
        means = drawn[:, at : at + seeds]
        weights = rng.multinomial(seeds - 1, np.full(seeds, 1 / seeds), size=len(drawn)) / (seeds - 1)
        still += means.mean(axis=1)
        moved += (means * weights).sum(axis=1)
        variances.append((float(sample.mean(axis=1).var(ddof=1)) / seeds, seeds - 1))
        at += seeds
    images, total = float(still.var()), float(moved.var())
    units = samples[0].shape[1] if groups is None else len(np.unique(groups))
    parts = [*variances, (images, max(units - 1, 1))]
    below = sum(v * v / df for v, df in parts)
    df = max(total * total / below, 1.0) if below > 0 else float(units)
    value, se = float(sum(s.mean() for s in samples)), float(np.sqrt(total))
    reach = float(student.isf((1 - LEVEL) / 2, df)) * se
    p = float(2 * student.sf(abs(value) / se, df)) if se > 0 else float(value == 0)
    return Estimate(
        value=value,
        interval=Interval(max(value - reach, -1.0), min(value + reach, 1.0)),
        p=p,
        se=se,
        se_images=float(np.sqrt(images)),
        se_seeds=float(np.sqrt(sum(v for v, _ in variances))),
        df=df,
    )
