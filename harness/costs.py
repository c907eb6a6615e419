"""Arithmetic of a network, counted by torch's flop counter on tensors without data.

A floating-point operation is a multiplication or an addition: a multiply-accumulate is two.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from harness.backbones.staged import StagedModel
from harness.contracts import Segment
from harness.freezing import Assignment
from harness.planner import CellPlan


@dataclass(frozen=True)
class GridSize:
    """What a cell goes through: images by part, views of each that a prefix computes, images a batch."""

    train: int
    val: int
    test: int
    views: int = 1
    batch: int = 64

    def steps(self, segment: Segment) -> int:
        """Images that go through a training step in an epoch of ``segment``, looks at gradients included."""
        looks = segment.adapt.batches * self.batch if segment.adapt else 0
        return self.train + min(looks, self.train)

    @property
    def images(self) -> int:
        return self.train + self.val + self.test


@dataclass(frozen=True)
class CellCost:
    """Floating-point operations of a cell: with every image through the whole network, and from its cuts."""

    alone: float
    suffix: float


class CostModel:
    """Operations for one image of ``model``, each counted once."""

    def __init__(self, model: StagedModel) -> None:
        self._model = model
        self._training: dict[tuple[int, tuple[str, ...]], int] = {}
        self._cells: dict[tuple[int, GridSize], tuple[CellPlan, CellCost]] = {}
        self._inputs: list[torch.Tensor] = []
        size, last = model.preprocess.size, len(model.stage_names)
        x = torch.empty((1, 3, size, size), dtype=torch.uint8, device="meta")
        self.stages: tuple[int, ...] = ()
        for stop in range(1, last + 1) if model.cuttable else [last]:
            self._inputs.append(x)
            start = stop - 1 if model.cuttable else 0
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                x = self._call(start, stop, x, frozenset())
            self.stages += (counter.get_total_flops(),)

    def forward(self, start: int, stop: int | None = None) -> int:
        """Of stages ``start:stop`` in a forward pass."""
        if not self._model.cuttable:
            return self.stages[0] if stop is None else 0
        return sum(self.stages[start:stop])

    def training(self, cut: int, assigned: Assignment) -> int:
        """Of a training step's forward and backward pass after ``cut``; the optimizer isn't counted."""
        trained = frozenset(name for name, scale in assigned.items() if scale is not None)
        key = (cut, tuple(sorted(trained)))
        if key not in self._training:
            with FlopCounterMode(display=False) as counter:
                self._call(cut, len(self._model.stage_names), self._inputs[cut], trained).sum().backward()
            self._training[key] = counter.get_total_flops()
        return self._training[key]

    def cell(self, plan: CellPlan, size: GridSize) -> CellCost:
        """Of a whole cell: training, validation in every epoch, one test."""
        # Cells that differ in learning rate and seed alone have one plan; the plan is kept with its cost,
        # so that no other gets its id.
        known, cost = self._cells.get((id(plan), size), (None, None))
        if known is not plan or cost is None:
            cost = self._count(plan, size)
            self._cells[id(plan), size] = (plan, cost)
        return cost

    def _count(self, plan: CellPlan, size: GridSize) -> CellCost:
        alone = suffix = 0.0
        for segment, cut, assigned in zip(plan.recipe.segments, plan.cuts, plan.assigned, strict=True):
            step = self.training(cut, assigned)
            steps = size.steps(segment)
            alone += segment.epochs * (steps * (self.forward(0, cut) + step) + size.val * self.forward(0))
            suffix += segment.epochs * (steps * step + size.val * self.forward(cut))
        last = plan.cuts[-1]
        return CellCost(alone + size.test * self.forward(0), suffix + size.test * self.forward(last))

    def _call(self, start: int, stop: int, x: torch.Tensor, trained: frozenset[str]) -> torch.Tensor:
        section = self._model.section(start, stop).eval()
        names = {id(tensor): name for name, tensor in self._model.tensors()}
        given = {
            name: tensor.detach().to("meta").requires_grad_(names.get(id(tensor)) in trained)
            for name, tensor in (*section.named_parameters(), *section.named_buffers())
        }
        out: torch.Tensor = functional_call(section, given, (x,))
        return out
