"""One step of training by the trainer itself: what it moved, and what it should have moved."""

from __future__ import annotations

import torch

from harness.backbones.staged import NORM_LAYERS, StagedModel
from harness.cell import Cell
from harness.contracts import Recipe, Segment
from harness.freezing import Assignment
from harness.spec import TrainSpec
from harness.testing.claims import attempt, require
from harness.testing.networks import IMAGES, Shape, probe_data, probe_network
from harness.trainer import fit

LR = 0.01


def check_step(shape: Shape, recipe: Recipe, assigned: Assignment, where: str) -> None:
    """Trains the whole network, cut at 0, so that nothing but the plan keeps a tensor still.

    ``recipe`` has one segment of one epoch, which is one step; two where the strategy adapts its learning
    rates, since noise shows in two batches or more (what it puts to rest then is to stay still), and where it
    has adapters, whose first half has no gradient while the second is zero.
    """
    model, (segment,) = probe_network(shape, recipe), recipe.segments
    before = {name: tensor.detach().clone() for name, tensor in model.tensors()}
    cell = Cell(
        model=model,
        cuts=(0,),
        recipe=recipe,
        assigned=(assigned,),
        lr=LR,
        seed=0,
        settings=TrainSpec(epochs=1, batch_size=IMAGES // (2 if segment.adapt or recipe.adapters else 1)),
        device=torch.device("cpu"),
        origin=before,
    )
    with torch.random.fork_rng(devices=[]):
        *_, end = attempt(f"{where}: one step of training", lambda: list(fit(cell, probe_data())))
    resting = {name for name, share in end.row.get("lr_shares", {}).items() if not share}
    moved = {n for n, t in model.tensors() if n in before and not torch.equal(t.detach(), before[n])}
    trained = {name for name, scale in assigned.items() if scale is not None}
    expected = trained - resting | _live_statistics(model, segment, trained)
    for name in sorted(expected - moved):
        raise AssertionError(f"{where}: '{name}' trains (multiplier {assigned.get(name, 1)}) but didn't move")
    surplus = sorted(moved - expected)
    require(not surplus, f"{where}: frozen, but moved: {', '.join(surplus[:3])}")


def _live_statistics(model: StagedModel, segment: Segment, trained: set[str]) -> set[str]:
    """Statistics of the norm layers that train: the others run in eval mode."""
    if segment.mode == "eval":
        return set()
    return {
        f"{path}.{buffer}"
        for path, module in model.parts.named_modules()
        if isinstance(module, NORM_LAYERS)
        and any(f"{path}.{name}" in trained for name, _ in module.named_parameters(recurse=False))
        for buffer, _ in module.named_buffers(recurse=False)
    }
