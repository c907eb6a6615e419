"""Whether probabilities can be taken at their word: reliability diagrams, and how sure cells were."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MultipleLocator

from reports.figures.parts import percent_axis, short
from reports.findings import CellCurves, Probabilities
from reports.formats import count, percent, points, width
from reports.style import GREY, INK, PALETTE, Picture, drawing, picture

COLUMNS = 3
RIGHT, WRONG = PALETTE[0], PALETTE[4]


def reliability(number: int, found: Probabilities) -> Picture | None:
    """For each of the settings that rank first a diagram: accuracy by confidence, and how many images."""
    if not found.shown:
        return None
    bins = len(found.shown[0].reliability.count)
    words = [
        f"{s.cell.name}: ECE {width(s.reliability.ece)} points ({width(s.reliability.chance)} by chance "
        f"alone), {_lean(s)}."
        for s in found.shown
    ]
    alt = f"Reliability diagrams with {bins} bins. {' '.join(words)}"
    return _panels(f"experiment-{number}-reliability", alt, found, 3.35, _reliability)


def confidences(number: int, found: Probabilities) -> Picture | None:
    """For each of them how sure it was where it was right (upward) and where it was wrong (downward)."""
    if not found.shown:
        return None
    words = []
    for s in found.shown:
        c = s.confidences
        wrong = (
            f", {percent(c.wrong_median)} in its {count(c.wrongs)} wrong ones" if c.wrongs else ", none wrong"
        )
        words.append(
            f"{s.cell.name}: median {percent(c.right_median)} in {count(c.rights)} right answers{wrong}."
        )
    alt = f"Confidence of right and of wrong answers. {' '.join(words)}"
    return _panels(f"experiment-{number}-confidences", alt, found, 2.75, _confidences)


def _panels(
    name: str, alt: str, found: Probabilities, height: float, draw: Callable[[Axes, CellCurves], None]
) -> Picture:
    columns = min(COLUMNS, len(found.shown))
    rows = -(-len(found.shown) // columns)
    with drawing():
        figure = Figure(figsize=(3.07 * columns, height * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, shown in zip(grid, found.shown, strict=False):
            axes.set_title(f"{shown.cell.number}: {short(shown.cell.name, 34)}", fontsize=9)
            draw(axes, shown)
        for axes in grid[len(found.shown) :]:
            axes.set_visible(False)
        return picture(name, alt, figure)


def _reliability(axes: Axes, shown: CellCurves) -> None:
    r = shown.reliability
    filled = r.count > 0
    middle, wide = (r.edges[:-1] + r.edges[1:]) / 2, float(r.edges[1])
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":")
    axes.bar(middle[filled], r.accuracy[filled], 0.86 * wide, color=RIGHT, alpha=0.4, linewidth=0)
    axes.vlines(r.confidence[filled], r.low[filled], r.high[filled], color=INK, linewidth=1.2, alpha=0.75)
    axes.plot(r.confidence[filled], r.accuracy[filled], "o", color=WRONG, markersize=4)
    for x, n in zip(middle[filled], r.count[filled], strict=True):
        axes.text(x, 0.015, count(int(n)), ha="center", va="bottom", rotation=90, fontsize=6.5, color=INK)
    axes.set_xlim(max(0.0, float(r.edges[:-1][filled].min()) - wide / 2), 1.01)
    axes.set_ylim(0, 1.02)
    for axis in (axes.xaxis, axes.yaxis):
        percent_axis(axis)
    axes.xaxis.set_major_locator(MultipleLocator(0.2))
    axes.set_xlabel(f"confidence\nECE {width(r.ece)} points (by chance {width(r.chance)})")
    axes.set_ylabel("accuracy")


def _confidences(axes: Axes, shown: CellCurves) -> None:
    c = shown.confidences
    for shares, n, colour, sign, hatch, what in (
        (c.right, c.rights, RIGHT, 1, "", "right"),
        (c.wrong, c.wrongs, WRONG, -1, "///", "wrong"),
    ):
        axes.stairs(sign * shares, c.edges, baseline=0, fill=True, facecolor=(colour, 0.5), hatch=hatch,
                    edgecolor=colour, linewidth=0.8)  # fmt: skip
        median = c.right_median if sign > 0 else c.wrong_median
        axes.text(0.04, 0.96 if sign > 0 else 0.04, f"{what}: {count(n)}", transform=axes.transAxes,
                  va="top" if sign > 0 else "bottom", fontsize=8.5, color=INK)  # fmt: skip
        if n:
            axes.plot([median, median], [0, sign * shares.max()], color=INK, linewidth=1.2, linestyle="--")
    axes.axhline(0, color=GREY, linewidth=0.8)
    reach = 1.25 * max(float(c.right.max()), float(c.wrong.max()), 0.05)
    axes.set_ylim(-reach, reach)
    axes.set_xlim(float(c.edges[0]) - 0.01, 1.01)
    percent_axis(axes.xaxis)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{abs(100 * v):g} %"))
    axes.set_xlabel("confidence")
    axes.set_ylabel("share of answers")


def _lean(shown: CellCurves) -> str:
    """Whether stated probabilities lie above what comes true."""
    r = shown.reliability
    filled = r.count > 0
    gap = float(np.average((r.confidence - r.accuracy)[filled], weights=r.count[filled]))
    if abs(gap) < 0.005:
        return "on average as sure as it is right"
    return f"on average too {'sure' if gap > 0 else 'unsure'} by {points(abs(gap)).lstrip('+')} points"
