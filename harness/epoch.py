"""One epoch of training: order, batches, steps. No host synchronisation before its end."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial, reduce
from operator import add, mul

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from harness.cell import Cell, TrainData
from harness.features import FeatureSource
from harness.micro_batches import MicroBatches, Rows
from harness.penalty import pulls
from harness.runtime import seed_generators
from harness.schedules import schedule
from harness.seeding import coins, derive_seed, generator
from harness.spec import TrainSpec
from harness.world import ALONE, World


@dataclass(frozen=True)
class Batch:
    """What one step takes. ``factor`` is the schedule's multiplier of the learning rate."""

    step: int
    labels: torch.Tensor
    factor: float
    _load: Callable[[slice], torch.Tensor]

    def rows(self, start: int = 0, stop: int | None = None) -> torch.Tensor:
        """What a suffix takes of the rows ``start:stop`` of the batch."""
        return self._load(slice(start, stop))


def batches(
    cell: Cell, data: TrainData, source: FeatureSource, epoch: int, stream: str = "order"
) -> Iterator[Batch]:
    """The batches of an epoch in the order that the cell's seed gives for ``stream``."""
    s = cell.settings
    order = data.train[torch.from_numpy(generator(cell.seed, stream, epoch).permutation(len(data.train)))]
    mirror = _mirror(cell, data, epoch)
    labels = data.labels[order].to(cell.device)
    steps = math.ceil(len(order) / s.batch_size)
    factor = lr_factor(cell, epoch, steps)
    for step, index in enumerate(order.split(s.batch_size)):
        coins = None if mirror is None else mirror[index]
        start = step * s.batch_size
        load = partial(_load, source, index, coins, cell.device)
        yield Batch(step, labels[start : start + len(index)], factor(step), load)


def _load(
    source: FeatureSource,
    index: torch.Tensor,
    mirror: torch.Tensor | None,
    device: torch.device,
    rows: slice,
) -> torch.Tensor:
    return source.batch(index[rows], device, None if mirror is None else mirror[rows])


def lr_factor(cell: Cell, epoch: int, steps: int) -> Callable[[int], float]:
    """Factor of the learning rate at step 0, 1, ... of an epoch of ``steps``.

    A segment's own schedule runs over its epochs; the recipe's or the run's over the whole training.
    """
    recipe = cell.recipe
    index = recipe.segment_at(epoch)
    segment = recipe.segments[index]
    if segment.schedule is not None:
        factor = schedule(segment.schedule, segment.epochs * steps)
        before = recipe.epochs_before(index)
    else:
        factor = schedule(recipe.schedule or cell.settings.schedule, cell.settings.epochs * steps)
        before = 0
    start = (epoch - 1 - before) * steps
    return lambda step: factor(start + step)


@dataclass
class Tally:
    """Losses and hits of an epoch's batches, ``[cells]`` each, which stay on the device until its end."""

    losses: list[torch.Tensor] = field(default_factory=list)
    right: list[torch.Tensor] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)

    def add(self, loss: torch.Tensor, right: torch.Tensor, count: int) -> None:
        """Mean losses (float32) and hits of a batch of ``count``."""
        self.losses.append(loss)
        self.right.append(right)
        self.counts.append(count)

    def means(self, world: World = ALONE) -> list[tuple[float, float]]:
        """(mean loss, accuracy) of each cell, summed in double precision, batch after batch.

        Where each process of ``world`` has added its share, the shares are added.
        """
        seen = sum(self.counts)
        found = torch.stack(self.losses), torch.stack(self.right)
        for figures in found:
            world.add([figures])
        # Not sum(), which rounds otherwise from Python 3.12 on.
        losses, right = (zip(*figures.tolist(), strict=True) for figures in found)
        return [
            (reduce(add, map(mul, mine, self.counts)) / seen, sum(hits) / seen)
            for mine, hits in zip(losses, right, strict=True)
        ]


def train_epoch(
    cell: Cell,
    segment: int,
    data: TrainData,
    source: FeatureSource,
    optimizer: torch.optim.Optimizer,
    weights: torch.Tensor,
    epoch: int,
    micro_batches: MicroBatches,
) -> tuple[float, float]:
    """Mean loss and accuracy over the epoch's own batches, in train mode."""
    suffix = cell.suffix(segment)
    tally = Tally()
    base = [group["base_lr"] for group in optimizer.param_groups]
    towards = pulls(cell, segment)
    for batch in batches(cell, data, source, epoch):
        for group, lr in zip(optimizer.param_groups, base, strict=True):
            group["lr"] = lr * batch.factor
        step = partial(_gradients, cell, suffix, optimizer, batch, weights, epoch)
        at, count = (epoch, batch.step), len(batch.labels)
        seen, right = micro_batches.attempt(at, count, suffix, step, cell.device)
        cell.world.add_gradients([p for group in optimizer.param_groups for p in group["params"]])
        for pull in towards:
            pull.add()
        optimizer.step()
        tally.add(seen[None], right[None], count)
    return tally.means(cell.world)[0]


def _gradients(
    cell: Cell,
    suffix: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    weights: torch.Tensor,
    epoch: int,
    pieces: Sequence[Rows],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Leaves the sum of the pieces' gradients; their share of the batch's mean loss, unweighted, and hits."""
    optimizer.zero_grad(set_to_none=True)
    unweighted = cell.settings.class_weights == "none"
    losses, right = [], []
    for start, stop in pieces:
        x, labels = batch.rows(start, stop), batch.labels[start:stop]
        seed_generators(piece_seed(cell.seed, "step", epoch, batch.step, start), cell.device)
        with cell.autocast():
            logits = suffix(x)
        loss = share_of_loss(logits, labels, weights, batch.labels)
        loss.backward()
        logits = logits.detach().float()
        seen = (
            loss.detach()
            if unweighted
            else F.cross_entropy(logits, labels) * (len(labels) / len(batch.labels))
        )
        losses.append(seen)
        right.append((logits.argmax(1) == labels).sum())
    if not losses:
        return weights.new_zeros(()), batch.labels.new_zeros(())
    return reduce(add, losses), reduce(add, right)


def share_of_loss(
    logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor, whole: torch.Tensor
) -> torch.Tensor:
    """What a piece with ``labels`` adds to the mean loss of its batch, whose labels are ``whole``."""
    loss = F.cross_entropy(logits.float(), labels, weight=weights)
    if len(labels) == len(whole):
        return loss
    return loss * (weights[labels].sum() / weights[whole].sum())


def piece_seed(seed: int, stream: str, epoch: int, step: int, start: int) -> int:
    """Of the piece of a step's batch that begins at row ``start``; the first piece has the step's own."""
    return derive_seed(seed, stream, epoch, step, *([start] if start else []))


def class_weights(data: TrainData, s: TrainSpec) -> torch.Tensor:
    """``n / (K n_k)`` for ``balanced`` (scikit-learn's definition), else ones."""
    counts = np.bincount(data.labels[data.train].numpy(), minlength=data.num_classes)
    if s.class_weights == "balanced":
        return torch.tensor(counts.sum() / (data.num_classes * counts), dtype=torch.float32)
    return torch.ones(data.num_classes)


def _mirror(cell: Cell, data: TrainData, epoch: int) -> torch.Tensor | None:
    """Which samples are mirrored in this epoch, bool over all samples; a coin per sample and epoch.

    Augmented rows are mirrored already.
    """
    if not cell.settings.flip or data.augmented is not None:
        return None
    return torch.from_numpy(coins(cell.seed, "flip", epoch, ids=data.ids))
