"""Freezing proved by its effect: bits of what is frozen, movement of what trains."""

import pytest
import torch
from torch import nn

from core.small import Planned, copies, image_features, make_cell, small_net, train_data
from harness.audit import FrozenMoved, audit
from harness.backbones.resnet_tiny import ResNetTiny
from harness.contracts import Group, Plan, Recipe, Segment, Selector, freeze, train
from harness.errors import UsageError
from harness.freezing import apply_segment, assignments, frozen_random, prefix_stages
from harness.plugins import load_strategy
from harness.trainer import fit

STRATEGIES = {
    "head_only": ("fc", "head"),
    "linear_probe": ("head",),
    "last_block": ("block3", "fc", "head"),
    "last_k[k=2]": ("block2", "block3", "fc", "head"),
    "full": ("block1", "block2", "block3", "fc", "head"),
    "scratch": ("block1", "block2", "block3", "fc", "head"),
}
RESNET = {
    "head_only": ("head",),
    "linear_probe": ("head",),
    "last_block": ("layer4", "head"),
    "last_k[k=2]": ("layer3", "layer4", "head"),
    "full": ("stem", "layer1", "layer2", "layer3", "layer4", "head"),
    "scratch": ("stem", "layer1", "layer2", "layer3", "layer4", "head"),
}
CASES = [
    pytest.param(net, name, stages, id=f"{net}-{name}")
    for net, table in (("small", STRATEGIES), ("resnet_tiny", RESNET))
    for name, stages in table.items()
]


def network(name):
    torch.manual_seed(0)
    return small_net() if name == "small" else ResNetTiny().build("embedded", 2, "own")


def run(model, strategy, **settings):
    """Trains the whole model, cut at 0, so that nothing but the plan keeps a tensor still."""
    features, labels = image_features(12)
    cell = make_cell(model, strategy, batch_size=4, **{"epochs": 1, **settings})
    data = train_data(features, labels, range(8), range(8, 12))
    *_, last = fit(cell, data)
    return cell, last


@pytest.mark.parametrize(("net", "name", "stages"), CASES)
def test_frozen_tensors_stay_bit_for_bit_and_trained_ones_move(net, name, stages):
    model = network(net)
    before = copies(model)
    cell, last = run(model, load_strategy(name)[0])

    trained = {n for n in before if n.split(".")[0] in stages}
    moved = {n for n, t in model.tensors() if not torch.equal(t, before[n])}
    assert moved <= trained, "a frozen tensor moved"
    parameters = {n for n, _ in model.parts.named_parameters()}
    assert moved & parameters == trained & parameters, "a parameter that should train stood still"
    statistics = {n for n in trained if "running_" in n}
    assert statistics <= moved, "norm statistics of a trained stage stood still"
    held = {slot.split("/")[0] for slot in last.snapshot().optimizer}
    assert held == trained & parameters, "the optimizer holds state for other than what trains"
    audits = audit(cell, before, model.describe(), last.witness)
    assert {s for s, a in audits.items() if a.trained} == set(stages)
    assert all((a.moved > 0) == (a.lr_scale is not None) == (s in stages) for s, a in audits.items())


@pytest.mark.parametrize(("net", "name", "stages"), CASES)
def test_dropout_and_norm_layers_work_in_what_trains_only(net, name, stages):
    model = network(net)
    strategy = load_strategy(name)[0]
    stage_infos = model.describe()
    recipe = strategy.recipe(stage_infos, 1)
    apply_segment(model, recipe.segments[0], assignments(recipe, stage_infos)[0])
    live = () if name == "linear_probe" else stages
    for stage, module in model.parts.items():
        layers = [m for m in module.modules() if isinstance(m, nn.Dropout | nn.BatchNorm2d)]
        assert {m.training for m in layers} <= {stage in live}, stage


@pytest.mark.parametrize(("name", "same"), [("head_only", True), ("last_k[k=2]", False)])
def test_a_frozen_stage_with_dropout_gives_the_same_twice(name, same):
    model = small_net()
    recipe = load_strategy(name)[0].recipe(model.describe(), 1)
    apply_segment(model, recipe.segments[0], assignments(recipe, model.describe())[0])
    images, _ = image_features(4)
    section = model.section(0, 2)
    torch.manual_seed(1)
    first = section(images.batch(torch.arange(4), torch.device("cpu")))
    torch.manual_seed(2)
    second = section(images.batch(torch.arange(4), torch.device("cpu")))
    assert torch.equal(first, second) == same


@pytest.mark.parametrize(
    "name",
    ["block1.0.weight", "block1.1.running_mean", "block1.1.running_var", "block1.1.num_batches_tracked",
     "block2.0.bias"],
)  # fmt: skip
def test_the_audit_names_a_frozen_tensor_that_was_tampered_with(name):
    model = small_net()
    before = copies(model)
    cell, last = run(model, load_strategy("last_block")[0])
    with torch.no_grad():
        tensor = dict(model.tensors())[name]
        tensor[(0,) * tensor.dim()] += 1
    with pytest.raises(FrozenMoved, match=f"'{name}' was frozen"):
        audit(cell, before, model.describe(), last.witness)


def test_the_audit_sees_the_last_bit():
    model = small_net()
    before = copies(model)
    cell, last = run(model, load_strategy("head_only")[0])
    weight = dict(model.tensors())["block2.0.weight"].detach()
    weight[0, 0, 0, 0] = torch.nextafter(weight[0, 0, 0, 0], torch.tensor(torch.inf))
    with pytest.raises(FrozenMoved, match=r"block2\.0\.weight"):
        audit(cell, before, model.describe(), last.witness)


@pytest.mark.parametrize("net", ["small", "resnet_tiny"])
def test_a_frozen_norm_layer_that_runs_in_train_mode_is_caught(net):
    model = network(net)
    stage = "block1" if net == "small" else "layer1"
    norm = next(m for m in model.parts[stage].modules() if isinstance(m, nn.BatchNorm2d))

    def wake(module, _):
        module.train()

    norm.register_forward_pre_hook(wake)
    before = copies(model)
    cell, last = run(model, load_strategy("head_only")[0])
    with pytest.raises(FrozenMoved, match=rf"'{stage}\..*(running_mean|running_var|num_batches)"):
        audit(cell, before, model.describe(), last.witness)


def test_norm_parameters_alone_move_and_take_their_statistics_along():
    model = small_net()
    before = copies(model)
    plan = Plan((train(norm=True, stage="block3"), freeze()))
    cell, last = run(model, Planned(Segment(1, plan)))
    moved = {n for n, t in model.tensors() if not torch.equal(t, before[n])}
    assert moved == {
        f"block3.1.{n}" for n in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    }
    audit(cell, before, model.describe(), last.witness)


def test_a_frozen_norm_layer_in_a_stage_that_trains_keeps_its_statistics():
    model = small_net()
    before = copies(model)
    cell, last = run(model, Planned(Segment(1, Plan((freeze(norm=True), train())))))
    still = {n for n, t in model.tensors() if torch.equal(t, before[n])}
    assert still == {n for n in before if n.split(".")[:2] in (["block1", "1"], ["block3", "1"])}
    audit(cell, before, model.describe(), last.witness)


def test_a_second_segment_trains_more_and_the_first_alone_decides_until_then():
    model = small_net()
    head = Plan((train(role="head"), freeze()))
    plans = Planned(Segment(1, head), Segment(1, Plan((train(),)), lr=1e-3))
    features, labels = image_features(12)
    cell = make_cell(model, plans, batch_size=4)
    before, seen, rates = copies(model), [], []
    for state in fit(cell, train_data(features, labels, range(8), range(8, 12))):
        seen.append({n.split(".")[0] for n, t in model.tensors() if not torch.equal(t, before[n])})
        rates.append(state.row["lr"])
    assert seen == [{"head"}, {"block1", "block2", "block3", "fc", "head"}]
    assert rates == [1e-2, 1e-3]
    assert prefix_stages(cell.assigned, model.describe()) == 0


def test_multipliers_scale_the_step():
    """SGD's first step is the lr times the gradient, so distances are in proportion."""

    def distance(scale):
        torch.manual_seed(0)
        model = small_net()
        before = copies(model)
        plan = Plan((Group(Selector(role="head"), scale), freeze()))
        features, labels = image_features(8)
        cell = make_cell(model, Planned(Segment(1, plan, mode="eval")), epochs=1, optimizer="sgd")
        list(fit(cell, train_data(features, labels, range(6), range(6, 8))))
        return (dict(model.tensors())["head.linear.weight"] - before["head.linear.weight"]).norm().item()

    assert distance(0.1) == pytest.approx(0.1 * distance(1.0), rel=1e-3)


def test_what_weights_do_not_cover_and_a_plan_freezes_is_named():
    model = small_net(covered=False)
    stages = model.describe()
    random = {
        name: frozen_random(assignments(load_strategy(name)[0].recipe(stages, 1), stages), stages)
        for name in ("head_only", "last_block", "full")
    }
    assert random == {
        "head_only": ("block1", "block2", "block3"),
        "last_block": ("block1", "block2"),
        "full": (),
    }
    covered = small_net().describe()
    probe = assignments(load_strategy("linear_probe")[0].recipe(covered, 1), covered)
    assert frozen_random(probe, covered) == ()


def test_a_strategy_that_trains_nothing_is_refused():
    stages = small_net().describe()
    with pytest.raises(UsageError, match="trains nothing"):
        assignments(Recipe((Segment(1, Plan((freeze(),))),)), stages)
