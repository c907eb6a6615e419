"""A look at the gradients before an epoch, from which nothing is learned."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice

import torch
from torch import nn

from harness.adaptive import Adaptation, GradientStatistics
from harness.cell import Cell, TrainData
from harness.epoch import Batch, batches, piece_seed, share_of_loss
from harness.errors import HarnessError
from harness.features import FeatureSource
from harness.micro_batches import MicroBatches, Rows
from harness.runtime import seed_generators

STREAM = "probe"  # the name of its random choices


class RuleError(Exception):
    """A strategy's rule of learning rates that failed, or an answer that is none: a fault of its plugin."""


def probe(
    cell: Cell,
    segment: int,
    data: TrainData,
    source: FeatureSource,
    weights: torch.Tensor,
    epoch: int,
    count: int,
    micro_batches: MicroBatches,
) -> dict[str, GradientStatistics]:
    """The gradients of ``count`` batches (fewer where an epoch has fewer), for all that the segment trains.

    The cell's model must be as it is in training, and stays as it is: parameters, gradients and norm
    statistics. The loss is the one of training without a penalty.
    """
    scales = cell.assigned[segment]
    live = {n: t for n, t in cell.tensors().items() if scales.get(n) is not None}
    seen = {name: _Seen(tensor) for name, tensor in live.items()}
    suffix = cell.suffix(segment)
    with _untouched(cell):
        for batch in islice(batches(cell, data, source, epoch, STREAM), count):
            look = partial(_gradients, cell, suffix, list(live.values()), batch, weights, epoch)
            found = micro_batches.attempt((epoch, 0), len(batch.labels), suffix, look, cell.device)
            cell.world.add(found)
            for name, gradient in zip(live, found, strict=True):
                seen[name].add(gradient)
    return {name: each.statistics() for name, each in seen.items()}


def _gradients(
    cell: Cell,
    suffix: nn.Module,
    parameters: Sequence[torch.Tensor],
    batch: Batch,
    weights: torch.Tensor,
    epoch: int,
    pieces: Sequence[Rows],
) -> list[torch.Tensor]:
    """What ``pieces`` add to the gradients of a batch's mean loss, for each of ``parameters``.

    Zero where the loss doesn't depend on it.
    """
    found: list[torch.Tensor | None] = [None] * len(parameters)
    for start, stop in pieces:
        x, labels = batch.rows(start, stop), batch.labels[start:stop]
        seed_generators(piece_seed(cell.seed, STREAM, epoch, batch.step, start), cell.device)
        with cell.autocast():
            logits = suffix(x)
        loss = share_of_loss(logits, labels, weights, batch.labels)
        more = torch.autograd.grad(loss, parameters, allow_unused=True)
        found = [m if f is None else f if m is None else f + m for f, m in zip(found, more, strict=True)]
    return [torch.zeros_like(p) if f is None else f for p, f in zip(parameters, found, strict=True)]


def asked_shares(adapt: Adaptation, seen: Mapping[str, GradientStatistics]) -> dict[str, float]:
    """What ``adapt`` answers, in the order of ``seen``; RuleError where that is no share for each tensor."""
    who = type(adapt).__name__
    try:
        found = dict(adapt.shares(seen))
    except HarnessError:
        raise
    except Exception as error:
        raise RuleError(f"{who}: {type(error).__name__}: {error}") from error
    if found.keys() != seen.keys():
        names = sorted(found.keys() ^ seen.keys())
        raise RuleError(f"{who}: it was asked for a share for each tensor that trains; not so '{names[0]}'")
    for name, share in found.items():
        if not 0 <= share < math.inf:
            raise RuleError(f"{who}: the share of '{name}' is {share}; it has to be a number from 0 up")
    return {name: float(found[name]) for name in seen}


class _Seen:
    """One tensor's gradients so far: mean and sum of squared distances from it (Welford 1962)."""

    def __init__(self, weight: torch.Tensor) -> None:
        self._weight = weight.detach()
        self._norms: list[torch.Tensor] = []
        self._mean = torch.zeros_like(self._weight, dtype=torch.float32)
        self._spread = torch.zeros_like(self._mean)

    def add(self, gradient: torch.Tensor) -> None:
        gradient = gradient.float()
        self._norms.append(torch.linalg.vector_norm(gradient))
        before = gradient - self._mean
        self._mean.add_(before, alpha=1 / len(self._norms))
        self._spread.addcmul_(before, gradient - self._mean)

    def statistics(self) -> GradientStatistics:
        count = len(self._norms)
        ratio: float | None = None
        if count > 1:
            variance = self._spread / (count - 1)
            ratio = float(torch.where(variance > 0, self._mean.square() / variance, 0.0).mean())
        return GradientStatistics(
            gradient_norm=float(torch.stack(self._norms).mean()),
            weight_norm=float(torch.linalg.vector_norm(self._weight.float())),
            signal_to_noise=ratio,
        )


@contextmanager
def _untouched(cell: Cell) -> Iterator[None]:
    """Puts the statistics back that norm layers in train mode take."""
    buffers = [t for t in cell.tensors().values() if not isinstance(t, torch.nn.Parameter)]
    kept = [t.clone() for t in buffers]
    try:
        yield
    finally:
        for buffer, value in zip(buffers, kept, strict=True):
            buffer.copy_(value)
