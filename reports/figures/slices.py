"""The slices of the test images on which the best cell is weakest."""

from __future__ import annotations

from matplotlib.figure import Figure

from reports.figures.parts import percent_axis, short
from reports.findings import Slices
from reports.formats import count, interval, percent, plural
from reports.style import GREY, PALETTE, Picture, drawing, picture

MOST_SLICES = 10


def slice_figure(number: int, found: Slices) -> Picture | None:
    """Accuracy of the weakest slices with intervals, beside that of all images.

    Filled: different from the other images beyond chance. ``None`` with fewer than three slices.
    """
    rows = found.rows[:MOST_SLICES]
    if len(found.rows) < 3:
        return None
    whole = found.cell.test.accuracy
    with drawing():
        figure = Figure(figsize=(9.2, 0.95 + 0.3 * len(rows)), layout="constrained")
        axes = figure.subplots()
        for y, row in enumerate(reversed(rows)):
            colour = PALETTE[4] if row.differs else PALETTE[0]
            axes.plot(list(row.interval), [y, y], color=colour, linewidth=2.2, solid_capstyle="butt",
                      alpha=0.45 if row.small else 1)  # fmt: skip
            axes.plot([row.accuracy], [y], "o", color=colour, markersize=6,
                      fillstyle="full" if row.differs else "none")  # fmt: skip
        axes.axvline(whole, color=GREY, linestyle="--", linewidth=1.2)
        axes.set_yticks(range(len(rows)), [f"{short(r.label, 40)} ({count(r.n)})" for r in reversed(rows)])
        axes.set_ylim(-0.6, len(rows) - 0.4)
        percent_axis(axes.xaxis)
        axes.grid(False, axis="y")
        axes.set_xlabel("test accuracy with its 95 % interval; dashed: all test images")
        said = " ".join(
            f"{r.label}: {percent(r.accuracy)} {interval(r.interval)} of {plural(r.n, 'image')}"
            f"{', beyond chance' if r.differs else ''}."
            for r in rows
        )
        alt = f"The {len(rows)} weakest slices of {found.cell.name}; all images: {percent(whole)}. {said}"
        return picture(f"experiment-{number}-slices", alt, figure)
