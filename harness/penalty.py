"""Penalties of a segment, added to the loss by way of their gradients."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from harness.backbones.tapped import TappedModel
from harness.cell import Cell
from harness.contracts import GroupLasso, StartPenalty


@dataclass(frozen=True)
class Pull:
    """``weight / 2`` times the squared distance of ``parameter`` from ``start``, or from zero."""

    parameter: torch.Tensor
    start: torch.Tensor | None
    weight: float

    def add(self) -> None:
        """Adds the gradient of this term to the parameter's, which a backward pass has left."""
        distance = self.parameter.detach()
        if self.start is not None:
            distance = distance - self.start
        if self.parameter.grad is not None:
            self.parameter.grad.add_(distance, alpha=self.weight)


@dataclass(frozen=True)
class Lasso:
    """``weight`` times the sum of the norms of the columns of ``parameter`` ``[classes, features]``."""

    parameter: torch.Tensor
    weight: float

    def add(self) -> None:
        """Adds its gradient, which is zero where a column is."""
        if self.parameter.grad is not None:
            self.parameter.grad.add_(F.normalize(self.parameter.detach(), dim=0), alpha=self.weight)


def pulls(cell: Cell, segment: int) -> tuple[Pull | Lasso, ...]:
    """The terms of a segment's penalty, one for each tensor that it holds."""
    penalty = cell.recipe.segments[segment].penalty
    if isinstance(penalty, GroupLasso):
        return (Lasso(tapped(cell).head.linear.weight, penalty.weight),)
    return () if penalty is None else _held(cell, segment, penalty)


def tapped(cell: Cell) -> TappedModel:
    """The cell's network, whose head is on taps."""
    assert isinstance(cell.model, TappedModel)  # by the plan's own check
    return cell.model


def _held(cell: Cell, segment: int, penalty: StartPenalty) -> tuple[Pull, ...]:
    live = cell.tensors()
    found: list[Pull] = []
    for parameter in (p for stage in cell.model.describe() for p in stage.parameters):
        weight = penalty.on(parameter)
        if weight and cell.assigned[segment][parameter.name] is not None:
            tensor = live[parameter.name]
            # Not the tensors that a resumed run begins with: those have already moved.
            start = cell.origin[parameter.name].detach().to(tensor.device) if parameter.pretrained else None
            found.append(Pull(tensor, start, weight))
    return tuple(found)
