"""What settings cost beside what they reach."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from reports.figures.parts import percent_axis, short
from reports.findings import Cost, Costs
from reports.formats import count, listing, percent, seconds, short_count, size
from reports.style import INK, PALETTE, Picture, drawing, picture

MARKERS = "osD^vPX*"
MOST_NUMBERED = 15  # beyond, only those that nothing beats are numbered
CLOSE = 0.05  # of a panel's width and height: numbers of marks that are closer would lie on each other


def cost_figure(number: int, found: Costs) -> Picture | None:
    """Accuracy over seconds, trained parameters and, where recorded, memory; numbers are ranks.

    A line joins what no other setting beats on both. ``None`` for a single setting.
    """
    if len(found.rows) < 2:
        return None
    panels: list[tuple[str, str, Callable[[Cost], float | None], Callable[[float], str]]] = [
        ("seconds", "time of a cell", lambda c: c.seconds, seconds),
        ("parameters", "trained parameters", lambda c: c.trainable, short_count),
    ]
    if any(c.peak_bytes is not None for c in found.rows):
        what = {"process": "of the process", "device": "on the device"}.get(found.memory_of, "")
        panels.append(("memory", f"peak memory {what}", lambda c: c.peak_bytes, size))
    strategies = list(dict.fromkeys(c.strategy for c in found.rows))
    looks: dict[str, dict[str, Any]] = {
        name: {"color": PALETTE[i % len(PALETTE)], "marker": MARKERS[i % len(MARKERS)]}
        for i, name in enumerate(strategies)
    }
    with drawing():
        below = -(-len(strategies) // 3)
        figure = Figure(figsize=(9.2, 3.5 + 0.2 * below), layout="constrained")
        grid = figure.subplots(1, len(panels), sharey=True)
        for axes, (axis, label, price, shown) in zip(grid, panels, strict=True):
            _panel(axes, found, axis, price, looks)
            _price_axis(axes, shown)
            axes.set_xlabel(label)
        for axes, (axis, _, price, _) in zip(grid, panels, strict=True):  # when all limits are known
            _number(axes, found, axis, price)
        percent_axis(grid[0].yaxis)
        grid[0].set_ylabel("test accuracy")
        handles = [Line2D([], [], linestyle="", markersize=6, **looks[name]) for name in strategies]
        figure.legend(handles, [short(s, 34) for s in strategies], loc="outside lower center", ncols=3)
        return picture(f"experiment-{number}-costs", _words(found), figure)


def _panel(
    axes: Axes,
    found: Costs,
    axis: str,
    price: Callable[[Cost], float | None],
    looks: dict[str, dict[str, Any]],
) -> None:
    front = sorted((p, c.accuracy) for c in found.rows if axis in c.front and (p := price(c)) is not None)
    axes.step(
        *zip(*front, strict=True), where="post", color=INK, linewidth=1.1, linestyle="--"
    ) if front else None
    for c in found.rows:
        x = price(c)
        if x is None:
            continue
        best, look = axis in c.front, looks[c.strategy]
        if axis == "seconds":  # from training alone to what it shared with others
            axes.plot([c.train_s.mean, x], [c.accuracy] * 2, color=look["color"], linewidth=1, alpha=0.6)
        axes.plot([x, x], list(c.interval), color=look["color"], linewidth=1, alpha=0.45)
        axes.plot([x], [c.accuracy], look["marker"], color=look["color"], markersize=7 if best else 5,
                  markeredgecolor=INK if best else look["color"], markeredgewidth=1.4 if best else 0.5,
                  fillstyle="full" if c.learned else "none")  # fmt: skip


def _number(axes: Axes, found: Costs, axis: str, price: Callable[[Cost], float | None]) -> None:
    """Ranks beside the marks; marks that lie close together share a label: ``9, 10``."""
    in_panel = axes.transData + axes.transAxes.inverted()
    labels: dict[tuple[float, float], list[Cost]] = {}
    for c in found.rows:
        x = price(c)
        if x is None or not (axis in c.front or len(found.rows) <= MOST_NUMBERED):
            continue
        at = tuple(in_panel.transform((x, c.accuracy)))
        near = next((a for a in labels if abs(a[0] - at[0]) < CLOSE and abs(a[1] - at[1]) < CLOSE), at)
        labels.setdefault(near, []).append(c)
    for at, close in labels.items():
        bold = any(axis in c.front for c in close)
        axes.annotate(", ".join(str(c.number) for c in close), at, (5, 3), xycoords="axes fraction",
                      textcoords="offset points", fontsize=8, color=INK,
                      fontweight="bold" if bold else "normal")  # fmt: skip


def _price_axis(axes: Axes, shown: Callable[[float], str]) -> None:
    """Logarithmic where prices differ in size; round numbers either way."""
    low, high = axes.dataLim.intervalx
    if low > 0 and high > 3 * low:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 30 * low else (1.0,)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_xlim(0, 1.15 * high)
        axes.locator_params(axis="x", nbins=4)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: shown(v)))
    axes.tick_params(axis="x", which="minor", length=0)
    axes.grid(False, which="minor")


def _words(found: Costs) -> str:
    def said(axis: str, price: Callable[[Cost], str]) -> str:
        names = [f"{c.name} ({price(c)}, {percent(c.accuracy)})" for c in found.rows if axis in c.front]
        return listing(names) if names else "none"

    return (
        f"Cost against test accuracy. Beaten by no other in time and accuracy: "
        f"{said('seconds', lambda c: seconds(c.seconds))}. In trained parameters and accuracy: "
        f"{said('parameters', lambda c: count(c.trainable))}."
    )
