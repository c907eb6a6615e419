"""A strategy on a backbone as a figure: stages from the image down, epochs from left to right."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from harness.stage_plan import StagePlan
from reports.formats import count, rates, short_rate
from reports.style import GREY, INK, PALETTE, Picture, drawing, picture

_MOST_NAMED = 60  # stages whose name still can be read
_FAINTEST = 0.25  # of the smallest learning rate


def draw_plan(title: str, stages: Sequence[StagePlan], epochs: int) -> Picture:
    """A row for each stage with parameters: coloured where it trains, grey where it is frozen, hatched
    where the frozen prefix is shared. The deeper the colour, the larger the learning rate.
    """
    rows = [stage for stage in stages if stage.parameters]
    scale = sorted({span.lr for stage in rows for span in stage.lr if span.lr > 0})
    with drawing():
        figure = Figure(figsize=(6.4, 1.3 + 0.26 * len(rows)), layout="constrained")
        axes = figure.subplots()
        axes.grid(False)
        for y, stage in enumerate(rows):
            _row(axes, y, stage, epochs, scale)
        names = [f"{s.name} ({count(s.parameters)})" for s in rows] if len(rows) <= _MOST_NAMED else []
        axes.set_yticks(range(len(names)), names)
        axes.set_xlim(0.5, epochs + 0.5)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))
        axes.set_xlabel("epoch; grey: frozen, hatched: in the frozen prefix; numbers: learning rate")
        axes.set_title(title)
        alt = f"{title}, by stage. " + "; ".join(f"{s.name} {rates(s.lr, epochs)}" for s in rows) + "."
        return picture("plan", alt, figure)


def _row(axes: Axes, y: int, stage: StagePlan, epochs: int, scale: Sequence[float]) -> None:
    _bar(axes, y, 1, epochs, facecolor=GREY, alpha=0.2)
    if stage.prefix:
        _bar(axes, y, 1, stage.prefix, facecolor="none", edgecolor=GREY, hatch="////", linewidth=0.0)
    for span in stage.lr:
        # By rank, since rates differ by powers of ten.
        rank = (scale.index(span.lr) + 1) / len(scale) if span.lr else 0.0
        _bar(axes, y, span.first, span.last, facecolor=PALETTE[0], alpha=_FAINTEST + (1 - _FAINTEST) * rank)
        if span.last - span.first + 1 >= epochs / 8:
            middle, colour = (span.first + span.last) / 2, "#ffffff" if rank > 0.5 else INK
            axes.text(middle, y, short_rate(span.lr), ha="center", va="center", fontsize=7.5, color=colour)


def _bar(axes: Axes, y: int, first: int, last: int, **look: object) -> None:
    axes.add_patch(Rectangle((first - 0.5, y - 0.4), last - first + 1, 0.8, **look))  # type: ignore[arg-type]
