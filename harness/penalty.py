"""Penalties of a segment, added to the loss by way of their gradients."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from harness.cell import Cell


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


def pulls(cell: Cell, segment: int) -> tuple[Pull, ...]:
    """The terms of a segment's penalty, one for each tensor that it holds."""
    penalty = cell.recipe.segments[segment].penalty
    if penalty is None:
        return ()
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
