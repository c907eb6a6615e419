"""Linear heads of several cells trained in one batched operation.

What is left of a linear probe after its features are cached is one small matrix product, whose cost
is the call. Cells of one seed take the same batches, so their heads stand side by side in one
product of a fixed width: unused places are filled with zeros, also for a cell that trains alone.
Hence a cell's result doesn't depend on how many cells, or which, are beside it; whether the machine's
matrix product keeps to that is tried before it is relied on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import nn
from torch.nn import functional as F

from harness.backbones.staged import StagedModel
from harness.cell import Cell, TrainData
from harness.epoch import Tally, batches
from harness.features import FeatureSource
from harness.planner import CellPlan

_COLUMNS = 64  # of the shared product: 32 heads of two classes


def places(model: StagedModel, plan: CellPlan, batch_sizes: Iterable[int]) -> int:
    """How many cells such as this may train in one operation; 1 where that isn't possible.

    It depends on the network, the strategy and the machine, never on the other cells: the suffix is
    one linear layer, after nothing but reshaping, and on this machine the place in the product
    doesn't change a bit of a head's result.
    """
    if len(plan.cuts) != 1 or not model.cuttable:
        return 1
    head = _linear(model.section(plan.cuts[0], len(model.stage_names)))
    room = 1 if head is None else _COLUMNS // _width(head.out_features)
    if head is None or room < 2:
        return 1
    exact = all(_place_is_free(head, size) for size in set(batch_sizes))
    return room if exact else 1


def _width(classes: int) -> int:
    """Columns of one head: a power of two, so that no head straddles the blocks of a product."""
    return 1 << (classes - 1).bit_length()


def _place_is_free(head: nn.Linear, batch_size: int) -> bool:
    """Whether forward and backward products give a head the same bits at every place."""
    draw = torch.Generator().manual_seed(0)
    width, device = _width(head.out_features), head.weight.device
    x = torch.randn(batch_size, head.in_features, generator=draw).to(device)
    others = torch.randn(_COLUMNS, head.in_features, generator=draw).to(device)
    grads = torch.randn(batch_size, _COLUMNS, generator=draw).to(device)
    found = []
    for at in range(0, _COLUMNS, width):
        weight, grad = others.clone(), grads.clone()
        weight[at : at + width], grad[:, at : at + width] = others[:width], grads[:, :width]
        found.append((F.linear(x, weight)[:, at : at + width], (grad.T @ x)[at : at + width]))
    return all(torch.equal(a, found[0][0]) and torch.equal(b, found[0][1]) for a, b in found)


def train_epoch_fused(
    cells: Sequence[Cell],
    data: TrainData,
    source: FeatureSource,
    optimizers: Sequence[torch.optim.Optimizer],
    weights: torch.Tensor,
    epoch: int,
) -> list[tuple[float, float]]:
    """Mean loss and accuracy of each cell over the epoch's batches; all cells share seed and settings."""
    heads = [head for cell in cells if (head := _linear(cell.suffix(0))) is not None]
    classes, width = heads[0].out_features, _width(heads[0].out_features)
    room = _COLUMNS // width
    gap = heads[0].weight.new_zeros(width - classes, heads[0].in_features)
    spare = heads[0].weight.new_zeros((room - len(cells)) * width, heads[0].in_features)
    tally = Tally.empty(cells[0].device, len(cells))
    for batch in batches(cells[0], data, source, epoch):
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["base_lr"] * batch.factor
            optimizer.zero_grad(set_to_none=True)
        weight = torch.cat([*(part for head in heads for part in (head.weight, gap)), spare])
        bias = torch.cat([*(part for head in heads for part in (head.bias, gap[:, 0])), spare[:, 0]])
        with cells[0].autocast():
            logits = F.linear(batch.x.flatten(1), weight, bias)
        # One row a head and sample, so that no head's sums are mixed with another's.
        rows = logits.float().view(-1, room, width)[:, :, :classes].transpose(0, 1).reshape(-1, classes)
        labels = batch.labels.repeat(room)
        losses = F.cross_entropy(rows, labels, weight=weights, reduction="none").view(room, -1).sum(1)
        (losses / weights[batch.labels].sum()).sum().backward()
        for optimizer in optimizers:
            optimizer.step()
        seen = F.cross_entropy(rows.detach(), labels, reduction="none").view(room, -1).mean(1)
        right = (rows.detach().argmax(1) == labels).view(room, -1).sum(1)
        tally.add(seen[: len(cells)], right[: len(cells)], len(batch.labels))
    return tally.means()


def _linear(suffix: nn.Sequential) -> nn.Linear | None:
    """The one linear layer that ``suffix`` consists of, or None."""
    leaves = [m for m in suffix.modules() if not list(m.children())]
    heads = [m for m in leaves if isinstance(m, nn.Linear)]
    others = [m for m in leaves if not isinstance(m, nn.Linear | nn.Identity | nn.Flatten)]
    plain = len(heads) == 1 and not others and heads[0].bias is not None
    return heads[0] if plain else None
