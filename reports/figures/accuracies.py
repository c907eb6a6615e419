"""The test accuracies of all cells of an experiment, with their intervals."""

from __future__ import annotations

from matplotlib.figure import Figure

from reports.figures.parts import percent_axis, short
from reports.formats import interval, percent
from reports.model import Experiment
from reports.style import GREY, PALETTE, Picture, drawing, picture


def accuracies(experiment: Experiment) -> Picture:
    """Test accuracy of every cell with its interval, and the share of the largest class."""
    cells = experiment.cells
    n = cells[0].test.n
    majority = max(c.support for c in cells[0].test.per_class) / n
    with drawing():
        figure = Figure(figsize=(9.2, 1.1 + 0.34 * len(cells)), layout="constrained")
        axes = figure.subplots()
        for row, cell in enumerate(reversed(cells)):
            colour = PALETTE[4] if cell.verdict.kind in ("collapsed", "diverged") else PALETTE[0]
            axes.plot(list(cell.interval), [row, row], color=colour, linewidth=2.4, solid_capstyle="butt")
            axes.plot([cell.test.accuracy], [row], "o", color=colour, markersize=7)
        axes.axvline(majority, color=GREY, linestyle="--", linewidth=1.2)
        axes.set_yticks(range(len(cells)), [f"{c.number}: {short(c.name, 46)}" for c in reversed(cells)])
        axes.set_ylim(-0.6, len(cells) - 0.4)
        percent_axis(axes.xaxis)
        axes.grid(False, axis="y")
        axes.set_xlabel("test accuracy with its 95 % interval; dashed: always naming the largest class")
        alt = f"Test accuracy with intervals. Always naming the largest class gives {percent(majority)}. "
        alt += " ".join(f"{c.name}: {percent(c.test.accuracy)} {interval(c.interval)}." for c in cells)
        return picture(f"experiment-{experiment.number}-accuracies", alt, figure)
