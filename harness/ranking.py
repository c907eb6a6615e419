"""How well scores put the images of a class before all others: ROC, precision and recall.

``scores`` are float ``[n]``, ``positive`` bool ``[n]``. scikit-learn has these curves; here they are
written out because a report over a hundred runs of a hundred classes needs ten thousand of each, which
takes a fifth of the time this way, and ``harness report`` is spared the import. The tests hold them against
scikit-learn.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Curves(NamedTuple):
    """Both curves at every distinct threshold, strictest first, float64 ``[thresholds]`` each.

    ``fpr`` and ``tpr`` begin at (0, 0). ``recall`` equals ``tpr`` without that first point, and
    ``precision`` belongs to it.
    """

    fpr: np.ndarray
    tpr: np.ndarray
    recall: np.ndarray
    precision: np.ndarray

    @property
    def auroc(self) -> float:
        """Area under the ROC curve: how often a positive scores above a negative, ties half."""
        return float((np.diff(self.fpr) * (self.tpr[1:] + self.tpr[:-1])).sum() / 2)

    @property
    def average_precision(self) -> float:
        """Area under the curve of precision over recall, taken as steps (no interpolation)."""
        return float((np.diff(self.recall, prepend=0.0) * self.precision).sum())


def ranking(scores: np.ndarray, positive: np.ndarray) -> Curves | None:
    """The curves; ``None`` unless there are images of both kinds."""
    total = int(positive.sum())
    if total in (0, len(positive)):
        return None
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)  # of each run of equal scores
    hits = np.cumsum(positive[order])[last].astype(float)
    named = last + 1.0
    tpr, fpr = hits / total, (named - hits) / (len(positive) - total)
    return Curves(np.append(0.0, fpr), np.append(0.0, tpr), tpr, hits / named)


def macro(curves: list[Curves], points: int = 201) -> Curves:
    """The mean of several classes' curves (at least one), on an even grid.

    The true positive rate is interpolated between thresholds, precision taken at the strictest one that
    reaches a recall, so that the areas are the means of the classes' areas, up to the grid.
    """
    grid = np.linspace(0, 1, points)
    recall = grid[1:]
    tpr = np.mean([np.interp(grid, c.fpr, c.tpr) for c in curves], axis=0)
    at = [np.minimum(np.searchsorted(c.recall, recall - 1e-12), len(c.recall) - 1) for c in curves]
    precision = np.mean([c.precision[i] for c, i in zip(curves, at, strict=True)], axis=0)
    return Curves(np.append(0.0, grid), np.append(0.0, tpr), recall, precision)
