"""The figures of a report, as :class:`~reports.style.Picture`: pure functions of its data."""

from reports.figures.accuracies import accuracies
from reports.figures.confusion import confusion
from reports.figures.curves import curves, overview

__all__ = ["accuracies", "confusion", "curves", "overview"]
