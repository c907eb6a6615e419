"""The sections of a report and their order: for the page, the Markdown and the table of contents alike.

A section is a line here and two templates, ``_KEY.html.j2`` and ``_KEY.md.j2``, without their heading.
Those of an experiment see it as ``v`` (:class:`~reports.views.View`) and ``e`` (``v.experiment``), with
``first`` (the :class:`~reports.record_types.Result` that stands for what all cells share) and ``spec``;
those of the whole report see ``report`` (:class:`~reports.model.ReportData`) and ``views``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from reports.model import Experiment, ReportData
from reports.views import View

Shown = TypeVar("Shown")


def statistics_shown(e: Experiment) -> bool:
    """Whether there is anything to compare, several seeds or groups of images."""
    return bool(
        e.comparisons or any(s.over_seeds for s in e.settings) or any(c.group_interval for c in e.cells)
    )


def _always(_: object) -> bool:
    return True


@dataclass(frozen=True)
class Section(Generic[Shown]):
    """A part with a heading; ``shown`` says whether there is anything to say."""

    key: str
    title: str
    shown: Callable[[Shown], bool] = _always


OPENING: tuple[Section[ReportData], ...] = (Section("summary", "Summary"),)

EXPERIMENT: tuple[Section[View], ...] = (
    Section("methods", "Introduction and methods"),
    Section("stability", "Where each strategy is safe", lambda v: v.stability is not None),
    Section("costs", "Cost and accuracy", lambda v: v.costs is not None),
    Section("cells", "Cells"),
    Section("probabilities", "Probabilities", lambda v: v.reliability is not None),
    Section("errors", "Misclassified examples"),
    Section("overlap", "Shared mistakes", lambda v: v.overlap is not None),
    Section("slices", "Accuracy by attribute", lambda v: v.experiment.slices is not None),
    Section("published", "Beside published figures", lambda v: bool(v.experiment.published)),
    Section("discussion", "Discussion"),
    Section("statistics", "Comparisons and uncertainty", lambda v: statistics_shown(v.experiment)),
    Section("leaks", "Test images that training has seen"),
    Section("card", "Data and responsible use"),
)

CLOSING: tuple[Section[ReportData], ...] = (
    Section("failed", "Failed runs", lambda report: bool(report.failed)),
    Section("reproduce", "Reproduce"),
)
