"""Linear heads of several cells trained in one batched operation.

What is left of a linear probe after its features are cached is one small matrix product, whose cost
is the call. Cells of one seed take the same batches, so their heads stand side by side in one
product of a fixed width: unused places are filled with zeros, also for a cell that trains alone.
Hence a cell's result doesn't depend on how many cells, or which, are beside it; whether the machine's
matrix product keeps to that is tried before it is relied on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache

import torch
from torch import nn
from torch.nn import functional as F

from harness.backbones.staged import StagedModel
from harness.cell import Cell, TrainData
from harness.epoch import Tally, batches
from harness.features import FeatureSource
from harness.planner import CellPlan

_COLUMNS = 64  # of the shared product: 32 heads of two classes


def places(
    model: StagedModel, plan: CellPlan, batch_sizes: Iterable[int], autocast: torch.dtype | None = None
) -> int:
    """How many cells such as this may train in one operation; 1 where that isn't possible.

    It depends on the network, the strategy and the machine, never on the other cells: the suffix is
    one linear layer, after nothing but reshaping, its steps are the run's own (no schedule or penalty of
    the strategy), and on this machine the place in the product doesn't change a bit of a head's result.
    """
    if len(plan.cuts) != 1 or not plan.recipe.plain or not model.cuttable:
        return 1
    head = _linear(model.section(plan.cuts[0], len(model.stage_names)))
    room = 1 if head is None else _COLUMNS // _width(head.out_features)
    if head is None or room < 2:
        return 1
    shape, device = (head.in_features, head.out_features), str(head.weight.device)
    exact = all(_place_is_free(*shape, size, device, autocast) for size in sorted(set(batch_sizes)))
    return room if exact else 1


def _width(classes: int) -> int:
    """Columns of one head: a power of two, so that no head straddles the blocks of a product."""
    return 1 << (classes - 1).bit_length()


@cache
def _place_is_free(
    features: int, classes: int, batch_size: int, device: str, autocast: torch.dtype | None
) -> bool:
    """Whether forward and backward products give a head the same bits at every place."""
    draw = torch.Generator().manual_seed(0)
    width = _width(classes)
    x = torch.randn(batch_size, features, generator=draw).to(device)
    others = torch.randn(_COLUMNS, features + 1, generator=draw).to(device)
    pulls = torch.randn(batch_size, _COLUMNS, generator=draw).to(device)
    found = []
    for at in range(0, _COLUMNS, width):
        weight, pull = others.clone(), pulls.clone()
        weight[at : at + width], pull[:, at : at + width] = others[:width], pulls[:, :width]
        weight.requires_grad_()
        with torch.autocast(x.device.type, dtype=autocast, enabled=autocast is not None):
            out = F.linear(x, weight[:, :-1], weight[:, -1]).float()
        (gradient,) = torch.autograd.grad(out, weight, pull)
        found.append((out[:, at : at + width], gradient[at : at + width]))
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
    tally = Tally()
    for batch in batches(cells[0], data, source, epoch):
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["base_lr"] * batch.factor
            optimizer.zero_grad(set_to_none=True)
        weight = torch.cat([*(part for head in heads for part in (head.weight, gap)), spare])
        bias = torch.cat([*(part for head in heads for part in (head.bias, gap[:, 0])), spare[:, 0]])
        with cells[0].autocast():
            logits = F.linear(batch.rows().flatten(1), weight, bias)
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
    # Exact types: a subclass may have a forward of its own.
    heads = [m for m in suffix.modules() if type(m) is nn.Linear]
    if len(heads) != 1 or heads[0].bias is None or not all(map(_reshapes_only, suffix.modules())):
        return None
    return heads[0]


def _reshapes_only(module: nn.Module) -> bool:
    if module._forward_hooks or module._forward_pre_hooks:
        return False
    if type(module) is nn.Flatten:
        return (module.start_dim, module.end_dim) == (1, -1)
    return type(module) in (nn.Sequential, nn.Identity, nn.Linear)
