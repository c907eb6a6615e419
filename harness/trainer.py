"""Fits suffixes: objects in, epoch states out. Knows no files, no command line, no plots, no test set."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch.nn import functional as F

from harness.cell import Cell, Snapshot, TrainData
from harness.epoch import class_weights, train_epoch
from harness.errors import HarnessError
from harness.features import BATCH, FeatureSource
from harness.freezing import apply_segment
from harness.fused import train_epoch_fused
from harness.optimizers import export_state, import_state, make_optimizer
from harness.witness import Witness

DIVERGED = "diverged"  # how the reason of such a failure begins


class Diverged(HarnessError):
    """The training loss is no longer finite."""


@dataclass(frozen=True)
class EpochState:
    """What an epoch left behind; ``snapshot()`` is costly and therefore a call."""

    cell: Cell
    row: Mapping[str, float | int | None]
    _run: _Progress = field(repr=False)

    def snapshot(self) -> Snapshot:
        """Copies of everything that a later ``fit`` needs to go on from here."""
        run = self._run
        return Snapshot(
            epoch=int(self.row["epoch"] or 0),
            tensors={n: t.detach().clone() for n, t in self.cell.tensors().items()},
            optimizer=export_state(run.optimizer, run.names),
            history=tuple(run.history),
            best_epoch=run.best_epoch,
            best=dict(run.best),
            witness=run.witness.as_dict(),
        )

    @property
    def history(self) -> tuple[Mapping[str, float | int | None], ...]:
        return tuple(self._run.history)

    @property
    def witness(self) -> Witness:
        """What training has really touched so far; it goes on changing."""
        return self._run.witness

    @property
    def selected_epoch(self) -> int:
        """The epoch whose weights the settings' ``select`` names, so far."""
        return self._run.best_epoch if self.cell.settings.select == "best" else int(self.row["epoch"] or 0)


@dataclass(frozen=True)
class Failed:
    """A cell that can't go on; the others do."""

    cell: Cell
    error: HarnessError


@dataclass
class _Progress:
    cell: Cell
    optimizer: torch.optim.Optimizer
    names: Mapping[int, str]
    segment: int
    history: list[Mapping[str, float | int | None]] = field(default_factory=list)
    best_epoch: int = 0
    best_score: tuple[float, float] = (-1.0, -math.inf)
    best: dict[str, torch.Tensor] = field(default_factory=dict)
    witness: Witness = field(default_factory=Witness)


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
    runs = [_start(cell, snapshot) for cell, snapshot in zip(cells, resume, strict=True)]
    weights = class_weights(data, settings).to(cells[0].device)
    for epoch in range(1, settings.epochs + 1):
        active = [run for run in runs if len(run.history) == epoch - 1]
        began = time.perf_counter()
        for run in active:
            _prepare(run, epoch)
        sources = _sources(active, data, epoch)
        together = [active] if fused and active else [[run] for run in active]
        spent = (time.perf_counter() - began) / max(len(active), 1)
        for batch in together:
            began = time.perf_counter()
            found = _train(batch, data, sources, weights, epoch, fused)
            spent_each = spent + (time.perf_counter() - began) / len(batch)
            for run, (loss, right) in zip(batch, found, strict=True):
                if math.isfinite(loss):
                    _close(run, data, epoch, loss, right, spent_each)
                    yield EpochState(run.cell, run.history[-1], run)
                else:
                    yield Failed(run.cell, _diverged(epoch))
    for run in runs:
        if settings.select == "best" and len(run.history) == settings.epochs:
            _restore(run.cell, run.best)


def evaluate(cell: Cell, features: Mapping[int, FeatureSource], rows: torch.Tensor) -> torch.Tensor:
    """Logits float32 ``[len(rows), classes]`` on the CPU, the network in eval mode.

    Batches have one fixed shape, the last one padded, so that a row's logits don't depend on how
    many rows are asked for.
    """
    return _evaluate(cell, len(cell.cuts) - 1, features, rows)


def _evaluate(
    cell: Cell, segment: int, features: Mapping[int, FeatureSource], rows: torch.Tensor
) -> torch.Tensor:
    cell.model.eval()
    suffix, source = cell.suffix(segment), features[cell.cuts[segment]]
    found = []
    with torch.inference_mode():
        for index in rows.split(BATCH):
            padded = torch.cat([index, index[-1:].expand(BATCH - len(index))])
            with cell.autocast():
                found.append(suffix(source.batch(padded, cell.device)).float()[: len(index)])
    return torch.cat(found).cpu()


def _train(
    batch: Sequence[_Progress],
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
        cells, optimizers = [run.cell for run in batch], [run.optimizer for run in batch]
        return train_epoch_fused(cells, data, source, optimizers, weights, epoch)
    return [train_epoch(first.cell, first.segment, data, source, first.optimizer, weights, epoch)]


def _sources(active: Sequence[_Progress], data: TrainData, epoch: int) -> Mapping[int, FeatureSource]:
    if data.augmented is None or not active:
        return data.features
    cuts = tuple(sorted({run.cell.cuts[run.segment] for run in active}))
    return data.augmented.at(active[0].cell.seed, epoch, cuts)


def _prepare(run: _Progress, epoch: int) -> None:
    cell = run.cell
    if cell.recipe.segment_at(epoch) != run.segment:
        _enter_segment(run, epoch)
    apply_segment(cell.model, cell.recipe.segments[run.segment], cell.assigned[run.segment])
    run.witness.begin(cell, run.segment, run.optimizer, run.names)


def _close(
    run: _Progress, data: TrainData, epoch: int, loss: float, right: float, train_seconds: float
) -> None:
    """Validates and adds the epoch's row."""
    began = time.perf_counter()
    run.witness.end(run.cell, run.segment, epoch, run.optimizer, run.names)
    logits = _evaluate(run.cell, run.segment, data.features, data.val)
    labels = data.labels[data.val]
    val_loss = float(F.cross_entropy(logits, labels))
    val_accuracy = float((logits.argmax(1) == labels).double().mean())
    run.history.append(
        {
            "epoch": epoch,
            "train_loss": loss,
            "train_accuracy": right,
            "val_loss": _finite(val_loss),
            "val_accuracy": val_accuracy,
            "lr": run.optimizer.param_groups[0]["lr"],
            "seconds": round(train_seconds + time.perf_counter() - began, 4),
        }
    )
    _remember_best(run, epoch, (val_accuracy, -val_loss if math.isfinite(val_loss) else -math.inf))


def _diverged(epoch: int) -> Diverged:
    return Diverged(f"{DIVERGED}: the training loss was not finite in epoch {epoch} (try a smaller lr)")


def _start(cell: Cell, resume: Snapshot | None) -> _Progress:
    cell.model.to(cell.device).to(memory_format=torch.channels_last)
    if resume is None:
        return _Progress(cell, *_optimizer(cell, 0), 0)
    _restore(cell, resume.tensors)
    segment = cell.recipe.segment_at(max(resume.epoch, 1))
    optimizer, names = _optimizer(cell, segment)
    import_state(optimizer, names, resume.optimizer)
    run = _Progress(cell, optimizer, names, segment, list(resume.history))
    for row in resume.history:
        score = (
            float(row["val_accuracy"] or 0),
            -float(row["val_loss"]) if row["val_loss"] is not None else -math.inf,
        )
        if score > run.best_score:
            run.best_epoch, run.best_score = int(row["epoch"] or 0), score
    run.best = dict(resume.best)
    run.witness = Witness.from_dict(resume.witness)
    return run


def _optimizer(cell: Cell, segment: int) -> tuple[torch.optim.Optimizer, Mapping[int, str]]:
    lr = cell.recipe.segments[segment].lr or cell.lr
    scales = {n: s for n, s in cell.assigned[segment].items() if s is not None}
    return make_optimizer(cell.settings.optimizer, cell.tensors(), scales, lr, cell.settings.weight_decay)


def _enter_segment(run: _Progress, epoch: int) -> None:
    """A new plan: a new optimizer, which keeps the state of what trained before unless asked not to."""
    cell, kept = run.cell, export_state(run.optimizer, run.names)
    run.segment = cell.recipe.segment_at(epoch)
    run.optimizer, run.names = _optimizer(cell, run.segment)
    if not cell.recipe.segments[run.segment].fresh_optimizer:
        import_state(run.optimizer, run.names, kept)


def _remember_best(run: _Progress, epoch: int, score: tuple[float, float]) -> None:
    if score > run.best_score:
        run.best_epoch, run.best_score = epoch, score
        if run.cell.settings.select == "best":
            run.best = {n: t.detach().clone() for n, t in run.cell.tensors().items()}


def _restore(cell: Cell, tensors: Mapping[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for name, tensor in cell.tensors().items():
            tensor.copy_(tensors[name])


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
