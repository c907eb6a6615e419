"""What the trainer is given and what it can go on from: a cell, its data, a snapshot of its state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import nn

from harness.backbones.staged import StagedModel
from harness.contracts import Recipe
from harness.features import FeatureSource
from harness.freezing import Assignment
from harness.micro_batches import Change
from harness.spec import TrainSpec
from harness.world import ALONE, World

Row = Mapping[str, Any]  # one epoch, as JSON's types (``docs/run-folder.md``, ``history.jsonl``)


class EpochSource(Protocol):
    """Training rows that differ from epoch to epoch."""

    def at(self, seed: int, epoch: int, cuts: tuple[int, ...]) -> Mapping[int, FeatureSource]:
        """What the suffixes of ``seed``'s cells take in ``epoch``, at each of ``cuts``."""
        ...


@dataclass(frozen=True)
class TrainData:
    """What suffixes take, by cut, and which samples train and validate.

    ``labels`` is int64 ``[n]`` over all samples; ``train`` and ``val`` are rows of it; ``ids`` names
    the samples (a flip is a coin per sample and epoch). ``augmented`` replaces the training rows.
    """

    features: Mapping[int, FeatureSource]
    labels: torch.Tensor
    train: torch.Tensor
    val: torch.Tensor
    ids: tuple[str, ...]
    num_classes: int
    augmented: EpochSource | None = None


@dataclass(frozen=True)
class Snapshot:
    """All that is needed to go on after ``epoch``: tensors by name, optimizer state, rows so far.

    ``witness`` is what :class:`~harness.witness.Witness` has seen, as JSON's types.
    """

    epoch: int
    tensors: Mapping[str, torch.Tensor]
    optimizer: Mapping[str, torch.Tensor]
    history: tuple[Row, ...]
    best_epoch: int
    best: Mapping[str, torch.Tensor]
    witness: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Cell:
    """One suffix to train: a model whose stages before ``cuts[i]`` are never run in segment i.

    ``micro_batches`` says from when on its batches are computed in how many pieces, at least, by the
    processes of ``world``.
    ``origin`` holds the tensors that the model starts from, also where training goes on after an
    interruption; a penalty on the distance from them needs it.
    """

    model: StagedModel
    cuts: tuple[int, ...]
    recipe: Recipe
    assigned: tuple[Assignment, ...]
    lr: float
    seed: int
    settings: TrainSpec
    device: torch.device
    origin: Mapping[str, torch.Tensor] = field(default_factory=dict)
    micro_batches: tuple[Change, ...] = ()
    world: World = ALONE

    def suffix(self, segment: int) -> nn.Sequential:
        return self.model.section(self.cuts[segment], len(self.model.stage_names))

    def tensors(self) -> dict[str, torch.Tensor]:
        """Parameters and buffers of all that is ever run here, by name (live, not copied)."""
        late = set(self.model.stage_names[self.cuts[-1] :])
        return {n: t for n, t in self.model.tensors() if n.split(".", 1)[0] in late}

    def autocast(self) -> torch.autocast:
        """The context of its forward passes."""
        return torch.autocast(
            self.device.type, dtype=torch.bfloat16, enabled=self.settings.precision == "bf16"
        )
