"""Heads trained side by side: each as if it were alone."""

from collections import OrderedDict
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from core.small import CPU, PREPROCESS, copies, make_cell, small_net, train_data
from harness.backbones.staged import Stage, StagedModel
from harness.features import Features
from harness.fused import _place_is_free, places
from harness.planner import CellPlan
from harness.plugins import load_strategy
from harness.seeding import generator
from harness.trainer import Failed, fit, fit_together

WIDTH = 37
HEAD = load_strategy("head_only")[0]
RATES = (1e-3, 3e-2, 1e-2, 3e-1)


def probe(classes=2):
    """One linear layer behind a body without parameters that train."""
    torch.manual_seed(4)
    body = Stage("body", nn.Sequential(nn.Flatten(), nn.Linear(12, WIDTH), nn.ReLU()), "body")
    head = Stage("head", nn.Sequential(OrderedDict(linear=nn.Linear(WIDTH, classes))), "head")
    model = StagedModel([body, head], PREPROCESS)
    model.pretrained = frozenset(n for n, _ in model.tensors() if n.startswith("body"))
    return model


def data(classes=2):
    draw = torch.Generator().manual_seed(3)
    labels = torch.arange(150) % classes
    rows = torch.randn(150, WIDTH, generator=draw)
    rows[:, 0] += labels
    found = train_data(Features(rows), labels, range(130), range(130, 150), classes)
    return replace(found, features={1: found.features[0]})


def cell(lr, classes=2, **settings):
    return make_cell(probe(classes), HEAD, lr=lr, cut=None, batch_size=32, epochs=3, **settings)


def together(cells, given):
    rows = {id(c): [] for c in cells}
    for state in fit_together(cells, given, [None] * len(cells), fused=True):
        if isinstance(state, Failed):
            rows[id(state.cell)].append(str(state.error))
        else:
            rows[id(state.cell)].append({k: v for k, v in state.row.items() if k != "seconds"})
    return [(rows[id(c)], copies(c.model)) for c in cells]


def same(a, b):
    return a[0] == b[0] and all(torch.equal(t, b[1][n]) for n, t in a[1].items())


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize(
    "settings",
    [{}, {"optimizer": "sgd", "schedule": "cosine"}, {"class_weights": "balanced", "weight_decay": 0.1}],
    ids=["adam", "sgd", "balanced"],
)
def test_a_cell_does_not_depend_on_the_cells_beside_it(classes, settings):
    given = data(classes)
    alone = {lr: together([cell(lr, classes, **settings)], given)[0] for lr in RATES}
    for rates in (RATES, RATES[::-1], RATES[1:3]):
        cells = [cell(lr, classes, **settings) for lr in rates]
        for lr, found in zip(rates, together(cells, given), strict=True):
            assert same(found, alone[lr]), (rates, lr)
    assert not same(alone[1e-3], alone[1e-2])


@pytest.mark.parametrize("settings", [{}, {"class_weights": "balanced", "optimizer": "adamw"}])
def test_it_trains_what_a_plain_loop_trains(settings):
    """Up to the rounding of a product of another width."""
    given = data(3)
    fused = together([cell(1e-2, 3, **settings)], given)[0]
    plain = cell(1e-2, 3, **settings)
    rows = [state.row for state in fit(plain, given)]
    for ours, theirs in zip(fused[0], rows, strict=True):
        assert ours["train_loss"] == pytest.approx(theirs["train_loss"], rel=1e-5)
        assert ours["train_accuracy"] == theirs["train_accuracy"]
        assert ours["lr"] == theirs["lr"]
    torch.testing.assert_close(fused[1], copies(plain.model), rtol=1e-4, atol=1e-5)


def test_a_step_is_that_of_a_linear_layer():
    given, one = data(), cell(0.5, optimizer="sgd")
    settings, recipe = replace(one.settings, batch_size=130, epochs=1), HEAD.recipe(one.model.describe(), 1)
    one = replace(one, settings=settings, recipe=recipe)
    before = copies(one.model)
    after = together([one], given)[0][1]
    order = given.train[torch.from_numpy(generator(one.seed, "order", 1).permutation(130))]
    weight = before["head.linear.weight"].requires_grad_()
    loss = F.cross_entropy(
        given.features[1].batch(order, CPU) @ weight.T + before["head.linear.bias"], given.labels[order]
    )
    loss.backward()
    torch.testing.assert_close(after["head.linear.weight"], weight.detach() - 0.5 * weight.grad)


def test_one_that_diverges_leaves_the_others_alone():
    given = data()
    expected = together([cell(1e-2)], given)[0]
    huge, fine = cell(1e38, optimizer="sgd"), cell(1e-2)
    fine = replace(fine, settings=replace(fine.settings, optimizer="sgd"))
    expected = together([replace(cell(1e-2), settings=fine.settings)], given)[0]
    first, second = together([huge, fine], given)
    assert any("diverged" in str(row) for row in first[0])
    assert same(second, expected)


def plan(model, strategy="head_only", cuts=None):
    made = make_cell(model, load_strategy(strategy)[0], cut=None)
    return CellPlan(made.recipe, made.assigned, cuts or made.cuts)


def test_only_a_linear_layer_alone_has_places_beside_it():
    assert places(probe(), plan(probe()), [64, 10]) == 32
    assert places(probe(10), plan(probe(10)), [64]) == 4
    assert places(probe(33), plan(probe(33)), [64]) == 1
    assert places(probe(), plan(probe(), "full"), [64]) == 1
    assert places(small_net(), plan(small_net()), [64]) == 1, "two layers and dropout"


class Scaled(nn.Linear):
    def forward(self, x):
        return 10 * super().forward(F.normalize(x))


class Normalised(nn.Sequential):
    def forward(self, x):
        return super().forward(F.normalize(x))


@pytest.mark.parametrize("kind", ["subclass", "container", "hook", "flatten", "no bias"])
def test_a_head_that_computes_anything_else_has_none(kind):
    model, plain = probe(), nn.Linear(WIDTH, 2)
    if kind == "hook":
        plain.register_forward_hook(lambda module, given, out: 2 * out)
    head = {
        "subclass": lambda: nn.Sequential(OrderedDict(linear=Scaled(WIDTH, 2))),
        "container": lambda: Normalised(OrderedDict(linear=plain)),
        "hook": lambda: nn.Sequential(OrderedDict(linear=plain)),
        "flatten": lambda: nn.Sequential(OrderedDict(flat=nn.Flatten(0, 1), linear=plain)),
        "no bias": lambda: nn.Sequential(OrderedDict(linear=nn.Linear(WIDTH, 2, bias=False))),
    }[kind]()
    model = StagedModel([Stage("body", model.parts["body"], "body"), Stage("head", head, "head")], PREPROCESS)
    model.pretrained = frozenset(n for n, _ in model.tensors() if n.startswith("body"))
    assert places(model, plan(model), [64]) == 1


def test_a_machine_whose_products_depend_on_the_place_trains_one_by_one(monkeypatch):
    def product(x, weight, bias):
        return x @ weight.T + torch.arange(64)

    _place_is_free.cache_clear()
    monkeypatch.setattr(F, "linear", product)
    assert places(probe(), plan(probe()), [64]) == 1
    _place_is_free.cache_clear()


def test_a_full_house():
    given = data()
    rates = [1e-3 * 1.2**i for i in range(32)]
    cells = [cell(lr) for lr in rates]
    found = together(cells, given)
    for i in (0, 7, 15, 23, 24, 30, 31):
        assert same(found[i], together([cell(rates[i])], given)[0]), i
