"""The penalty on the distance from the pretrained weights."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from core.grids import ONE, Interrupting, results, run
from core.small import copies, make_cell
from core.test_fused import probe
from core.watch import TRAIN, cell_of, data_of, trained
from harness.contracts import Plan, Recipe, Segment, StartPenalty, freeze, train
from harness.fused import places
from harness.planner import CellPlan
from harness.plugins import load_strategy
from harness.seeding import generator
from harness.trainer import fit

HELD = ("block1.0.weight", "block2.0.weight", "block3.0.weight", "fc.0.weight", "head.linear.weight")


class Held:
    """Everything in eval mode, so that a step can be computed by hand."""

    source = summary = "a test"

    def __init__(self, weight, new):
        self.penalty = StartPenalty(weight, new)

    def recipe(self, stages, epochs):
        return Recipe((Segment(epochs, Plan((train(),)), mode="eval", penalty=self.penalty),))


def test_two_steps_are_those_of_the_loss_with_the_penalty_written_out():
    weight, new, lr = 0.3, 0.7, 0.05
    cell = make_cell(
        cell_of("full").model, Held(weight, new), lr=lr, epochs=1, batch_size=TRAIN // 2, optimizer="sgd"
    )
    data = data_of(cell)
    reference = cell_of("full").model.eval()
    origin, live = copies(reference), dict(reference.parts.named_parameters())
    optimizer = torch.optim.SGD(live.values(), lr=lr, momentum=0.9)
    order = data.train[torch.from_numpy(generator(cell.seed, "order", 1).permutation(TRAIN))]
    plain = []
    for index in order.split(TRAIN // 2):
        loss = F.cross_entropy(
            reference(data.features[0].rows[index].permute(0, 3, 1, 2)), data.labels[index]
        )
        plain.append(loss.item())
        for name in HELD:
            start = torch.zeros(()) if name.startswith("head") else origin[name]
            factor = new if name.startswith("head") else weight
            loss = loss + factor / 2 * (live[name] - start).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    rows, tensors = trained(cell, data)
    for name, tensor in live.items():
        torch.testing.assert_close(tensors[name], tensor.detach(), rtol=1e-4, atol=1e-6, msg=name)
    assert rows[0]["train_loss"] == pytest.approx(sum(plain) / 2, rel=1e-5), "recorded without the penalty"


def distance(weight):
    cell = cell_of(f"l2_sp[weight={weight}]", epochs=2, lr=1e-3)
    end = trained(cell, data_of(cell))[1]
    held = [n for n in HELD if not n.startswith("head")]
    return sum((end[n] - cell.origin[n]).square().sum().item() for n in held)


def test_a_larger_weight_stays_nearer():
    assert distance(1000.0) < 0.5 * distance(0.0)


def test_without_weights_it_is_full():
    nothing, full = (cell_of(name, epochs=2) for name in ("l2_sp[weight=0,new=0]", "full"))
    (rows, tensors), (other_rows, others) = (trained(cell, data_of(cell)) for cell in (nothing, full))
    assert rows == other_rows
    assert all(torch.equal(tensors[n], others[n]) for n in others)


def test_a_resumed_run_is_held_to_the_pretrained_weights_and_not_to_those_it_resumes_from():
    def cell():
        return cell_of("l2_sp[weight=5]", epochs=3)

    data = data_of(cell())
    whole = trained(cell(), data)[1]
    snapshot = next(fit(cell(), data)).snapshot()
    again = trained(cell(), data, resume=snapshot)[1]
    assert all(torch.equal(again[n], whole[n]) for n in whole)
    wrong = replace(cell(), origin=snapshot.tensors)
    moved = trained(wrong, data, resume=snapshot)[1]
    assert not torch.equal(moved["block2.0.weight"], whole["block2.0.weight"])


@pytest.mark.usefixtures("site")
def test_an_interrupted_cell_goes_on_to_the_same_bits(tmp_path, images):
    grid = replace(ONE, strategies=("l2_sp[weight=5.0]",))
    whole = results(run(grid, tmp_path / "whole", images))
    with pytest.raises(KeyboardInterrupt):
        run(grid, tmp_path / "runs", images, Interrupting(2))
    assert results(run(grid, tmp_path / "runs", images)) == whole


def one_layer(**changes):
    """A plan whose suffix is one linear layer."""
    cell = make_cell(probe(), load_strategy("head_only")[0], cut=None)
    (segment,) = cell.recipe.segments
    recipe = Recipe((replace(segment, **changes.pop("segment", {})),), **changes)
    return CellPlan(recipe, cell.assigned, cell.cuts)


@pytest.mark.parametrize(
    "changes",
    [
        {"segment": {"penalty": StartPenalty(0.1, 0.1)}},
        {"segment": {"schedule": "cosine"}},
        {"schedule": "slanted-triangular"},
    ],
    ids=["penalty", "segment's schedule", "recipe's schedule"],
)
def test_heads_with_steps_of_their_own_are_not_trained_side_by_side(changes):
    assert places(probe(), one_layer(), [64]) > 1
    assert places(probe(), one_layer(**changes), [64]) == 1


def test_only_what_trains_is_held():
    class HeadHeld:
        source = summary = "a test"

        def recipe(self, stages, epochs):
            plan = Plan((train(role="head"), freeze()))
            return Recipe((Segment(epochs, plan, penalty=StartPenalty(1.0, 1.0)),))

    cell = make_cell(cell_of("full").model, HeadHeld(), epochs=1)
    before = copies(cell.model)
    after = trained(cell, data_of(cell))[1]
    assert {n for n in after if not torch.equal(after[n], before[n])} == {
        "head.linear.weight",
        "head.linear.bias",
    }
