"""What the trainer is given and what it can go on from: a cell, its data, a snapshot of its state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from harness.backbones.staged import StagedModel
from harness.contracts import Recipe
from harness.freezing import Assignment
from harness.prefix import Features
from harness.spec import TrainSpec


@dataclass(frozen=True)
class TrainData:
    """Features of all samples, and which of them train and validate.

    ``labels`` is int64 ``[n]`` over all samples; ``train`` and ``val`` are rows of it; ``ids`` names
    the samples (a flip is a coin per sample and epoch).
    """

    features: Features
    labels: torch.Tensor
    train: torch.Tensor
    val: torch.Tensor
    ids: tuple[str, ...]
    num_classes: int


@dataclass(frozen=True)
class Snapshot:
    """All that is needed to go on after ``epoch``: tensors by name, optimizer state, rows so far."""

    epoch: int
    tensors: Mapping[str, torch.Tensor]
    optimizer: Mapping[str, torch.Tensor]
    history: tuple[Mapping[str, float | int | None], ...]
    best_epoch: int
    best: Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Cell:
    """One suffix to train: a model whose stages before ``cut`` are never run here."""

    model: StagedModel
    cut: int
    recipe: Recipe
    assigned: tuple[Assignment, ...]
    lr: float
    seed: int
    settings: TrainSpec
    device: torch.device

    def suffix(self) -> nn.Sequential:
        return self.model.section(self.cut, len(self.model.stage_names))

    def tensors(self) -> dict[str, torch.Tensor]:
        """The suffix's parameters and buffers by name (live, not copied)."""
        late = set(self.model.stage_names[self.cut :])
        return {n: t for n, t in self.model.tensors() if n.split(".", 1)[0] in late}
