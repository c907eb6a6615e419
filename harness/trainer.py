"""Fits suffixes: objects in, epoch states out. Knows no files, no command line, no plots, no test set."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch.nn import functional as F

from harness.backbones.tapped import TappedModel
from harness.cell import Cell, Row, Snapshot, TrainData
from harness.cell_state import CellState
from harness.epoch import class_weights, train_epoch
from harness.errors import HarnessError
from harness.features import BATCH, FeatureSource
from harness.fused import train_epoch_fused
from harness.probe import probe
from harness.runtime import fixed_batches
from harness.verdicts import DIVERGED
from harness.witness import Witness
from harness.world import ALONE, Parted, World


class Diverged(HarnessError):
    """The training loss is no longer finite."""


@dataclass(frozen=True)
class EpochState:
    """What an epoch left behind; ``snapshot()`` is costly and therefore a call."""

    cell: Cell
    row: Row
    _state: CellState = field(repr=False)

    def snapshot(self) -> Snapshot:
        """Copies of everything that a later ``fit`` needs to go on from here."""
        return self._state.snapshot()

    @property
    def history(self) -> tuple[Row, ...]:
        return tuple(self._state.history)

    @property
    def witness(self) -> Witness:
        """What training has really touched so far; it goes on changing."""
        return self._state.witness

    @property
    def selected_epoch(self) -> int:
        """The epoch whose weights the settings' ``select`` names, so far."""
        return self._state.best_epoch if self.cell.settings.select == "best" else int(self.row["epoch"] or 0)


@dataclass(frozen=True)
class Failed:
    """A cell that can't go on; the others do."""

    cell: Cell
    error: HarnessError


def fit(cell: Cell, data: TrainData, resume: Snapshot | None = None) -> Iterator[EpochState]:
    """Trains ``cell`` and yields after each epoch; with ``resume`` it goes on after that epoch.

    When it ends the model holds the weights of the selected epoch. Raises :class:`Diverged` when
    the training loss is not finite.
    """
    for state in fit_together([cell], data, [resume]):
        if isinstance(state, Failed):
            raise state.error
        yield state


def fit_together(
    cells: Sequence[Cell], data: TrainData, resume: Sequence[Snapshot | None], *, fused: bool = False
) -> Iterator[EpochState | Failed]:
    """Trains cells of one seed and one recipe of training side by side, epoch by epoch.

    Each ends as it would alone, bit for bit; what they share is augmented batches and, with
    ``fused``, the operations of their linear heads.
    """
    settings = cells[0].settings
    beside = len(cells) > 1 and cells[0].world.alone
    states = [CellState.start(c, snapshot, beside=beside) for c, snapshot in zip(cells, resume, strict=True)]
    weights = class_weights(data, settings).to(cells[0].device)
    for epoch in range(1, settings.epochs + 1):
        active = [state for state in states if len(state.history) == epoch - 1]
        began = time.perf_counter()
        for state in active:
            state.begin(epoch)
        sources = _sources(active, data, epoch)
        together = [active] if fused and active else [[state] for state in active]
        spent = (time.perf_counter() - began) / max(len(active), 1)
        for batch in together:
            began = time.perf_counter()
            try:
                for state in batch:
                    _adapt(state, data, sources, weights, epoch)
                found = _train(batch, data, sources, weights, epoch, fused)
            except Parted:
                raise
            except HarnessError as error:  # of a cell that is alone in its batch
                batch[0].optimizer.zero_grad(set_to_none=True)
                yield Failed(batch[0].cell, error)
                continue
            spent_each = spent + (time.perf_counter() - began) / len(batch)
            for state, (loss, right) in zip(batch, found, strict=True):
                state.cell.world.check_same(state.cell.tensors(), f"after epoch {epoch}")
                if math.isfinite(loss):
                    state.add(_row(state, data, epoch, loss, right, spent_each))
                    yield EpochState(state.cell, state.history[-1], state)
                else:
                    yield Failed(state.cell, _diverged(epoch))
    for state in states:
        if len(state.history) == settings.epochs:
            state.select()


def evaluate(cell: Cell, features: Mapping[int, FeatureSource], rows: torch.Tensor) -> torch.Tensor:
    """Logits float32 ``[len(rows), classes]`` on the CPU, the network in eval mode.

    Batches have one fixed shape, the last one padded, so that a row's logits don't depend on how
    many rows are asked for.
    """
    return _evaluate(cell, len(cell.cuts) - 1, features, rows, ALONE)


def _evaluate(
    cell: Cell, segment: int, features: Mapping[int, FeatureSource], rows: torch.Tensor, world: World
) -> torch.Tensor:
    """Each process of ``world`` computes every so-manieth batch, and all have all logits."""
    cell.model.eval()
    suffix, source = cell.suffix(segment), features[cell.cuts[segment]]
    padded = torch.cat([rows, rows[-1:].expand(-len(rows) % (BATCH * world.size))]).split(BATCH)
    found = []
    with torch.inference_mode(), fixed_batches("the evaluation", BATCH):
        for index in padded[world.rank :: world.size]:
            with cell.autocast():
                found.append(suffix(source.batch(index, cell.device)).float())
    shares = torch.stack(world.gathered(torch.stack(found)))
    return shares.transpose(0, 1).flatten(0, 2)[: len(rows)].cpu()


def _train(
    batch: Sequence[CellState],
    data: TrainData,
    sources: Mapping[int, FeatureSource],
    weights: torch.Tensor,
    epoch: int,
    fused: bool,
) -> list[tuple[float, float]]:
    """Mean loss and accuracy of each cell's epoch."""
    first = batch[0]
    source = sources[first.cell.cuts[first.segment]]
    if fused:
        cells, optimizers = [state.cell for state in batch], [state.optimizer for state in batch]
        return train_epoch_fused(cells, data, source, optimizers, weights, epoch)
    pieces = first.micro_batches
    return [train_epoch(first.cell, first.segment, data, source, first.optimizer, weights, epoch, pieces)]


def _sources(active: Sequence[CellState], data: TrainData, epoch: int) -> Mapping[int, FeatureSource]:
    if data.augmented is None or not active:
        return data.features
    cuts = tuple(sorted({state.cell.cuts[state.segment] for state in active}))
    return data.augmented.at(active[0].cell.seed, epoch, cuts)


def _adapt(
    state: CellState, data: TrainData, sources: Mapping[int, FeatureSource], weights: torch.Tensor, epoch: int
) -> None:
    """Lets an adaptive strategy set the epoch's learning rates."""
    adaptation, cell = state.adaptation, state.cell
    if adaptation is None:
        return
    source = sources[cell.cuts[state.segment]]
    count, pieces = adaptation.batches, state.micro_batches
    seen = probe(cell, state.segment, data, source, weights, epoch, count, pieces)
    if not all(math.isfinite(s.gradient_norm) and math.isfinite(s.weight_norm) for s in seen.values()):
        raise _diverged(epoch)
    state.adapt(adaptation, seen)


def _row(
    state: CellState, data: TrainData, epoch: int, loss: float, right: float, train_seconds: float
) -> Row:
    """Validates; what the epoch adds to the history."""
    began, model = time.perf_counter(), state.cell.model
    state.end(epoch)
    logits = _evaluate(state.cell, state.segment, data.features, data.val, state.cell.world)
    labels = data.labels[data.val]
    val_loss = float(F.cross_entropy(logits, labels))
    val_accuracy = float((logits.argmax(1) == labels).double().mean())
    return {
        "epoch": epoch,
        "train_loss": loss,
        "train_accuracy": right,
        "val_loss": val_loss if math.isfinite(val_loss) else None,
        "val_accuracy": val_accuracy,
        "lr": max(group["lr"] for group in state.optimizer.param_groups),
        "seconds": round(train_seconds + time.perf_counter() - began, 4),
        **({} if state.shares is None else {"lr_shares": state.shares}),
        **state.micro_batches.row(epoch),
        **({} if state.cell.world.alone else {"processes": state.cell.world.size}),
        **({"kept": model.kept()} if isinstance(model, TappedModel) else {}),
    }


def _diverged(epoch: int) -> Diverged:
    return Diverged(f"{DIVERGED}: the training loss was not finite in epoch {epoch} (try a smaller lr)")
