"""The plan against figures worked out by hand, and against what a run then does."""

import re
from dataclasses import replace

import pytest
import torch

from core.grids import GRID
from core.small import small_net
from harness import pool
from harness.backbones.torchvision import TorchvisionBackbone
from harness.contracts import Plan, Recipe, Segment, freeze, train
from harness.costs import CostModel, GridSize
from harness.plan_grid import plan_grid, plan_text
from harness.planner import plan_cell
from harness.plugins import load_strategy
from harness.prefix import compute_prefix
from harness.progress import Progress
from harness.run_grid import run_grid
from harness.run_options import RunOptions

GIGA = 2e9  # operations in 10^9 multiply-accumulates


@pytest.fixture(scope="module")
def vgg16():
    with torch.device("meta"):
        model = TorchvisionBackbone("vgg16").build("none", 2, "own")
    model.pretrained = frozenset(n for n, _ in model.tensors() if n.startswith("block"))
    return model


@pytest.fixture(scope="module")
def costs(vgg16):
    return CostModel(vgg16)


def cell(model, strategy, epochs=10):
    stages = model.describe()
    recipe = strategy.recipe(stages, epochs)
    options = {"epochs": epochs, "strategy": "s", "cuttable": True, "allow_random_frozen": False}
    return plan_cell(recipe, stages, **options)


def named(model, name, epochs=10):
    return cell(model, load_strategy(name)[0], epochs)


def test_vgg16s_arithmetic_is_the_published_one(costs):
    """15.5 GMAC an image; the last block 1.387, the classifier for two classes 0.1195."""
    assert costs.forward(0) / GIGA == pytest.approx(15.466, abs=1e-3)
    assert costs.forward(0, 4) / GIGA == pytest.approx(13.959, abs=1e-3)
    assert costs.forward(4, 5) / GIGA == pytest.approx(1.387, abs=1e-3)
    assert costs.forward(5) / GIGA == pytest.approx(0.1195, abs=1e-4)


def test_a_training_step_costs_no_gradient_of_what_is_frozen(costs, vgg16):
    head, block = named(vgg16, "head_only"), named(vgg16, "last_block")
    classifier = 25088 * 4096 + 4096 * 4096 + 4096 * 2
    backward = 2 * classifier - 25088 * 4096  # no gradient of the features
    assert costs.training(head.cut, head.assigned[0]) == 2 * (classifier + backward)
    assert costs.training(block.cut, block.assigned[0]) / GIGA == pytest.approx(4.058, abs=1e-3)


@pytest.mark.parametrize(
    ("grid", "alone", "shared"),
    [
        ({"head_only": 1}, 8.5, 1.05),
        ({"head_only": 2}, 17.0, 1.18),
        ({"head_only": 8}, 68.1, 1.97),
        ({"last_block": 1}, 9.7, 2.9),
        ({"last_block": 8}, 77.4, 17.2),
        ({"head_only": 2, "last_block": 2}, 36.4, 5.3),
    ],
)
def test_the_grids_of_thirty_thousand_images(costs, vgg16, grid, alone, shared):
    """PFLOP of ten epochs on 24,000 images, with 3,000 to validate and 3,000 to test."""
    size = GridSize(24_000, 3_000, 3_000)
    cells = [costs.cell(named(vgg16, name), size) for name, count in grid.items() for _ in range(count)]
    deepest = max(named(vgg16, name).cut for name in grid)
    assert sum(c.alone for c in cells) / 1e15 == pytest.approx(alone, rel=0.01)
    total = sum(c.suffix for c in cells) + size.images * costs.forward(0, deepest)
    assert total / 1e15 == pytest.approx(shared, rel=0.02)


def test_each_segment_counts_from_its_own_cut():
    class Two:
        def recipe(self, stages, epochs):
            head = Segment(1, Plan((train(role="head"), freeze())))
            return Recipe((head, Segment(epochs - 1, Plan((train(),)))))

    model = small_net()
    costs, size, plan = CostModel(model), GridSize(10, 4, 3), cell(model, Two(), 3)
    head, whole = costs.training(5, plan.assigned[0]), costs.training(0, plan.assigned[1])
    last = costs.forward(5)
    assert plan.cuts == (5, 0)
    assert head == 3 * 2 * 16 * 2 - 2 * 16 * 2, "forward and the weights' gradient"
    expected = 10 * head + 4 * last + 2 * (10 * whole + 4 * costs.forward(0)) + 3 * costs.forward(0)
    assert costs.cell(plan, size).suffix == expected
    assert costs.cell(plan, size).alone == expected + (10 + 4) * costs.forward(0, 5)


def planned(grid, out, images, **options):
    given = RunOptions(out=out, data_path=images, device="cpu", threads=1, **options)
    return plan_grid(grid, given, Progress(quiet=True)), given


@pytest.mark.usefixtures("site")
def test_a_plan_trains_nothing_and_says_what_would_be_shared(tmp_path, images):
    (group,), _ = planned(GRID, tmp_path / "runs", images)
    assert not (tmp_path / "runs").exists()
    assert len(group.cells) == 4
    assert [(c.cut, c.images, c.views, c.nbytes, c.where) for c in group.cuts] == [
        (2, 60, 1, 60 * 8 * 8 * 8 * 4, "in memory"),
        (4, 60, 1, 60 * 16 * 4, "in memory"),
    ]
    text = plan_text([group])
    assert "frozen prefix small block1..block2 at 32 px: 60 images x 1 view, 120 KiB in memory" in text
    speedup = re.search(r"at most (\d+\.\d)x", text)
    assert float(speedup[1]) == pytest.approx(group.alone / group.shared, abs=0.06)
    assert group.alone > group.shared


@pytest.mark.usefixtures("site")
def test_a_plan_knows_flips_budgets_kept_features_and_what_is_done(tmp_path, images):
    flipped = replace(GRID, train=replace(GRID.train, flip=True))
    (group,), _ = planned(flipped, tmp_path / "runs", images, cache_budget=0)
    assert {(c.views, c.where) for c in group.cuts} == {(2, "in a mapped file")}
    one = replace(GRID, lrs=(1e-2,))
    _, options = planned(one, tmp_path / "runs", images, keep_features=True)
    run_grid(one, options, Progress(quiet=True))
    (group,), _ = planned(GRID, tmp_path / "runs", images, keep_features=True)
    assert (group.done, len(group.cells)) == (2, 2)
    assert {c.where for c in group.cuts} == {"kept from before"}
    (fresh,), _ = planned(GRID, tmp_path / "runs", images)
    assert fresh.shared > group.shared
    (nothing,), _ = planned(one, tmp_path / "runs", images)
    assert "nothing left to train" in plan_text([nothing])


@pytest.mark.usefixtures("site")
def test_a_plan_leaves_room_for_the_images(tmp_path, images, monkeypatch):
    """180 KiB of them; 240 KiB of activations in two views fit into the budget alone, not beside them."""
    flipped = replace(GRID, strategies=("last_block",), lrs=(1e-2,), train=replace(GRID.train, flip=True))
    said = []
    monkeypatch.setattr(Progress, "say", lambda self, text: said.append(text))
    for budget, place in ((360 * 1024, "in a mapped file"), (440 * 1024, "in memory")):
        (group,), options = planned(flipped, tmp_path / place, images, cache_budget=budget)
        assert [c.where for c in group.cuts] == [place]
        run_grid(flipped, options, Progress(quiet=True))
        assert [line.endswith(place) for line in said if line.startswith("frozen prefix")] == [True]
        said.clear()


@pytest.mark.usefixtures("site")
def test_full_training_shares_no_prefix(tmp_path, images):
    (group,), _ = planned(replace(GRID, strategies=("full",)), tmp_path / "runs", images)
    assert group.cuts == ()
    assert group.alone == group.shared
    assert "no frozen prefix to share" in plan_text([group])


@pytest.mark.usefixtures("site")
def test_augmented_prefixes_count_once_an_epoch_and_seed(tmp_path, images):
    grid = replace(GRID, seeds=(0, 1), train=replace(GRID.train, augment="crop"))
    (group,), _ = planned(grid, tmp_path / "runs", images)
    (plain,), _ = planned(replace(grid, train=GRID.train), tmp_path / "runs", images)
    model = small_net()
    prefix = CostModel(model).forward(0, 4)
    assert group.shared - plain.shared == prefix * (48 * 3 * 2 + 12 - 60)
    assert group.alone == plain.alone


@pytest.mark.usefixtures("site")
def test_what_an_earlier_group_left_is_not_counted_again(tmp_path, images, monkeypatch):
    """A pass to block 2 and one from there to the pooled features, which the group between has no use for."""
    grid = replace(
        GRID, strategies=("lora_conv[blocks=1]", "head_only"), lrs=(1e-2,), heads=("own", "linear")
    )
    groups, options = planned(grid, tmp_path / "runs", images)
    assert [[(c.cut, c.where) for c in g.cuts] for g in groups] == [
        [(2, "in memory")],
        [(4, "in memory")],
        [(2, "there since group 1")],
        [(4, "in memory")],
    ]
    costs = CostModel(small_net())
    head = replace(grid, strategies=("head_only",), heads=("own",))
    (alone,), _ = planned(head, tmp_path / "runs", images)
    assert alone.shared - groups[1].shared == 60 * costs.forward(0, 2)
    passes = []

    def counting(model, start, stores, *rest, **options):
        passes.append((start, max(stores)))
        return compute_prefix(model, start, stores, *rest, **options)

    monkeypatch.setattr(pool, "compute_prefix", counting)
    run_grid(grid, options, Progress(quiet=True))
    assert passes == [(0, 2), (2, 4), (2, 4)]
    assert groups[0].shared - groups[2].shared == 60 * costs.forward(0, 2)
    assert groups[1].shared == groups[3].shared
