"""The test accuracies of all cells of an experiment, or of its settings over seeds, with their intervals."""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib.figure import Figure

from harness.stats import Interval
from reports.figures.parts import percent_axis, short
from reports.formats import interval, percent
from reports.model import Cell, Experiment
from reports.outcomes import Setting
from reports.style import GREY, PALETTE, Picture, drawing, picture

# Rows stand closer where there are more than this.
MOST_WIDE_ROWS = 20


@dataclass(frozen=True)
class _Row:
    name: str
    accuracy: float
    ends: Interval
    seeds: tuple[float, ...]
    failed: bool


def accuracies(experiment: Experiment) -> Picture:
    """Test accuracy with its interval, and the share of the largest class.

    A row a cell; where settings have several seeds a row a setting, with a mark a seed.
    """
    cells, settings = experiment.cells, experiment.settings
    rows = [_of_cell(c) for c in cells] if len(cells) == len(settings) else [_of_setting(s) for s in settings]
    n = cells[0].test.n
    majority = max(c.support for c in cells[0].test.per_class) / n
    height = 0.34 if len(rows) <= MOST_WIDE_ROWS else 0.2
    with drawing():
        figure = Figure(figsize=(9.2, 1.1 + height * len(rows)), layout="constrained")
        axes = figure.subplots()
        for y, row in enumerate(reversed(rows)):
            colour = PALETTE[4] if row.failed else PALETTE[0]
            axes.plot(list(row.ends), [y, y], color=colour, linewidth=2.4, solid_capstyle="butt")
            axes.plot([row.accuracy], [y], "o", color=colour, markersize=7 if height > 0.3 else 5)
            axes.plot(row.seeds, [y] * len(row.seeds), "|", color=colour, markersize=11)
        axes.axvline(majority, color=GREY, linestyle="--", linewidth=1.2)
        axes.set_yticks(range(len(rows)), [short(row.name, 46) for row in reversed(rows)])
        axes.set_ylim(-0.6, len(rows) - 0.4)
        percent_axis(axes.xaxis)
        axes.grid(False, axis="y")
        axes.set_xlabel("test accuracy with its 95 % interval; dashed: always naming the largest class")
        alt = f"Test accuracy with intervals. Always naming the largest class gives {percent(majority)}. "
        alt += " ".join(f"{row.name}: {percent(row.accuracy)} {interval(row.ends)}." for row in rows)
        return picture(f"experiment-{experiment.number}-accuracies", alt, figure)


def _of_cell(cell: Cell) -> _Row:
    failed = cell.verdict.kind in ("collapsed", "diverged")
    return _Row(f"{cell.number}: {cell.name}", cell.test.accuracy, cell.interval, (), failed)


def _of_setting(s: Setting[Cell]) -> _Row:
    ends = s.over_seeds.interval if s.over_seeds else s.cells[0].interval
    failed = any(cell.verdict.kind in ("collapsed", "diverged") for cell in s.cells)
    seeds = tuple(cell.test.accuracy for cell in s.cells) if len(s.cells) > 1 else ()
    return _Row(s.name, s.accuracy.mean, Interval(max(ends.low, 0), min(ends.high, 1)), seeds, failed)
