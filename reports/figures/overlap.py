"""Which cells make the same mistakes."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from reports.figures.parts import short
from reports.findings import Overlap
from reports.formats import count
from reports.style import GREY, INK, PALETTE, Picture, drawing, picture

WIDTH = 9.2
DEEPEST = 0.62  # text of the page's colour stands out from it, in light and in dark


def overlap_matrix(number: int, found: Overlap) -> Picture:
    """Below the diagonal shared mistakes in per cent of those of either cell, above it their number."""
    side, jaccard = len(found.cells), found.jaccard
    blue = tuple(int(PALETTE[0][i : i + 2], 16) / 255 for i in (1, 3, 5))
    longest = max(len(_label(c.number, c.name)) for c in found.cells)
    label = 0.09 * longest + 0.2
    size = min(0.6, (WIDTH - label - 0.1) / side)
    with drawing():
        wide, high = size * side + label + 0.1, size * side + 0.4
        figure = Figure(figsize=(wide, high))
        axes = figure.add_axes((label / wide, 0.05 / high, size * side / wide, size * side / high))
        axes.grid(False)
        colours = np.zeros((side, side, 4))
        colours[:] = (*blue, 0)
        lower = np.tril_indices(side, -1)
        colours[(*lower, 3)] = DEEPEST * np.nan_to_num(jaccard[lower])
        # Squares that are drawn, not an image: a bitmap would blur in print.
        grid = np.arange(side + 1)
        axes.pcolormesh(grid, grid, colours, edgecolors=(0.53, 0.53, 0.53, 0.35), linewidth=0.4)
        for i, j in np.ndindex(side, side):
            if i > j:
                text = "" if np.isnan(jaccard[i, j]) else f"{100 * jaccard[i, j]:.0f}"
            else:
                text = count(int(found.shared[i, j]))
            axes.text(j + 0.5, i + 0.5, text, ha="center", va="center", color=INK,
                      fontsize=9 if size > 0.45 else 6.5, fontweight="bold" if i == j else "normal",
                      alpha=1 if i >= j else 0.75)  # fmt: skip
        ticks = np.arange(side) + 0.5
        axes.set_xticks(ticks, [str(c.number) for c in found.cells])
        axes.set_yticks(ticks, [_label(c.number, c.name) for c in found.cells])
        axes.xaxis.tick_top()
        axes.set_ylim(side, 0)
        axes.set_aspect("equal")
        for spine in axes.spines.values():
            spine.set_color(GREY)
            spine.set_visible(False)
        return picture(f"experiment-{number}-overlap", _words(found), figure)


def _label(number: int, name: str) -> str:
    return f"{number}: {short(name, 32)}"


def _words(found: Overlap) -> str:
    jaccard = np.where(np.tril(np.ones_like(found.shared), -1) > 0, found.jaccard, np.nan)
    text = (
        f"Shared mistakes of {len(found.cells)} cells on {count(found.n)} test images: "
        f"{count(found.everyone)} images are wrong in all of them, {count(found.anyone)} in at least one."
    )
    if np.isnan(jaccard).all():
        return text
    if len(found.cells) == 2:
        return f"{text} They share {100 * jaccard[1, 0]:.0f} % of the mistakes of either."
    for kind, at in (("most", np.nanargmax(jaccard)), ("least", np.nanargmin(jaccard))):
        i, j = np.unravel_index(at, jaccard.shape)
        a, b = found.cells[i].name, found.cells[j].name
        text += f" {a} and {b} share {kind}: {100 * jaccard[i, j]:.0f} % of the mistakes of either."
    return text
