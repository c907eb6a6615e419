"""What probabilities are worth: how they rank images, and how far they can be taken at their word."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.calibration import brier, log_loss, reliability
from harness.ranking import Curves, macro, ranking
from reports.findings import CellCurves, Confidences, Probabilities, ProbabilityScores
from reports.model import Cell
from reports.predictions import read_predictions
from reports.record_types import Predictions

MOST_CURVES = 6  # more lines than colours can't be told apart
CONFIDENCE_BINS = 20


def probability_scores(p: Predictions) -> ProbabilityScores | None:
    """The figures of one cell; ``None`` where a probability is not a finite number."""
    if not np.isfinite(p.probabilities).all():
        return None
    found = _rankings(p)
    aurocs = tuple(c.auroc if c else None for c in found)
    precisions = tuple(c.average_precision if c else None for c in found)
    held = reliability(_confidence(p), p.label == p.prediction)
    return ProbabilityScores(
        auroc=_headline(aurocs),
        average_precision=_headline(precisions),
        brier=brier(p.probabilities, p.label),
        log_loss=log_loss(p.probabilities, p.label),
        ece=held.ece,
        ece_chance=held.chance,
        class_auroc=aurocs,
        class_ap=precisions,
    )


def probabilities(best: Sequence[Cell]) -> Probabilities:
    """The curves of ``best``, the best cell of each setting (best first), of as many as can be drawn."""
    names = best[0].result.data.class_names
    shown = [_curves(cell) for cell in best if cell.probabilities][:MOST_CURVES]
    return Probabilities(
        shown=tuple(shown),
        settings=len(best),
        positive=names[1] if len(names) == 2 else None,
        classes=len(names),
    )


def _curves(cell: Cell) -> CellCurves:
    p = read_predictions(cell.record)
    confidence, right = _confidence(p), p.label == p.prediction
    found = _rankings(p)
    known = [c for c in found if c]
    mean = found[1] if len(found) == 2 else macro(known) if known else None
    return CellCurves(cell, mean, reliability(confidence, right), _histograms(confidence, right, len(found)))


def _rankings(p: Predictions) -> list[Curves | None]:
    """Each class against the rest."""
    return [ranking(p.probabilities[:, k], p.label == k) for k in range(p.probabilities.shape[1])]


def _headline(by_class: Sequence[float | None]) -> float | None:
    if len(by_class) == 2:
        return by_class[1]
    known = [v for v in by_class if v is not None]
    return sum(known) / len(known) if known else None


def _confidence(p: Predictions) -> np.ndarray:
    return p.probabilities[np.arange(len(p.label)), p.prediction]


def _histograms(confidence: np.ndarray, right: np.ndarray, classes: int) -> Confidences:
    """From the least confidence that a named class can have, 1/K, to 1."""
    edges = np.linspace(1 / classes, 1, CONFIDENCE_BINS + 1)

    def shares(values: np.ndarray) -> np.ndarray:
        return np.histogram(np.clip(values, edges[0], 1), edges)[0] / max(len(values), 1)

    def median(values: np.ndarray) -> float:
        return float(np.median(values)) if len(values) else float("nan")

    sure, unsure = confidence[right], confidence[~right]
    return Confidences(
        edges=edges,
        right=shares(sure),
        wrong=shares(unsure),
        rights=len(sure),
        wrongs=len(unsure),
        right_median=median(sure),
        wrong_median=median(unsure),
    )
