"""head2toe: a head on features of all stages, against a second reckoning from the paper's definition."""

import math
from collections import OrderedDict
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from core.grids import ONE, Interrupting, Said, results, run
from core.small import CPU, PREPROCESS, small_images, small_net
from core.test_trained import assert_gives_its_predictions
from core.watch import COUNT, TRAIN, cell_of, data_of
from harness.backbones.staged import Stage, StagedModel
from harness.backbones.tapped import TapHead, TappedModel, pooled
from harness.contracts import GroupLasso, Plan, Recipe, Segment, Taps, train
from harness.errors import UsageError
from harness.gradcam import cam_layer
from harness.planner import plan_cell
from harness.plugins import load_strategy
from harness.seeding import derive_seed, generator
from harness.trainer import evaluate, fit

TAPPED = {"block1": 8 * 64, "block2": 8 * 64, "block3": 16 * 16, "fc": 16}  # 16, 8 and 4 pixels wide


def by_hand(x, windows):
    """Means over a grid of ``windows`` x ``windows`` equal windows; numpy ``[n, c, h, w]``."""
    side = x.shape[2] // windows
    means = [
        x[:, :, i * side : (i + 1) * side, j * side : (j + 1) * side].mean((2, 3))
        for i in range(windows)
        for j in range(windows)
    ]
    return np.stack(means, 2).reshape(len(x), -1)


@pytest.mark.parametrize(
    ("shape", "size", "windows"),
    [
        ((8, 16, 16), 512, 8),  # 512 / 8 = 64 windows
        ((16, 16, 16), 512, 5),  # 32 windows are 5 x 5 at most; the 16th row and column are left over
        ((300, 4, 4), 512, 1),
        ((512, 7, 7), 512, 1),
        ((1024, 7, 7), 512, 1),
        ((2, 4, 4), 512, 4),  # no more windows than pixels
    ],
)
def test_maps_are_averaged_over_windows_that_make_up_the_size(shape, size, windows):
    x = np.random.default_rng(1).normal(size=(3, *shape)).astype(np.float32)
    found = pooled(torch.from_numpy(x), size).numpy()
    assert found.shape == (3, shape[0] * windows**2)
    np.testing.assert_allclose(found, by_hand(x, windows), rtol=1e-4, atol=1e-6)


def test_tokens_are_averaged_and_flat_features_taken_as_they_are():
    x = torch.randn(2, 10, 6)
    assert torch.equal(pooled(x[:, 0], 4), x[:, 0])
    torch.testing.assert_close(pooled(x, 6), x.mean(1))
    halves = torch.stack([x[:, :5].mean(1), x[:, 5:].mean(1)], 2).flatten(1)
    torch.testing.assert_close(pooled(x, 12), halves)


def features(model, images):
    """Of every tapped stage, ``[n, size]``: a fold of our own over the plain network's stages."""
    found, x = {}, (images.float() / 255 - 0.5) / 0.25
    model.eval()
    with torch.no_grad():
        for name, part in list(model.parts.items())[:-1]:
            x = part(x)
            if name in TAPPED:
                windows = round(math.sqrt(TAPPED[name] / x.shape[1]))
                found[name] = x if x.dim() == 2 else torch.from_numpy(by_hand(x.numpy(), windows))
    return found


def unit(x):
    return x / x.norm(dim=1, keepdim=True).clamp_min(1e-12)


def linear_training(x, labels, layer, *, seed, epochs, lasso):
    """Adam under a cosine of its own, 64 images a step, in the harness's order of the images."""
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.01)
    step, total = 0, len(epochs) * TRAIN // 64
    for epoch in epochs:
        for rows in torch.from_numpy(generator(seed, "order", epoch).permutation(TRAIN)).split(64):
            optimizer.param_groups[0]["lr"] = 0.01 * (1 + math.cos(math.pi * step / total)) / 2
            loss = F.cross_entropy(layer(x[rows]), labels[rows])
            loss = loss + lasso * layer.weight.square().sum(0).sqrt().sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1


def test_training_is_the_papers():
    """Features of all stages, a head under a group lasso, the best tenth of them, and a new head on those."""
    keep, lasso, name = 0.1, 0.02, "head2toe[keep=0.1,lasso=0.02]"
    cell = cell_of(name, cut=None, epochs=5)  # two epochs of scoring
    assert cell.cuts == (5, 5)
    start = {n: t.detach().clone() for n, t in cell.model.head.state_dict().items()}
    assert cell.model.head.linear.in_features == sum(TAPPED.values())
    data = data_of(cell)
    images, labels = small_images(COUNT)
    taps = features(cell_of("full").model, images)
    assert {n: t.shape[1] for n, t in taps.items()} == TAPPED

    first = nn.Linear(sum(TAPPED.values()), 2)
    first.load_state_dict({n.removeprefix("linear."): t for n, t in start.items() if n != "kept"})
    x = torch.cat([unit(t) for t in taps.values()], 1)
    linear_training(x, labels, first, seed=cell.seed, epochs=range(1, 3), lasso=lasso)
    scores = first.weight.detach().square().sum(0)  # the authors' score; its root sorts alike
    count = int(keep * len(scores))
    chosen = scores.topk(count).indices.sort().values

    states = fit(cell, data)
    next(states), next(states)
    torch.testing.assert_close(cell.model.head.linear.weight, first.weight, rtol=1e-3, atol=1e-5)
    assert cell.model.head.kept.all()
    *_, last = states
    kept = cell.model.head.kept.nonzero().squeeze(1)
    assert torch.equal(kept, chosen)
    borders = np.cumsum([0, *TAPPED.values()])
    in_tap = [int(((kept >= a) & (kept < b)).sum()) for a, b in pairwise(borders)]
    assert last.row["kept"] == dict(zip(TAPPED, in_tap, strict=True))

    draw = torch.Generator().manual_seed(derive_seed(cell.seed, "keep", 1))
    bound = 1 / math.sqrt(count)
    drawn = torch.empty(2, count + 1).uniform_(-bound, bound, generator=draw)
    second = nn.Linear(count, 2)
    second.load_state_dict({"bias": drawn[:, 0], "weight": drawn[:, 1:]})
    # Only what is kept, tap by tap: its length is that of the kept features alone.
    split = [
        t[:, chosen[(chosen >= a) & (chosen < b)] - a]
        for t, (a, b) in zip(taps.values(), pairwise(borders), strict=True)
    ]
    x = torch.cat([unit(t) for t in split], 1)
    linear_training(x, labels, second, seed=cell.seed, epochs=range(3, 6), lasso=0.0)
    weight = cell.model.head.linear.weight.detach()
    torch.testing.assert_close(weight[:, chosen], second.weight.detach(), rtol=1e-3, atol=1e-5)
    assert not weight[:, ~cell.model.head.kept].any()
    logits = evaluate(cell, data.features, data.val)
    torch.testing.assert_close(logits, second(x[data.val]).detach(), rtol=1e-3, atol=1e-4)


def head_of(weights):
    head = TapHead((2, 3), 2)
    with torch.no_grad():
        head.linear.weight.copy_(torch.tensor(weights))
    return head


def test_the_largest_norms_stay_and_equals_in_order():
    weights = [[3.0, 0.0, -6.0, 0.0, 5.0], [4.0, 0.0, 0.0, -1.0, 0.0]]
    head = head_of(weights)
    assert head.scores().tolist() == [5.0, 0.0, 6.0, 1.0, 5.0]
    head.keep(0.5, torch.Generator().manual_seed(1))  # 2.5 features: 2
    assert head.kept.tolist() == [True, False, True, False, False]
    assert (head.linear.weight != 0).any(0).tolist() == head.kept.tolist()
    assert head.linear.weight.abs().max() <= 1 / math.sqrt(2)
    for share, count in ((0.01, 1), (1.0, 5)):
        head = head_of(weights)
        head.keep(share, torch.Generator())
        assert head.kept.sum() == count
        assert head.kept[2]


def test_a_tap_without_activity_stays_at_zero():
    head = head_of([[1.0, 1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0, 0.0]])
    with torch.no_grad():
        head.linear.bias.zero_()
    assert head(torch.tensor([[0.0, 0.0, 0.0, 3.0, 4.0]])).tolist() == [[pytest.approx(1.4), 0.0]]


def test_a_heavier_lasso_leaves_smaller_weights():
    norms = []
    for lasso in (0.0, 0.1):
        cell = cell_of(f"head2toe[lasso={lasso},score_epochs=3]", cut=None)
        states = fit(cell, data_of(cell))
        for _ in range(3):
            next(states)
        norms.append(cell.model.head.scores().sum().item())
    assert norms[1] < 0.7 * norms[0]


def test_interrupted_shared_and_alone_are_the_same_bits_and_the_folder_gives_the_network_back(
    site, tmp_path, images
):
    grid = replace(ONE, strategies=("head2toe", "last_block"), lrs=(1e-2, 1e-1))
    said = Said()
    whole = results(run(grid, tmp_path / "whole", images, said))
    assert sum("features of block1, block2, block3, fc" in line for line in said.lines) == 1, "one pass"
    tapped = {name: found for name, found in whole.items() if "head2toe" in name}
    assert len(tapped) == 2
    one = replace(grid, strategies=("head2toe",))
    for epochs in (1, 2):  # within the scoring (one epoch of three), and after the selection
        out = tmp_path / str(epochs)
        with pytest.raises(KeyboardInterrupt):
            run(one, out, images, Interrupting(epochs))
        assert results(run(one, out, images)) == tapped
    for name in tapped:
        network = assert_gives_its_predictions(tmp_path / "whole" / name)
        assert isinstance(network.model, TappedModel)
        count = int(network.model.head.kept.sum())
        assert count == int(0.1 * sum(TAPPED.values()))
        assert network.model.kept() == tapped[name]["history"][-1]["kept"]


def test_kept_activations_of_one_network_are_not_taken_for_those_of_the_other(site, tmp_path, images):
    apart = results(run(replace(ONE, strategies=("head2toe",)), tmp_path / "a", images))
    run(replace(ONE, strategies=("last_block", "linear_probe")), tmp_path / "b", images, keep_features=True)
    again = run(replace(ONE, strategies=("head2toe",)), tmp_path / "b", images, keep_features=True)
    assert results(again) == apart
    said = Said()
    more = replace(ONE, strategies=("head2toe",), lrs=(0.05,))
    run(more, tmp_path / "b", images, said, keep_features=True)
    assert any("kept from before" in line for line in said.lines)


def plan(text, **options):
    model = small_net()
    recipe = load_strategy(text)[0].recipe(model.describe(), options.get("epochs", 4))
    stages = TappedModel(model, recipe.taps, 2).describe()
    given = {"epochs": 4, "strategy": text, "cuttable": True, "allow_random_frozen": True, **options}
    return plan_cell(recipe, stages, **given)


def test_the_cut_is_before_the_head_or_nowhere():
    assert plan("head2toe").cuts == (5, 5)
    stages = list(TappedModel(small_net(), Taps(512), 2).describe())
    fc = stages[4]
    stages[4] = replace(fc, parameters=tuple(replace(p, pretrained=False) for p in fc.parameters))
    recipe = load_strategy("head2toe")[0].recipe(stages, 4)
    found = plan_cell(recipe, stages, epochs=4, strategy="", cuttable=True, allow_random_frozen=True)
    assert found.cuts == (0, 0), "fc is random: every seed has its own"


@pytest.mark.parametrize(
    ("text", "epochs", "words"),
    [
        ("head2toe[keep=0]", 4, "keep is a share"),
        ("head2toe[keep=1.5]", 4, "keep is a share"),
        ("head2toe[size=0]", 4, "size at least 1"),
        ("head2toe[lasso=-1]", 4, "lasso a number from 0 up"),
        ("head2toe", 1, r"score_epochs=0.* at least one of the 1 epochs"),
        ("head2toe[score_epochs=4]", 4, "score_epochs is 1..3"),
    ],
)
def test_what_makes_no_sense_is_said(text, epochs, words):
    with pytest.raises(UsageError, match=words):
        load_strategy(text)[0].recipe(small_net().describe(), epochs)


def test_networks_that_have_no_such_head():
    model = small_net()
    stages = [Stage(n, p, model.roles[n]) for n, p in model.parts.items()]
    whole = StagedModel(stages, PREPROCESS, whole=model)
    with pytest.raises(UsageError, match="known in stages"):
        TappedModel(whole, Taps(512), 2)
    mlp = Stage("head", nn.Sequential(nn.Linear(16, 4), nn.ReLU(), nn.Linear(4, 2)), "head")
    with pytest.raises(UsageError, match="--head linear"):
        TappedModel(StagedModel([*stages[:-1], mlp], PREPROCESS), Taps(512), 2)

    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(8))

        def forward(self, x):
            return x.permute(0, 2, 3, 1) * self.scale

    last = [stages[0], Stage("last", Last(), "body"), Stage("head", nn.Linear(8, 2), "head")]
    with pytest.raises(UsageError, match=r"stage 'last'.* channels must come before"):
        TappedModel(StagedModel(last, PREPROCESS), Taps(512), 2)
    with pytest.raises(UsageError, match="its head reads all stages"):
        cam_layer(TappedModel(model, Taps(512), 2))


class Without:
    """Selecting where there is nothing to select from."""

    source = summary = "a test"

    def __init__(self, taps=None, **first):
        self.taps, self.first = taps, first

    def recipe(self, stages, epochs):
        return Recipe((Segment(epochs, Plan((train(),)), **self.first),), taps=self.taps)


def test_selection_and_lasso_need_taps():
    stages = small_net().describe()
    given = {"epochs": 4, "strategy": "mine", "cuttable": True, "allow_random_frozen": False}
    for strategy in (Without(keep=0.5), Without(Taps(8), keep=0.5)):
        with pytest.raises(UsageError, match="mine selects inputs"):
            plan_cell(strategy.recipe(stages, 4), stages, **given)
    with pytest.raises(UsageError, match=r"mine .*taps"):
        plan_cell(Without(penalty=GroupLasso(0.1)).recipe(stages, 4), stages, **given)


def test_taps_work_where_the_body_trains_too():
    """Gradients reach every stage through its own tap, though the last stages are cut off."""
    torch.manual_seed(0)
    model = TappedModel(small_net(), Taps(64), 2)
    for part in (model.parts["block3"], model.parts["fc"]):
        part.requires_grad_(False)
    images, labels = small_images(8)
    F.cross_entropy(model.train()(images), labels).backward()
    assert model.parts["block1"][0].weight.grad.abs().max() > 0
    assert OrderedDict(model.named_parameters()).keys() >= {"parts.head.linear.weight"}
    assert next(model.parameters()).device == CPU
