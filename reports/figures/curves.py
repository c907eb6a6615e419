"""Accuracy and loss by epoch: of one cell, and of all cells of an experiment."""

from __future__ import annotations

from matplotlib.figure import Figure

from reports.figures.parts import draw_line, epoch_axis, percent_axis, share
from reports.formats import loss
from reports.model import Cell, Experiment
from reports.style import DASHES, GREY, PALETTE, TRAIN, VALIDATION, Picture, drawing, picture

# Beyond these a figure turns into texture: more lines are drawn grey but for the best and the worst.
MOST_LINES = 12


def curves(cell: Cell) -> Picture | None:
    """Accuracy and loss by epoch, training and validation; ``None`` without a history."""
    history = cell.record.history
    if not history:
        return None
    epochs = [e.epoch for e in history]
    with drawing():
        figure = Figure(figsize=(7.4, 3.1))
        left, right = figure.subplots(1, 2)
        # One of these a cell: margins that are known take half the time of those found out.
        figure.subplots_adjust(left=0.08, right=0.995, bottom=0.235, top=0.925, wspace=0.17)
        draw_line(left, epochs, [e.train_accuracy for e in history], TRAIN, "training", "--", "s")
        draw_line(left, epochs, [e.val_accuracy for e in history], VALIDATION, "validation", "-", "o")
        percent_axis(left.yaxis)
        draw_line(right, epochs, [e.train_loss for e in history], TRAIN, "training", "--", "s")
        draw_line(right, epochs, [e.val_loss for e in history], VALIDATION, "validation", "-", "o")
        for axes, title in ((left, "Accuracy"), (right, "Loss (cross-entropy, nats)")):
            axes.set_title(title)
            epoch_axis(axes, epochs)
            axes.axvline(cell.result.selected_epoch, color=GREY, linewidth=1, linestyle=":")
        figure.legend(*left.get_legend_handles_labels(), loc="lower left", ncols=2)
        last = history[-1]
        alt = (
            f"Accuracy and loss by epoch of {cell.name}. After epoch {last.epoch}: training accuracy "
            f"{share(last.train_accuracy)}, validation accuracy {share(last.val_accuracy)}, "
            f"training loss {loss(last.train_loss)}, validation loss {loss(last.val_loss)}."
        )
        return picture(f"cell-{cell.number}-curves", alt, figure)


def overview(experiment: Experiment) -> Picture | None:
    """Validation accuracy and loss by epoch of all cells; ``None`` where no cell has them."""
    shown = [
        c for c in experiment.cells
        if any(e.val_accuracy is not None or e.val_loss is not None for e in c.record.history)
    ]  # fmt: skip
    if len(shown) < 2:
        return None
    marked = {experiment.best_cells[0].number, experiment.best_cells[-1].number}
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
            line = draw_line(left, epochs, [e.val_accuracy for e in history], colour, "", dash, "o")
            other = draw_line(right, epochs, [e.val_loss for e in history], colour, "", dash, "o")
            handle = line or other
            if plain:
                for grey in filter(None, (line, other)):
                    grey.set(alpha=0.45, linewidth=1, markersize=2, zorder=1.5)
            if handle is not None and not plain:
                handles.append(handle)
                labels.append(f"{cell.number}: {cell.name}")
        percent_axis(left.yaxis)
        for axes, title in ((left, "Validation accuracy"), (right, "Validation loss (cross-entropy, nats)")):
            axes.set_title(title)
            epoch_axis(axes, longest)
        figure.legend(handles, labels, loc="outside lower center", ncols=2)
        alt = "Validation accuracy and loss by epoch of all cells. " + " ".join(
            f"{c.name} ends at {share(c.record.history[-1].val_accuracy)}." for c in shown[:MOST_LINES]
        )
        return picture(f"experiment-{experiment.number}-overview", alt, figure)
