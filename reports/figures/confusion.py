"""The confusion matrix of one cell."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from reports.figures.parts import blues, short
from reports.formats import count
from reports.model import Cell
from reports.style import GREY, INK, Picture, drawing, picture

# Larger matrices are drawn without numbers, or not at all.
MOST_NUMBERED = 10
MOST_CLASSES = 100


def confusion(cell: Cell) -> Picture | None:
    """The confusion matrix, coloured by the share of each true class; ``None`` with too many classes."""
    names = cell.result.data.class_names
    matrix = np.array(cell.test.confusion)
    if len(names) > MOST_CLASSES:
        return None
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = len(names)
    size = 2.9 if side <= 4 else min(2.0 + 0.45 * side, 7.0)
    with drawing():
        figure = Figure(figsize=(size + 0.3, size), layout="constrained" if side > 4 else None)
        axes = figure.subplots()
        axes.grid(False)
        if side > MOST_NUMBERED:
            # A picture of a pixel a count: as rectangles, a hundred cells of forty classes don't fit a page.
            axes.imshow(blues()(shares), extent=(0, side, 0, side), interpolation="none")
            axes.add_patch(Rectangle((0, 0), side, side, fill=False, edgecolor=GREY, linewidth=0.8))
        else:
            axes.pcolormesh(shares[::-1], cmap=blues(), vmin=0, vmax=1, edgecolors=GREY, linewidth=0.4)
            for row, column in np.ndindex(side, side):
                axes.text(
                    column + 0.5,
                    side - row - 0.5,
                    f"{count(int(matrix[row, column]))}\n{100 * shares[row, column]:.1f} %",
                    ha="center",
                    va="center",
                    color="#ffffff" if shares[row, column] > 0.5 else INK,
                    fontsize=11 if side <= 4 else 8,
                )
        labels = [short(n, 30 // side if side <= 4 else 18) for n in names] if side <= 40 else []
        ticks = np.arange(len(labels)) + 0.5
        axes.set_xticks(ticks, labels, rotation=0 if side <= 4 else 90)
        axes.set_yticks(side - ticks, labels, rotation=90 if side <= 4 else 0, va="center")
        axes.tick_params(length=0)
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")
        axes.set_title("Confusion matrix")
        axes.set_aspect("equal")
        if side <= 4:  # short labels: margins that are known take a third of the time of those found out
            figure.subplots_adjust(left=0.155, right=0.995, bottom=0.145, top=0.91)
        for spine in axes.spines.values():
            spine.set_visible(False)
        return picture(f"cell-{cell.number}-confusion", _matrix_words(cell), figure)


def _matrix_words(cell: Cell) -> str:
    names, matrix = cell.result.data.class_names, cell.test.confusion
    rows = [
        f"{count(sum(row))} of class {names[i]}: {count(row[i])} right, {count(sum(row) - row[i])} wrong"
        for i, row in enumerate(matrix[:MOST_NUMBERED])
    ]
    return f"Confusion matrix of {cell.name}. " + "; ".join(rows) + "."
