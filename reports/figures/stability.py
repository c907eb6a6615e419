"""The stability map: which strategy learns at which learning rate, and where it collapses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from reports.figures.parts import short
from reports.findings import StabilityCell, StabilityMap
from reports.formats import listing, percent, plural, short_rate
from reports.style import GREY, INK, PALETTE, Picture, drawing, picture

BLUE, FALLEN = PALETTE[0], PALETTE[4]
# The deepest blue still lets text of the page's colour stand out, in light and in dark.
DEEPEST = 0.62
MARKS = {
    "healthy": "✓",
    "overfitting": "▲",
    "underfitting": "▼",
    "collapsed": "✕",
    "diverged": "✕",
    "failed": "!",
}


def stability_map(number: int, found: StabilityMap) -> Picture:
    """Accuracy and verdict of every strategy at every learning rate, and the edge of collapse.

    The edge parts cells of which every seed learned something from cells of which one collapsed or diverged.
    """
    rows, columns = len(found.rows), len(found.rates)
    known = [c.accuracy for row in found.cells for c in row if c and c.accuracy is not None and not c.fallen]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    with drawing():
        figure = Figure(figsize=(9.2, 1.05 + 0.42 * rows), layout="constrained")
        axes = figure.subplots()
        axes.grid(False)
        for i, row in enumerate(found.cells):
            for j, cell in enumerate(row):
                _draw(axes, i, j, cell, low, high)
        axes.add_collection(LineCollection(list(edge(found)), colors=FALLEN, linewidths=4, capstyle="round"))
        axes.set_xlim(-0.02, columns + 0.02)
        axes.set_ylim(rows + 0.03, -0.03)
        axes.set_xticks([j + 0.5 for j in range(columns)], [short_rate(lr) for lr in found.rates])
        axes.set_yticks([i + 0.5 for i in range(rows)], [short(name, 30) for name in found.rows])
        axes.set_xlabel("learning rate")
        for spine in axes.spines.values():
            spine.set_visible(False)
        return picture(f"experiment-{number}-stability", _words(found), figure)


def _draw(axes: Axes, i: int, j: int, cell: StabilityCell | None, low: float, high: float) -> None:
    place = (j + 0.03, i + 0.05)
    if cell is None:
        axes.text(j + 0.5, i + 0.5, "not run", ha="center", va="center", color=GREY, fontsize=7.5)
        return
    look: dict[str, Any] = {"facecolor": GREY, "alpha": 0.15}
    if cell.fallen:
        look = {"facecolor": "none", "edgecolor": FALLEN, "hatch": "////", "linewidth": 0, "alpha": 0.6}
    elif cell.accuracy is not None:
        share = (cell.accuracy - low) / (high - low) if high > low else 1.0
        look = {"facecolor": BLUE, "alpha": 0.06 + (DEEPEST - 0.06) * share}
    axes.add_patch(Rectangle(place, 0.94, 0.9, **{"linewidth": 0, **look}))
    value = "" if cell.accuracy is None else f"{100 * cell.accuracy:.1f} "
    top = f"{value}{MARKS[_kind(cell)]}"
    axes.text(j + 0.5, i + 0.37, top, ha="center", va="center", color=INK, fontsize=9.5, fontweight="bold")
    axes.text(j + 0.5, i + 0.74, _note(cell), ha="center", va="center", color=INK, fontsize=7)


def _kind(cell: StabilityCell) -> str:
    return "collapsed" if cell.fallen else cell.verdict


def _note(cell: StabilityCell) -> str:
    """``healthy``, ``1 of 3 collapsed``, ``2 of 3 fell`` (in both ways), ``1 fell, 1 failed``."""
    fell, seeds = cell.collapsed + cell.diverged, cell.seeds
    if not fell:
        return cell.verdict if not cell.failed else _of(cell.failed, seeds, "failed")
    if cell.failed:
        return f"{fell} fell, {cell.failed} failed"
    name = "fell" if cell.collapsed and cell.diverged else "collapsed" if cell.collapsed else "diverged"
    return _of(fell, seeds, name)


def _of(n: int, seeds: int, name: str) -> str:
    return name if n == seeds else f"{n} of {seeds} {name}"


def edge(found: StabilityMap) -> Iterator[list[tuple[float, float]]]:
    """The sides between a safe cell and a fallen one that touch: their ends as column and row."""

    def parts(a: StabilityCell | None, b: StabilityCell | None) -> bool:
        return bool(a and b and ((a.safe and b.fallen) or (a.fallen and b.safe)))

    for i, row in enumerate(found.cells):
        for j, cell in enumerate(row):
            if j + 1 < len(row) and parts(cell, row[j + 1]):
                yield [(j + 1, i), (j + 1, i + 1)]
            if i + 1 < len(found.cells) and parts(cell, found.cells[i + 1][j]):
                yield [(j, i + 1), (j + 1, i + 1)]


def _words(found: StabilityMap) -> str:
    said = []
    for name, row in zip(found.rows, found.cells, strict=True):
        run = [(lr, cell) for lr, cell in zip(found.rates, row, strict=True) if cell]
        safe = [
            f"{short_rate(lr)} ({percent(c.accuracy)})" for lr, c in run if c.safe and c.accuracy is not None
        ]
        fallen = [short_rate(lr) for lr, c in run if c.fallen]
        failed = [short_rate(lr) for lr, c in run if not c.safe and not c.fallen]
        parts = [f"learns at {listing(safe)}" if safe else "is safe nowhere"]
        parts += [f"collapses or diverges at {listing(fallen)}"] if fallen else []
        parts += [f"failed at {listing(failed)}"] if failed else []
        said.append(f"{name} {', '.join(parts)}.")
    many = (
        f"{plural(len(found.rows), 'strategy', 'strategies')} at {plural(len(found.rates), 'learning rate')}"
    )
    return f"Stability map of {many}, with mean test accuracies. {' '.join(said)}"
