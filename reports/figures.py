"""The figures of a report, as :class:`~reports.style.Picture`: pure functions of its data."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from reports.formats import count, interval, loss, percent
from reports.model import Cell, Experiment
from reports.style import DASHES, GREY, INK, PALETTE, TRAIN, VALIDATION, Picture, drawing, picture

# Beyond these a figure turns into texture: more lines are drawn grey but for the best and the worst,
# larger matrices without numbers or not at all.
MOST_LINES = 12
MOST_NUMBERED = 10
MOST_CLASSES = 100


def curves(cell: Cell) -> Picture | None:
    """Accuracy and loss by epoch, training and validation; ``None`` without a history."""
    history = cell.record.history
    if not history:
        return None
    epochs = [e.epoch for e in history]
    with drawing():
        figure = Figure(figsize=(7.4, 3.1), layout="constrained")
        left, right = figure.subplots(1, 2)
        _line(left, epochs, [e.train_accuracy for e in history], TRAIN, "training", "--", "s")
        _line(left, epochs, [e.val_accuracy for e in history], VALIDATION, "validation", "-", "o")
        left.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:g} %"))
        _line(right, epochs, [e.train_loss for e in history], TRAIN, "training", "--", "s")
        _line(right, epochs, [e.val_loss for e in history], VALIDATION, "validation", "-", "o")
        for axes, title in ((left, "Accuracy"), (right, "Loss (cross-entropy, nats)")):
            axes.set_title(title)
            _epochs(axes, epochs)
            axes.axvline(cell.result.selected_epoch, color=GREY, linewidth=1, linestyle=":")
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower left", ncols=2)
        last = history[-1]
        alt = (
            f"Accuracy and loss by epoch of {cell.name}. After epoch {last.epoch}: training accuracy "
            f"{_share(last.train_accuracy)}, validation accuracy {_share(last.val_accuracy)}, "
            f"training loss {loss(last.train_loss)}, validation loss {loss(last.val_loss)}."
        )
        return picture(f"cell-{cell.number}-curves", alt, figure)


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
        figure = Figure(figsize=(size + 0.3, size), layout="constrained")
        axes = figure.subplots()
        axes.grid(False)
        axes.pcolormesh(shares[::-1], cmap=_blues(), vmin=0, vmax=1, edgecolors=GREY, linewidth=0.4)
        if side <= MOST_NUMBERED:
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
        labels = [_short(n) for n in names] if side <= 40 else []
        ticks = np.arange(len(labels)) + 0.5
        axes.set_xticks(ticks, labels, rotation=0 if side <= 4 else 90)
        axes.set_yticks(side - ticks, labels, rotation=90 if side <= 4 else 0, va="center")
        axes.tick_params(length=0)
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")
        axes.set_title("Confusion matrix")
        axes.set_aspect("equal")
        for spine in axes.spines.values():
            spine.set_visible(False)
        return picture(f"cell-{cell.number}-confusion", _matrix_words(cell), figure)


def overview(experiment: Experiment) -> Picture | None:
    """Validation accuracy and loss by epoch of all cells; ``None`` where no cell has them."""
    shown = [
        c for c in experiment.cells
        if any(e.val_accuracy is not None or e.val_loss is not None for e in c.record.history)
    ]  # fmt: skip
    if len(shown) < 2:
        return None
    marked = {experiment.settings[0].cells[0].number, experiment.settings[-1].cells[0].number}
    with drawing():
        figure = Figure(figsize=(9.2, 3.3 + 0.18 * min(len(shown), MOST_LINES)), layout="constrained")
        left, right = figure.subplots(1, 2)
        handles, labels, longest = [], [], [1]
        for i, cell in enumerate(shown):
            plain = len(shown) > MOST_LINES and cell.number not in marked
            colour = GREY if plain else PALETTE[i % len(PALETTE)]
            dash = "-" if plain else DASHES[i // len(PALETTE) % len(DASHES)]
            history = cell.record.history
            epochs = [e.epoch for e in history]
            longest = max(longest, epochs, key=len)
            line = _line(left, epochs, [e.val_accuracy for e in history], colour, "", dash, "o")
            other = _line(right, epochs, [e.val_loss for e in history], colour, "", dash, "o")
            handle = line or other
            if handle is not None and not plain:
                handles.append(handle)
                labels.append(f"{cell.number}: {cell.name}")
        left.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:g} %"))
        for axes, title in ((left, "Validation accuracy"), (right, "Validation loss (cross-entropy, nats)")):
            axes.set_title(title)
            _epochs(axes, longest)
        figure.legend(handles, labels, loc="outside lower center", ncols=2)
        alt = "Validation accuracy and loss by epoch of all cells. " + " ".join(
            f"{c.name} ends at {_share(c.record.history[-1].val_accuracy)}." for c in shown[:MOST_LINES]
        )
        return picture(f"experiment-{experiment.number}-overview", alt, figure)


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
        axes.set_yticks(range(len(cells)), [f"{c.number}: {_short(c.name, 46)}" for c in reversed(cells)])
        axes.set_ylim(-0.6, len(cells) - 0.4)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:g} %"))
        axes.grid(False, axis="y")
        axes.set_xlabel("test accuracy with its 95 % interval; dashed: always naming the largest class")
        alt = f"Test accuracy with intervals. Always naming the largest class gives {percent(majority)}. "
        alt += " ".join(f"{c.name}: {percent(c.test.accuracy)} {interval(c.interval)}." for c in cells)
        return picture(f"experiment-{experiment.number}-accuracies", alt, figure)


def _line(
    axes: Axes, x: Sequence[int], y: Sequence[float | None], colour: str, label: str, dash: str, mark: str
) -> Line2D | None:
    """A line with gaps where a value is absent or not finite; ``None`` without any value."""
    values = [v if v is not None and math.isfinite(v) else math.nan for v in y]
    if all(math.isnan(v) for v in values):
        return None
    return axes.plot(x, values, dash, color=colour, label=label, marker=mark, markersize=3.6)[0]


def _epochs(axes: Axes, epochs: Sequence[int]) -> None:
    axes.set_xlabel("epoch")
    axes.set_xlim(min(epochs) - 0.5, max(epochs) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))


def _blues() -> Colormap:
    """From nothing to blue by opacity, so that it suits a light and a dark page."""
    return LinearSegmentedColormap.from_list("blues", [(0, 0.447, 0.698, a) for a in (0.0, 1.0)])


def _matrix_words(cell: Cell) -> str:
    names, matrix = cell.result.data.class_names, cell.test.confusion
    rows = [
        f"{count(sum(row))} of class {names[i]}: {count(row[i])} right, {count(sum(row) - row[i])} wrong"
        for i, row in enumerate(matrix[:MOST_NUMBERED])
    ]
    return f"Confusion matrix of {cell.name}. " + "; ".join(rows) + "."


def _short(name: str, most: int = 18) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


def _share(value: float | None) -> str:
    return "none" if value is None or not math.isfinite(value) else percent(value)
