"""Runs as a notebook shows them: a table and figures, self-contained HTML, every name escaped."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from reports import figures
from reports.model import Experiment, ReportData
from reports.records import load_records
from reports.render import fragment
from reports.style import Picture
from reports.summary import build_report


def run_html(folder: Path) -> str:
    """One run: figures with their intervals, curves, confusion matrix, what the model is not for."""
    records = load_records([folder])
    data = build_report(records, examples=0)
    pictures: list[Picture | None] = []
    for experiment in data.experiments:
        (cell,) = experiment.cells
        pictures += [figures.curves(cell), figures.confusion(cell)]
    return _fragment(data, [[p for p in pictures if p is not None]] if data.experiments else [])


def grid_html(folders: Sequence[Path]) -> str:
    """A grid: a table of its cells and, for each experiment, the accuracies with their intervals."""
    if not folders:
        return fragment({"report": None, "blocks": ()})
    data = build_report(load_records(folders), examples=0)
    return _fragment(data, [[figures.accuracies(e)] for e in data.experiments])


def _fragment(data: ReportData, pictures: Sequence[Sequence[Picture]]) -> str:
    blocks: list[tuple[Experiment, list[tuple[Markup, str]]]] = [
        (experiment, [(_uri(p), p.alt) for p in shown])
        for experiment, shown in zip(data.experiments, pictures, strict=True)
    ]
    return fragment({"report": data, "blocks": blocks})


def _uri(picture: Picture) -> Markup:
    """The figure as an image of its own, so that ids of one output never meet those of another."""
    return Markup(f"data:image/svg+xml;base64,{base64.b64encode(picture.file.encode()).decode()}")
