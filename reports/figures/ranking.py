"""ROC and precision-recall curves of the settings that rank first."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from reports.figures.parts import percent_axis, short
from reports.findings import Probabilities
from reports.formats import area
from reports.style import DASHES, GREY, PALETTE, Picture, drawing, picture

MOST_POINTS = 200


def ranking(number: int, found: Probabilities) -> Picture | None:
    """Left sensitivity against false alarms, right precision against recall; a line a setting.

    ``None`` where all test images are of one class.
    """
    shown = [(s.cell, s.curves) for s in found.shown if s.curves]
    if not shown:
        return None
    of = f"'{found.positive}'" if found.positive else f"the mean over {found.classes} classes"
    with drawing():
        figure = Figure(figsize=(9.2, 4.4 + 0.18 * len(shown)), layout="constrained")
        left, right = figure.subplots(1, 2)
        handles, labels, words = [], [], []
        for i, (cell, curves) in enumerate(shown):
            style = {
                "color": PALETTE[i % len(PALETTE)],
                "linestyle": DASHES[i % len(DASHES)],
                "linewidth": 1.5,
            }
            (line,) = left.plot(*_thinned(curves.fpr, curves.tpr), **style)
            right.plot(*_thinned(curves.recall, curves.precision), **style)
            scores = cell.probabilities
            if scores is None:
                continue
            areas = f"AUROC {area(scores.auroc)}, AP {area(scores.average_precision)}"
            handles.append(line)
            labels.append(f"{cell.number}: {short(cell.name, 60)} ({areas})")
            words.append(f"{cell.name}: {areas}.")
        left.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":")
        blind = _share_of_positives(found)
        right.axhline(blind, color=GREY, linewidth=1, linestyle=":")
        left.set_title("ROC")
        left.set_xlabel("false positive rate")
        left.set_ylabel("true positive rate")
        right.set_title("Precision and recall")
        right.set_xlabel("recall")
        right.set_ylabel("precision")
        for axes in (left, right):
            axes.set_xlim(-0.01, 1.01)
            axes.set_ylim(0, 1.02)
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_locator(MultipleLocator(0.2))
                percent_axis(axis)
        figure.legend(handles, labels, loc="outside lower left")
        alt = f"ROC and precision-recall curves of {of}. {' '.join(words)} Blind guessing: AUROC 0.500."
        return picture(f"experiment-{number}-ranking", alt, figure)


def _thinned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most :data:`MOST_POINTS` of a curve's points; more are smaller than its line is wide."""
    at = np.unique(np.linspace(0, len(x) - 1, MOST_POINTS).round().astype(int))
    return x[at], y[at]


def _share_of_positives(found: Probabilities) -> float:
    """The precision of blind guessing; of several classes the mean, 1/K."""
    classes = found.shown[0].cell.test.per_class
    return classes[1].support / sum(c.support for c in classes) if found.positive else 1 / len(classes)
