"""Two settings side by side, and their difference."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from reports.figures.parts import percent_axis, short
from reports.formats import interval, points, width
from reports.outcomes import Comparison, Setting
from reports.phrases import figure as in_words
from reports.phrases import reading
from reports.style import GREY, PALETTE, Picture, drawing, picture

A, B = PALETTE[0], PALETTE[4]


def comparison(c: Comparison) -> Picture:
    """Left the accuracies with their intervals (over seeds, a dot a seed), right the difference with its
    own. The grey band is what the test mostly wouldn't find.
    """
    with drawing():
        figure = Figure(figsize=(8.6, 2.3), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1.3, 1))
        _accuracy(left, 1, c.first, A)
        _accuracy(left, 0, c.second, B)
        left.set_yticks([1, 0], [f"A: {short(c.first.name, 34)}", f"B: {short(c.second.name, 34)}"])
        left.set_ylim(-0.6, 1.6)
        percent_axis(left.xaxis)
        left.set_title("Test accuracy")
        right.axvspan(-c.resolvable, c.resolvable, color=GREY, alpha=0.18, linewidth=0)
        right.axvline(0, color=GREY, linestyle="--", linewidth=1.2)
        colour = GREY if not c.supported else A if c.difference > 0 else B
        right.plot(list(c.interval), [0, 0], color=colour, linewidth=2.4, solid_capstyle="butt")
        right.plot([c.difference], [0], "o", color=colour, markersize=7)
        right.set_yticks([])
        right.set_ylim(-1, 1)
        right.xaxis.set_major_formatter(FuncFormatter(lambda v, _: points(v)))
        right.set_title(f"A - B in points: {reading(c).replace('first', 'A').replace('second', 'B')}")
        for axes in (left, right):
            axes.grid(False, axis="y")
        right.set_xlabel(f"95 % interval; grey: under {width(c.resolvable)} points, mostly not found")
        alt = (
            f"A, {c.first.name}: {in_words(c.first)}. B, {c.second.name}: {in_words(c.second)}. Difference "
            f"{points(c.difference)} points {interval(c.interval)}: {reading(c)}."
        )
        return picture("comparison", alt, figure)


def _accuracy(axes: Axes, row: int, setting: Setting, colour: str) -> None:
    ends = setting.over_seeds.interval if setting.over_seeds else setting.cells[0].interval
    axes.plot(
        [max(ends.low, 0), min(ends.high, 1)], [row, row], color=colour, linewidth=2.4, solid_capstyle="butt"
    )
    axes.plot([setting.accuracy.mean], [row], "o", color=colour, markersize=7)
    if len(setting.cells) > 1:
        seeds = [cell.test.accuracy for cell in setting.cells]
        axes.plot(seeds, [row - 0.25] * len(seeds), "|", color=colour, markersize=9)
