"""How far probabilities can be taken at their word: reliability by bins, calibration error, Brier score.

Probabilities come as float64 ``[n, classes]``, labels as int64 ``[n]``. *Confidence* is the probability
of the class that is named, the largest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.seeding import generator

BINS = 15  # as in Guo et al.'s tables
DRAWS = 200
LEVEL = 0.95  # of the bars' range


@dataclass(frozen=True, eq=False)
class Reliability:
    """Confidence against accuracy in bins of equal width, float64 ``[bins]`` each but ``count`` (int64).

    ``edges`` is ``[bins + 1]``; a bin holds what is above its lower edge up to its upper one. ``confidence``
    and ``accuracy`` are means of the bin's images, ``nan`` in an empty one. ``low`` and ``high`` are where
    the accuracy of a bin lies in 95 % of test sets if every probability were true, and ``chance`` is the
    ``ece`` that such a model shows on average: with few images it is not 0.
    """

    edges: np.ndarray
    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    low: np.ndarray
    high: np.ndarray
    ece: float
    chance: float


def reliability(confidence: np.ndarray, correct: np.ndarray, bins: int = BINS) -> Reliability:
    """The reliability diagram of ``confidence`` (float64 ``[n]``) and ``correct`` (bool ``[n]``), ``n > 0``.

    ``ece`` is the expected calibration error: the mean distance of a bin's accuracy and its confidence,
    weighted by its images (Naeini et al., AAAI 2015; Guo et al., ICML 2017, eq. 3). ``low``, ``high`` and
    ``chance`` come from answers drawn with the stated probabilities (consistency resampling; Bröcker and
    Smith, Weather and Forecasting 22, 2007).
    """
    edges = np.linspace(0, 1, bins + 1)
    order = np.argsort(confidence, kind="stable")
    sure, right = confidence[order], correct[order]
    ends = np.searchsorted(sure, edges, side="right")
    ends[0] = 0  # a probability of exactly 0 belongs to the first bin
    count = np.diff(ends)
    filled = count > 0
    starts = ends[:-1][filled]
    stated = np.add.reduceat(sure, starts)
    rng = generator(0, "reliability")
    drawn = np.stack([np.add.reduceat((rng.random(len(sure)) < sure).astype(float), starts)
                      for _ in range(DRAWS)])  # fmt: skip
    spread = np.quantile(drawn / count[filled], [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)

    def by_bin(values: np.ndarray) -> np.ndarray:
        found = np.full(bins, np.nan)
        found[filled] = values
        return found

    answered = np.add.reduceat(right.astype(float), starts)
    return Reliability(
        edges=edges,
        count=count,
        confidence=by_bin(stated / count[filled]),
        accuracy=by_bin(answered / count[filled]),
        low=by_bin(spread[0]),
        high=by_bin(spread[1]),
        ece=float(np.abs(answered - stated).sum() / len(sure)),
        chance=float(np.abs(drawn - stated).sum(axis=1).mean() / len(sure)),
    )


def brier(probabilities: np.ndarray, label: np.ndarray) -> float:
    """Brier's score (1950): the squared distance of probabilities and truth over all classes, 0 to 2."""
    truth = np.zeros_like(probabilities)
    truth[np.arange(len(label)), label] = 1
    return float(((probabilities - truth) ** 2).sum(axis=1).mean())


def log_loss(probabilities: np.ndarray, label: np.ndarray) -> float:
    """Mean negative logarithm of the true class's probability, in nats; infinite where one is 0."""
    with np.errstate(divide="ignore"):
        return float(-np.log(probabilities[np.arange(len(label)), label]).mean())
