"""What several figures share: lines with gaps, axes of epochs and shares, colours of counts, short names."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from reports.formats import percent


def draw_line(
    axes: Axes, x: Sequence[int], y: Sequence[float | None], colour: str, label: str, dash: str, mark: str
) -> Line2D | None:
    """A line with gaps where a value is absent or not finite; ``None`` without any value."""
    values = [v if v is not None and math.isfinite(v) else math.nan for v in y]
    if all(math.isnan(v) for v in values):
        return None
    return axes.plot(x, values, dash, color=colour, label=label, marker=mark, markersize=3.6)[0]


def epoch_axis(axes: Axes, epochs: Sequence[int]) -> None:
    """Whole epochs on the x-axis."""
    axes.set_xlabel("epoch")
    axes.set_xlim(min(epochs) - 0.5, max(epochs) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))


def percent_axis(axis: Axis) -> None:
    """Shares as percent."""
    axis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:g} %"))


def blues() -> Colormap:
    """From nothing to blue by opacity, so that it suits a light and a dark page."""
    return LinearSegmentedColormap.from_list("blues", [(0, 0.447, 0.698, a) for a in (0.0, 1.0)])


def short(name: str, most: int = 18) -> str:
    """The name in at most ``most`` characters, cut within: its end (rate, seed) tells settings apart."""
    end = most // 2
    return name if len(name) <= most else f"{name[: most - 1 - end]}…{name[len(name) - end :]}"


def share(value: float | None) -> str:
    """A share as percent, ``none`` where there is no finite one."""
    return "none" if value is None or not math.isfinite(value) else percent(value)
