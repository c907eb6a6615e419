"""The figures of a report, as :class:`~reports.style.Picture`: pure functions of its data."""

from reports.figures.accuracies import accuracies
from reports.figures.calibration import confidences, reliability
from reports.figures.confusion import confusion
from reports.figures.costs import cost_figure
from reports.figures.curves import curves, overview
from reports.figures.overlap import overlap_matrix
from reports.figures.ranking import ranking
from reports.figures.slices import slice_figure
from reports.figures.stability import stability_map

__all__ = [
    "accuracies",
    "confidences",
    "confusion",
    "cost_figure",
    "curves",
    "overlap_matrix",
    "overview",
    "ranking",
    "reliability",
    "slice_figure",
    "stability_map",
]
