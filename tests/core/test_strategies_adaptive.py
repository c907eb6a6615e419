"""Learning rates that follow the gradients: what the probe sees, what is made of it, no trace of it left."""

import copy
import json
import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from core.grids import GRID, ONE, Interrupting, results, run
from core.small import Planned, copies, image_features, make_cell, small_net, train_data
from core.test_fused import probe as one_layer_network
from core.watch import cell_of, data_of, trained, watch
from harness.adaptive import GradientStatistics
from harness.audit import audit
from harness.backbones.resnet_tiny import ResNetTiny
from harness.backbones.vgg_tiny import VGGTiny
from harness.contracts import Group, Plan, Segment, Selector, freeze, train
from harness.costs import CostModel, GridSize
from harness.errors import UsageError
from harness.freezing import assignments
from harness.fused import places
from harness.micro_batches import MicroBatches
from harness.planner import CellPlan
from harness.plugins import load_strategy
from harness.probe import RuleError, asked_shares, probe
from harness.seeding import derive_seed, generator
from harness.trainer import Diverged, fit

NEAR = 1e-4  # float32 sums in another order
COUNT, TRAIN, BATCH, LR = 28, 24, 4, 1e-3  # six batches an epoch, of which the probe sees five


def embedded(backbone):
    torch.manual_seed(0)
    return backbone().build("embedded", 2, "own")


def by_hand(model, data, seed, epoch, batches=5):
    """name -> gradients float64 ``[batches, n]`` of all but norm layers, and the weights' norms."""
    model = copy.deepcopy(model).train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    order = generator(seed, "probe", epoch).permutation(len(data.train))
    found = {}
    for step in range(batches):
        rows = data.train[torch.from_numpy(order[step * BATCH : (step + 1) * BATCH])]
        model.zero_grad()
        torch.manual_seed(derive_seed(seed, "probe", epoch, step))
        images = data.features[0].rows[rows].permute(0, 3, 1, 2)
        F.cross_entropy(model(images), data.labels[rows]).backward()
        for p in (p for stage in model.describe() for p in stage.parameters if not p.norm):
            grad = dict(model.tensors())[p.name].grad
            found.setdefault(p.name, []).append(grad.double().flatten().numpy())
    norms = {n: float(dict(model.tensors())[n].detach().double().norm()) for n in found}
    return {n: np.stack(g) for n, g in found.items()}, norms


def rgn(grads, norms):
    ratios = {n: np.mean([np.linalg.norm(row) / norms[n] for row in g]) for n, g in grads.items()}
    return {n: r / max(ratios.values()) for n, r in ratios.items()}


def snr(grads, norms):
    ratios = {}
    for name, g in grads.items():
        var = g.var(axis=0, ddof=1)
        each = np.divide(g.mean(axis=0) ** 2, var, out=np.zeros_like(var), where=var > 0)
        ratios[name] = each.mean()
    return {n: float(r / max(ratios.values()) >= 0.1) for n, r in ratios.items()}


@pytest.mark.parametrize(("name", "rule"), [("auto_rgn", rgn), ("auto_snr", snr)])
@pytest.mark.parametrize("backbone", [VGGTiny, ResNetTiny])
def test_each_epochs_rates_are_those_of_the_definition(backbone, name, rule):
    model = embedded(backbone)
    features, labels = image_features(COUNT, 64)
    data = train_data(features, labels, range(TRAIN), range(TRAIN, COUNT))
    cell = make_cell(model, load_strategy(name)[0], lr=LR, epochs=2, batch_size=BATCH)
    expected, before = rule(*by_hand(model, data, cell.seed, 1)), copies(model)
    for state in fit(cell, data):
        epoch = state.row["epoch"]
        shares = state.row["lr_shares"]
        assert shares == {n: pytest.approx(s, rel=NEAR) for n, s in expected.items()}
        assert max(shares.values()) == 1.0
        optimizer, names = state._state.optimizer, state._state.names
        rates = {names[id(p)]: g["lr"] for g in optimizer.param_groups for p in g["params"]}
        assert rates == {n: pytest.approx(LR * s) for n, s in shares.items()}
        assert state.row["lr"] == pytest.approx(LR)
        now = copies(model)
        moved = {n for n in now if not torch.equal(now[n], before[n])}
        assert moved <= {n for n, s in shares.items() if s}, "norm layers and what rests stand still"
        # Steps below a weight's last digit are lost.
        lost = {n for n, s in shares.items() if LR * s < 1e-6 * before[n].abs().max()}
        assert {n for n, s in shares.items() if s} - moved <= lost
        expected, before = rule(*by_hand(model, data, cell.seed, epoch + 1)), now


def test_the_two_rules_differ_between_tensors():
    """Else the test above could pass with one rate for all."""
    (epoch,) = watch(cell_of("auto_rgn", epochs=1))
    assert len(set(epoch.rates.values())) == len(epoch.rates)
    assert not any(n.startswith(("block1.1", "block3.1")) for n in epoch.rates)
    (epoch,) = watch(cell_of("auto_snr[threshold=1.0]", epochs=1, batch_size=16))
    assert sorted(set(epoch.rates.values())) == [0.0, 1e-2]
    assert sum(rate > 0 for rate in epoch.rates.values()) == 1
    assert {n for n, rate in epoch.rates.items() if rate} == epoch.moved


# --------------------------------------------------------------------------- the rules alone


def seen(**ratios):
    return {n: GradientStatistics(g, w, s) for n, (g, w, s) in ratios.items()}


def test_rgn_by_numbers():
    shares = load_strategy("auto_rgn")[0].shares
    assert shares(seen(a=(1.0, 2.0, 1), b=(6.0, 3.0, 1), c=(0.0, 1.0, 1))) == {"a": 0.25, "b": 1.0, "c": 0.0}
    # A bias that starts at zero has no ratio, and doesn't keep the others from theirs.
    assert shares(seen(a=(1.0, 2.0, 1), z=(1.0, 0.0, 1))) == {"a": 1.0, "z": 1.0}
    assert shares(seen(a=(0.0, 2.0, 1))) == {"a": 0.0}


def test_snr_by_numbers():
    shares = load_strategy("auto_snr[threshold=0.25]")[0].shares
    found = shares(seen(a=(1, 1, 8.0), b=(1, 1, 2.0), c=(1, 1, 1.9), d=(1, 1, 0.0)))
    assert found == {"a": 1.0, "b": 1.0, "c": 0.0, "d": 0.0}
    with pytest.raises(UsageError, match=r"auto_snr: .*one batch.*--batch-size"):
        shares(seen(a=(1, 1, None)))


@pytest.mark.parametrize(
    "name",
    ["auto_rgn[batches=0]", "auto_snr[batches=1]", "auto_snr[threshold=1.5]", "auto_snr[threshold=-0.1]"],
)
def test_options_out_of_range(name):
    with pytest.raises(UsageError, match=rf"^{name.split('[')[0]}\["):
        load_strategy(name)[0].recipe(small_net().describe(), 2)


# --------------------------------------------------------------------------- any adaptive strategy


@dataclass(frozen=True)
class Shares:
    """Adapts to given shares, 1 for what isn't named."""

    given: tuple[tuple[str, float], ...] = ()
    batches: int = 3

    def shares(self, seen):
        return dict.fromkeys(seen, 1.0) | dict(self.given)


def adapted(*given, plan=None, cell=None, **options):
    segment = Segment(2, plan or Plan((train(),)), adapt=Shares(given, **options))
    return make_cell(small_net(), Planned(segment), **{"cut": 0, "epochs": 2, **(cell or {})})


def data_for(cell):
    features, labels = image_features(80)
    return train_data(features, labels, range(64), range(64, 80))


def test_a_look_leaves_no_trace():
    """With shares of 1 it ends as without a look, dropout and norm layers in train mode included."""
    torch.manual_seed(1)
    looked = adapted(cell={"flip": True})
    torch.manual_seed(1)
    plain = make_cell(small_net(), Planned(Segment(2, Plan((train(),)))), epochs=2, flip=True)
    (rows, tensors), (plain_rows, others) = (trained(cell, data_for(cell)) for cell in (looked, plain))
    assert [{k: v for k, v in row.items() if k != "lr_shares"} for row in rows] == plain_rows
    assert all(torch.equal(tensors[n], others[n]) for n in others)
    assert set(rows[0]["lr_shares"].values()) == {1.0}


def test_shares_multiply_the_plans_own_rates():
    plan = Plan((Group(Selector(stage="fc"), 0.5), freeze(stage="block1"), train()))
    cell = adapted(("fc.0.weight", 0.1), ("block2.0.bias", 3.0), plan=plan, cell={"lr": 1e-2})
    epoch, _ = watch(cell)
    assert epoch.rates["fc.0.weight"] == pytest.approx(1e-2 * 0.5 * 0.1)
    assert epoch.rates["fc.0.bias"] == pytest.approx(1e-2 * 0.5)
    assert epoch.rates["block2.0.bias"] == pytest.approx(3e-2)
    assert not any(n.startswith("block1") for n in epoch.rates)


def test_what_rests_throughout_is_reported_and_not_failed():
    cell = adapted(("block2.0.weight", 0.0), ("block2.0.bias", 0.0))
    before = copies(cell.model)
    *_, last = fit(cell, data_for(cell))
    found = audit(cell, before, cell.model.describe(), last.witness)
    assert found["block2"].still == {"block2.0.weight": "zero lr", "block2.0.bias": "zero lr"}
    assert found["block2"].in_optimizer == found["block2"].trained > 0
    assert [(span.epochs, span.lr) for span in found["block2"].lr] == [((1, 2), 0.0)]
    assert found["block1"].still == {}


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda seen: {}, r"asked for a share for each tensor.*'block1\.0\.bias'"),
        (lambda seen: dict.fromkeys(seen, math.nan), "is nan"),
        (lambda seen: dict.fromkeys(seen, -0.5), r"is -0\.5"),
        (lambda seen: dict.fromkeys([*seen, "more"], 1.0), "'more'"),
    ],
)
def test_an_answer_that_is_none_is_named(answer, message):
    class Odd:
        batches = 1
        shares = staticmethod(answer)

    names = {p.name: GradientStatistics(1, 1, 1) for s in small_net().describe() for p in s.parameters}
    with pytest.raises(RuleError, match=rf"^Odd: .*{message}"):
        asked_shares(Odd(), names)


def test_weights_that_are_no_longer_finite_are_a_divergence_and_not_a_share():
    cell = adapted()
    with torch.no_grad():
        dict(cell.model.tensors())["head.linear.bias"].fill_(math.inf)
    with pytest.raises(Diverged):
        list(fit(cell, data_for(cell)))


def test_one_batch_has_no_noise():
    cell = make_cell(small_net(), load_strategy("auto_rgn")[0], batch_size=64)
    cell.model.train()
    data = data_for(cell)
    found = probe(cell, 0, data, data.features[0], torch.ones(2), 1, 5, MicroBatches())
    assert {s.signal_to_noise for s in found.values()} == {None}
    with pytest.raises(UsageError, match="one batch"):
        list(fit(make_cell(small_net(), load_strategy("auto_snr")[0], batch_size=64), data))


def test_heads_whose_rates_adapt_are_not_trained_side_by_side():
    cell = make_cell(one_layer_network(), load_strategy("head_only")[0], cut=None)
    plan = CellPlan(cell.recipe, cell.assigned, cell.cuts)
    (segment,) = cell.recipe.segments
    recipe = replace(cell.recipe, segments=(replace(segment, adapt=Shares()),))
    assert places(one_layer_network(), plan, [64]) > 1
    assert places(one_layer_network(), replace(plan, recipe=recipe), [64]) == 1


def test_its_cost_includes_the_looks():
    model = small_net()
    costs = CostModel(model)
    size = GridSize(train=1000, val=0, test=0, batch=10)

    def cost(*segments):
        recipe = Planned(*segments).recipe(model.describe(), 1)
        return costs.cell(CellPlan(recipe, assignments(recipe, model.describe()), (0,)), size).alone

    everything = Plan((train(),))
    plain = cost(Segment(1, everything))
    assert cost(Segment(1, everything, adapt=Shares(batches=5))) == pytest.approx(plain * 1.05)
    assert cost(Segment(1, everything, adapt=Shares(batches=500))) == pytest.approx(plain * 2), (
        "no more than all"
    )


# --------------------------------------------------------------------------- in a grid, and again


@pytest.mark.usefixtures("site")
def test_a_cell_beside_others_and_one_that_was_interrupted_reach_the_same_bits(tmp_path, images):
    grid = replace(GRID, strategies=("auto_rgn", "head_only", "auto_snr"), lrs=(1e-2,))
    whole = results(run(grid, tmp_path / "grid", images))
    for name in ("auto_rgn", "auto_snr"):
        one = replace(ONE, strategies=(name,))
        alone = results(run(one, tmp_path / "alone", images))
        with pytest.raises(KeyboardInterrupt):
            run(one, tmp_path / "again", images, Interrupting(2))
        (folder,) = alone
        assert (tmp_path / "again" / folder / "resume.safetensors").exists()
        assert results(run(one, tmp_path / "again", images)) == alone
        assert alone[folder] == whole[folder]
        rows = [json.loads(line) for line in (tmp_path / "again" / folder / "history.jsonl").open()]
        assert all(max(row["lr_shares"].values()) == 1.0 for row in rows)
        assert len({json.dumps(row["lr_shares"]) for row in rows}) > 1


@pytest.mark.parametrize("name", ["auto_rgn", "auto_snr"])
def test_with_augmentation_the_looks_are_at_augmented_images(name):
    cell = cell_of(name, epochs=1)
    data = data_of(cell)

    class Brighter:
        def at(self, seed, epoch, cuts):
            return {0: replace(data.features[0], rows=data.features[0].rows // 2)}

    rows, _ = trained(cell, data)
    others, _ = trained(cell_of(name, epochs=1), replace(data, augmented=Brighter()))
    assert rows[0]["train_loss"] != others[0]["train_loss"]
    if name == "auto_rgn":
        assert rows[0]["lr_shares"] != others[0]["lr_shares"]
