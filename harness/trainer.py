"""Fits a suffix: objects in, epoch states out. Knows no files, no command line, no plots, no test set."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.nn import functional as F

from harness.cell import Cell, Snapshot, TrainData
from harness.errors import HarnessError
from harness.freezing import apply_segment
from harness.optimizers import export_state, import_state, make_optimizer
from harness.prefix import BATCH, Features
from harness.schedules import schedule
from harness.seeding import coins, derive_seed, generator
from harness.spec import TrainSpec

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
        )

    @property
    def history(self) -> tuple[Mapping[str, float | int | None], ...]:
        return tuple(self._run.history)

    @property
    def selected_epoch(self) -> int:
        """The epoch whose weights the settings' ``select`` names, so far."""
        return self._run.best_epoch if self.cell.settings.select == "best" else int(self.row["epoch"] or 0)


@dataclass
class _Progress:
    optimizer: torch.optim.Optimizer
    names: Mapping[int, str]
    segment: int
    history: list[Mapping[str, float | int | None]] = field(default_factory=list)
    best_epoch: int = 0
    best_score: tuple[float, float] = (-1.0, -math.inf)
    best: dict[str, torch.Tensor] = field(default_factory=dict)


def fit(cell: Cell, data: TrainData, resume: Snapshot | None = None) -> Iterator[EpochState]:
    """Trains ``cell`` and yields after each epoch; with ``resume`` it goes on after that epoch.

    When it ends the model holds the weights of the selected epoch. Raises :class:`Diverged` when
    the training loss is not finite.
    """
    s = cell.settings
    run = _start(cell, resume)
    weights = _class_weights(data, s).to(cell.device)
    for epoch in range(len(run.history) + 1, s.epochs + 1):
        began = time.perf_counter()
        if cell.recipe.segment_at(epoch) != run.segment:
            _enter_segment(cell, run, epoch)
        apply_segment(cell.model, cell.recipe.segments[run.segment], cell.assigned[run.segment])
        loss, right = _train_epoch(cell, data, run.optimizer, weights, epoch)
        if not math.isfinite(loss):
            raise Diverged(
                f"{DIVERGED}: the training loss was not finite in epoch {epoch} (try a smaller lr)"
            )
        logits = evaluate(cell, data.features, data.val)
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
                "seconds": round(time.perf_counter() - began, 4),
            }
        )
        _remember_best(cell, run, epoch, (val_accuracy, -val_loss if math.isfinite(val_loss) else -math.inf))
        yield EpochState(cell, run.history[-1], run)
    if s.select == "best":
        _restore(cell, run.best)


def evaluate(cell: Cell, features: Features, rows: torch.Tensor) -> torch.Tensor:
    """Logits float32 ``[len(rows), classes]`` on the CPU, the network in eval mode.

    Batches have one fixed shape, the last one padded, so that a row's logits don't depend on how
    many rows are asked for.
    """
    cell.model.eval()
    suffix = cell.suffix()
    found = []
    with torch.inference_mode():
        for index in rows.split(BATCH):
            padded = torch.cat([index, index[-1:].expand(BATCH - len(index))])
            with _autocast(cell):
                found.append(suffix(features.batch(padded, cell.device)).float()[: len(index)].cpu())
    return torch.cat(found)


def _start(cell: Cell, resume: Snapshot | None) -> _Progress:
    cell.model.to(cell.device).to(memory_format=torch.channels_last)
    if resume is None:
        optimizer, names = _optimizer(cell, 0)
        return _Progress(optimizer, names, 0)
    _restore(cell, resume.tensors)
    segment = cell.recipe.segment_at(max(resume.epoch, 1))
    optimizer, names = _optimizer(cell, segment)
    import_state(optimizer, names, resume.optimizer)
    run = _Progress(optimizer, names, segment, list(resume.history))
    for row in resume.history:
        score = (
            float(row["val_accuracy"] or 0),
            -float(row["val_loss"]) if row["val_loss"] is not None else -math.inf,
        )
        if score > run.best_score:
            run.best_epoch, run.best_score = int(row["epoch"] or 0), score
    run.best = dict(resume.best)
    return run


def _optimizer(cell: Cell, segment: int) -> tuple[torch.optim.Optimizer, Mapping[int, str]]:
    lr = cell.recipe.segments[segment].lr or cell.lr
    scales = {n: s for n, s in cell.assigned[segment].items() if s is not None}
    return make_optimizer(cell.settings.optimizer, cell.tensors(), scales, lr, cell.settings.weight_decay)


def _enter_segment(cell: Cell, run: _Progress, epoch: int) -> None:
    """A new plan: a new optimizer, which keeps the state of what trained before unless asked not to."""
    kept = export_state(run.optimizer, run.names)
    run.segment = cell.recipe.segment_at(epoch)
    run.optimizer, run.names = _optimizer(cell, run.segment)
    if not cell.recipe.segments[run.segment].fresh_optimizer:
        import_state(run.optimizer, run.names, kept)


def _train_epoch(
    cell: Cell, data: TrainData, optimizer: torch.optim.Optimizer, weights: torch.Tensor, epoch: int
) -> tuple[float, float]:
    """Mean loss and accuracy over the epoch's own batches, in train mode."""
    s = cell.settings
    order = data.train[torch.from_numpy(generator(cell.seed, "order", epoch).permutation(len(data.train)))]
    mirror = _mirror(cell, data, epoch)
    suffix = cell.suffix()
    steps = math.ceil(len(order) / s.batch_size)
    factor = schedule(s.schedule, s.epochs * steps)
    base = [group["base_lr"] for group in optimizer.param_groups]
    wide = torch.float32 if cell.device.type == "mps" else torch.float64  # MPS has no float64
    loss_sum = torch.zeros((), dtype=wide, device=cell.device)
    right = torch.zeros((), dtype=torch.int64, device=cell.device)
    for step, index in enumerate(order.split(s.batch_size)):
        for group, lr in zip(optimizer.param_groups, base, strict=True):
            group["lr"] = lr * factor((epoch - 1) * steps + step)
        torch.manual_seed(derive_seed(cell.seed, "step", epoch, step))
        x = data.features.batch(index, cell.device, None if mirror is None else mirror[index])
        y = data.labels[index].to(cell.device, non_blocking=True)
        with _autocast(cell):
            logits = suffix(x)
        loss = F.cross_entropy(logits.float(), y, weight=weights)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        seen = loss if s.class_weights == "none" else F.cross_entropy(logits.detach().float(), y)
        loss_sum += seen.detach().to(wide) * len(index)
        right += (logits.detach().argmax(1) == y).sum()
    return float(loss_sum) / len(order), int(right) / len(order)


def _mirror(cell: Cell, data: TrainData, epoch: int) -> torch.Tensor | None:
    """Which samples are mirrored in this epoch, bool over all samples; a coin per sample and epoch."""
    if not cell.settings.flip:
        return None
    return torch.from_numpy(coins(cell.seed, "flip", epoch, ids=data.ids))


def _class_weights(data: TrainData, s: TrainSpec) -> torch.Tensor:
    """``n / (K n_k)`` for ``balanced`` (scikit-learn's definition), else ones."""
    counts = np.bincount(data.labels[data.train].numpy(), minlength=data.num_classes)
    if s.class_weights == "balanced":
        return torch.tensor(counts.sum() / (data.num_classes * counts), dtype=torch.float32)
    return torch.ones(data.num_classes)


def _remember_best(cell: Cell, run: _Progress, epoch: int, score: tuple[float, float]) -> None:
    if score > run.best_score:
        run.best_epoch, run.best_score = epoch, score
        if cell.settings.select == "best":
            run.best = {n: t.detach().clone() for n, t in cell.tensors().items()}


def _restore(cell: Cell, tensors: Mapping[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for name, tensor in cell.tensors().items():
            tensor.copy_(tensors[name])


def _autocast(cell: Cell) -> torch.autocast:
    return torch.autocast(cell.device.type, dtype=torch.bfloat16, enabled=cell.settings.precision == "bf16")


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
