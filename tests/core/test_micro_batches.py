"""Memory that runs out in a step: smaller micro-batches, the same batch, the same steps."""

import gc
import json
import weakref
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from core.small import (
    Planned,
    Small,
    copies,
    image_features,
    make_cell,
    small_net,
    train_data,
    write_plugin,
)
from harness import train_cells
from harness.contracts import Plan, Segment, StartPenalty, train
from harness.features import BATCH
from harness.micro_batches import Change, MicroBatches, batch_statistics, changes
from harness.plugins import load_strategy
from harness.seeding import generator
from harness.trainer import Failed, evaluate, fit, fit_together

FULL, HEAD = load_strategy("full")[0], load_strategy("head_only")[0]
ROOM = 5  # images at a time
FEATURES = image_features(120)


def net(dropout=0.0, groups=True):
    """The small network; norm layers that look at one image at a time where ``groups``."""
    torch.manual_seed(0)
    model = small_net()
    for stage in model.parts.values():
        for name, module in list(stage.named_children()):
            if isinstance(module, nn.Dropout):
                module.p = dropout
            elif isinstance(module, nn.BatchNorm2d) and groups:
                setattr(stage, name, nn.GroupNorm(2, module.num_features))
    return model


def data():
    """101 images train, in batches of 16: the last one has 5. Three of four are of class 0."""
    _, labels = FEATURES
    labels = torch.where(torch.arange(len(labels)) % 4 == 1, labels, 0)
    return train_data(FEATURES[0], labels, range(101), range(101, 120))


def short_of_memory(cell, room=ROOM, spare=0):
    """In training more than ``room`` images don't fit, after ``spare`` batches that did all the same.

    Returns the sizes of what was tried.
    """
    seen = []

    def refuse(module, given):
        if not module.training:
            return
        seen.append(len(given[0]))
        if seen[-1] > room and len(seen) > spare:
            raise torch.OutOfMemoryError("CUDA out of memory")

    cell.model.parts["block3"].register_forward_pre_hook(refuse)
    return seen


def trained(cell, given, resume=None):
    history = [s.history for s in fit(cell, given, resume)][-1]
    return [{k: v for k, v in row.items() if k != "seconds"} for row in history], copies(cell.model)


def same(a, b):
    return a[0] == b[0] and all(torch.equal(t, b[1][n]) for n, t in a[1].items())


def by_hand(model, given, weight, pull, epochs, lr, seed):
    """Whole batches, the penalty in the loss; a plain loop but for the order."""
    model.to(memory_format=torch.channels_last)
    live = dict(model.named_parameters())
    start = {n: p.detach().clone() for n, p in live.items()}
    optimizer = torch.optim.SGD(live.values(), lr=lr, momentum=0.9)
    pixels, losses = FEATURES[0].rows, []
    for epoch in range(1, epochs + 1):
        order = given.train[torch.from_numpy(generator(seed, "order", epoch).permutation(101))]
        total = 0.0
        for index in order.split(16):
            x = (pixels[index].permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.25
            for module in model.parts.values():
                x = module(x)
            loss = F.cross_entropy(x, given.labels[index], weight=weight)
            for name, p in live.items():
                held = p.dim() > 1
                covered = not name.startswith("parts.head")
                loss = loss + held * covered * pull / 2 * (p - start[name]).square().sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += F.cross_entropy(x.detach(), given.labels[index], reduction="sum").item()
        losses.append(total / 101)
    return losses, copies(model)


@pytest.mark.parametrize("class_weights", ["none", "balanced"])
def test_the_pieces_of_a_batch_train_what_whole_batches_train_by_hand(class_weights):
    given, model = data(), net()
    model.pretrained = frozenset(n for n, _ in model.tensors() if not n.startswith("head"))
    strategy = Planned(Segment(3, Plan((train(),)), penalty=StartPenalty(0.5, 0.0)))
    settings = {"epochs": 3, "optimizer": "sgd", "class_weights": class_weights, "lr": 1e-2}
    cell = make_cell(model, strategy, **settings)
    seen = short_of_memory(cell)
    rows, tensors = trained(cell, given)
    # Three batches of 16, 8 and 4: what fits is found in the first step; the last batch's 5 are 1, 1, 1, 2.
    assert seen[:6] == [16, 8, 4, 4, 4, 4]
    assert [row["micro_batches"] for row in rows] == [[[0, 4]]] * 3
    counts = torch.bincount(given.labels[given.train])
    weight = 101 / (2 * counts.float()) if class_weights == "balanced" else None
    losses, expected = by_hand(net(), given, weight, 0.5, 3, 1e-2, 3)
    assert [row["train_loss"] for row in rows] == pytest.approx(losses, rel=1e-5)
    for name, tensor in tensors.items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-6)


def test_pieces_are_weighed_by_their_rows_not_averaged():
    """A mean of the pieces' means would be another loss: the last piece of a batch may be smaller."""
    model, given = net(), data()
    cell = make_cell(model, FULL, epochs=1, optimizer="sgd", batch_size=101, lr=1.0)
    before = copies(model)
    cell = replace(cell, micro_batches=(Change(1, 0, 3),))
    _, after = trained(cell, given)
    whole = net()
    pixels = FEATURES[0].rows[:101].permute(0, 3, 1, 2)
    F.cross_entropy(whole(pixels), given.labels[:101]).backward()
    for name, parameter in whole.parts.named_parameters():
        torch.testing.assert_close(before[name] - after[name], parameter.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rows", [1, 5, 16, 64, 101])
@pytest.mark.parametrize("count", [1, 2, 3, 8, 64])
def test_every_row_is_in_one_piece_and_none_is_empty(rows, count):
    found = MicroBatches(changes=[Change(1, 0, count)]).pieces(rows)
    assert [row for start, stop in found for row in range(start, stop)] == list(range(rows))
    sizes = [stop - start for start, stop in found]
    assert len(sizes) == min(rows, count)
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("spare", [0, 10], ids=["from the start", "in the second epoch"])
def test_the_same_pieces_from_the_same_step_give_the_same_bits(spare):
    """Dropout too; a cell that meets the end of its memory there again, or is told to begin there."""
    first = make_cell(net(0.3), FULL, epochs=3)
    short_of_memory(first, spare=spare)
    found = trained(first, data())
    at = changes(found[0])
    assert at == ([Change(1, 0, 4)] if spare == 0 else [Change(2, 3, 4)])
    again = make_cell(net(0.3), FULL, epochs=3)
    short_of_memory(again, spare=spare)
    assert same(trained(again, data()), found)
    told = replace(make_cell(net(0.3), FULL, epochs=3), micro_batches=tuple(at))
    assert same(trained(told, data()), found)
    whole = trained(make_cell(net(0.3), FULL, epochs=3), data())
    assert not same(whole, found), "dropout draws for each piece"


@pytest.mark.parametrize("stop", [1, 2])
def test_going_on_from_an_epoch_goes_on_in_its_pieces(stop):
    def cell():
        return make_cell(net(0.3), FULL, epochs=3)

    short = cell()
    seen = short_of_memory(short)
    snapshots, last = [], None
    for state in fit(short, data()):
        snapshots.append(state.snapshot())
        last = state.history
    assert seen.count(16) == 1
    whole = [{k: v for k, v in row.items() if k != "seconds"} for row in last], copies(short.model)
    assert same(trained(cell(), data(), snapshots[stop - 1]), whole)


def test_an_adaptive_strategy_looks_at_its_gradients_in_pieces():
    cell = make_cell(net(), load_strategy("auto_rgn")[0], epochs=1, optimizer="sgd")
    seen = short_of_memory(cell)
    rows, tensors = trained(cell, data())
    assert seen[:4] == [16, 8, 4, 4]
    assert rows[0]["micro_batches"] == [[0, 4]]
    others = make_cell(net(), load_strategy("auto_rgn")[0], epochs=1, optimizer="sgd")
    whole, expected = trained(others, data())
    assert rows[0]["lr_shares"] == pytest.approx(whole[0]["lr_shares"], rel=1e-4)
    for name, tensor in tensors.items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-6)


def test_where_norm_layers_take_statistics_of_a_batch_the_cell_fails_and_lets_go():
    cell, kept = make_cell(net(groups=False), FULL), []
    cell.model.parts["block1"].register_forward_hook(lambda _, __, out: kept.append(weakref.ref(out)))
    short_of_memory(cell)
    (failed,) = fit_together([cell], data(), [None])
    assert isinstance(failed, Failed)
    assert str(failed.error).startswith(
        "out of memory with 16 images at a time, and in smaller micro-batches"
    )
    assert "'block1.1'" in str(failed.error)
    assert all(p.grad is None for p in cell.model.parameters())
    gc.collect()
    assert kept
    assert not any(ref() is not None for ref in kept), "an activation of the failed step is still held"


def test_frozen_norm_layers_are_no_obstacle():
    """In eval mode their statistics are constants."""
    cell = make_cell(net(groups=False), HEAD, epochs=1)
    cell.model.parts["head"].register_forward_pre_hook(refuse_more_than(ROOM))
    rows, _ = trained(cell, data())
    assert rows[0]["micro_batches"] == [[0, 4]]


def refuse_more_than(room):
    def refuse(module, given):
        if module.training and len(given[0]) > room:
            raise torch.OutOfMemoryError("CUDA out of memory")

    return refuse


def test_a_network_that_does_not_fit_with_one_image_says_so():
    cell = make_cell(net(), FULL)
    short_of_memory(cell, room=0)
    (failed,) = fit_together([cell], data(), [None])
    assert str(failed.error).startswith("out of memory with one image at a time")


@pytest.mark.parametrize(
    ("layer", "found"),
    [
        (nn.BatchNorm2d(3), ""),
        (nn.BatchNorm2d(3).eval(), None),
        (nn.BatchNorm2d(3, track_running_stats=False).eval(), ""),
        (nn.Sequential(nn.ReLU(), nn.SyncBatchNorm(3)), "1"),
        (nn.InstanceNorm2d(3), None),
        (nn.InstanceNorm2d(3, track_running_stats=True), ""),
        (nn.GroupNorm(1, 3), None),
        (nn.LayerNorm(3), None),
    ],
)
def test_which_layers_look_at_the_whole_batch(layer, found):
    assert batch_statistics(layer) == found


def test_evaluation_keeps_its_batches_and_says_what_to_do():
    cell = make_cell(net(), FULL)
    cell.model.parts["block3"].register_forward_pre_hook(
        lambda _, given: refuse_more_than(BATCH - 1)(nn.Identity().train(), given)
    )
    with pytest.raises(Exception, match="out of memory in the evaluation: its batches of 64 images"):
        evaluate(cell, data().features, torch.arange(10))


COMMON = ("--epochs", "2", "--batch-size", "16", "--threads", "1", "--device", "cpu")


class Hungry(Small):
    """The small network, of which more than five images at a time don't fit in training."""

    name = "hungry"
    groups = True

    def build(self, weights, num_classes, head):
        model = net(0.3, self.groups)
        model.parts["head"].register_forward_pre_hook(refuse_more_than(ROOM))
        return model


class Stubborn(Hungry):
    """The same with batch norm."""

    name = "stubborn"
    groups = False


class Narrow(Small):
    """One whose frozen prefix doesn't fit."""

    name = "narrow"

    def build(self, weights, num_classes, head):
        model = net()
        model.parts["block2"].register_forward_pre_hook(
            lambda _, given: refuse_more_than(BATCH - 1)(nn.Identity().train(), given)
        )
        return model


@pytest.fixture
def hungry(tmp_path, monkeypatch, site):
    names = {n: f"core.test_micro_batches:{n.title()}" for n in ("hungry", "stubborn", "narrow")}
    monkeypatch.syspath_prepend(write_plugin(tmp_path / "more", "hungry-nets", {"harness.backbones": names}))


def records(tmp_path):
    found = [json.loads(p.read_text()) for p in (tmp_path / "runs").glob("*/result.json")]
    return {(r["spec"]["backbone"], r["spec"]["strategy_name"]): r for r in found}


@pytest.mark.usefixtures("hungry")
def test_it_is_said_recorded_shown_and_trained_again(harness, images, tmp_path):
    words = ("run", "--data", f"folder={images}", "--backbone", "hungry", *COMMON)
    status, _, errors = harness(*words, "--strategy", "full")
    assert status == 0
    assert (
        "full lr=0.001 seed=0: out of memory in epoch 1, step 0: from there on each batch of 16 is" in errors
    )
    found = records(tmp_path)["hungry", "full"]
    assert found["micro_batches"] == [{"epoch": 1, "step": 0, "pieces": 4}]
    assert "--micro-batches" not in found["command"]
    shown = harness("show", found["run"])[1]
    assert "in 4 micro-batches each, gradients added, from epoch 1, step 0" in shown
    assert harness("report", "runs", "--format", "md")[0] == 0
    assert "each batch in 4 micro-batches" in (tmp_path / "report" / "report.md").read_text()
    status, output, errors = harness("rerun", found["run"])
    assert output.splitlines()[-1].strip() == "every bit came out again"
    assert "out of memory" not in errors, "it begins as the record says"
    status, _, errors = harness(*words, "--strategy", "full", "--micro-batches", "4", "--out", "asked")
    (asked,) = (tmp_path / "asked").glob("*/result.json")
    assert "out of memory" not in errors
    assert json.loads(asked.read_text())["digests"]["checkpoint"] == found["digests"]["checkpoint"]
    assert "--micro-batches 4 " in json.loads(asked.read_text())["command"] + " "


@pytest.mark.usefixtures("hungry")
def test_what_cannot_be_cut_fails_by_name_and_the_grid_goes_on(harness, images, tmp_path):
    names = [w for n in ("stubborn", "narrow", "hungry") for w in ("--backbone", n)]
    words = ("--strategy", "full", "--strategy", "last_block")
    status, output, errors = harness("run", "--data", f"folder={images}", *names, *words, *COMMON, "--quiet")
    assert (status, "Traceback" in output + errors) == (1, False)
    found = records(tmp_path)
    assert {k: r["status"] for k, r in found.items()} == {
        ("stubborn", "full"): "failed",
        ("stubborn", "last_block"): "failed",
        ("narrow", "full"): "failed",
        ("narrow", "last_block"): "failed",
        ("hungry", "full"): "done",
        ("hungry", "last_block"): "done",
    }
    assert "'block1.1' would take other statistics" in found["stubborn", "full"]["error"]
    assert "'block3.1' would take other statistics" in found["stubborn", "last_block"]["error"]
    assert "out of memory in the pass of the frozen prefix" in found["narrow", "last_block"]["error"]
    print("out of memory: 2 cells went on in micro-batches, 4 that couldn't were marked by reason")


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize("more", [("--augment", "jitter"), ()], ids=["augmented", "heads"])
def test_cells_side_by_side_go_on_one_by_one(harness, images, tmp_path, monkeypatch, more):
    """Alone each may have enough: what it gives doesn't depend on those beside it."""
    strategy = ("--strategy", "last_block" if more else "linear_probe")
    words = ("run", "--data", f"folder={images}", "--backbone", "small", *strategy, *more, *COMMON)
    grid = ("--lr", "1e-2", "--lr", "1e-3")
    expected = {}
    for lr in ("1e-2", "1e-3"):
        harness(*words, "--lr", lr, "--out", f"alone{lr}", "--quiet")
        (file,) = (tmp_path / f"alone{lr}").glob("*/result.json")
        expected[float(lr)] = json.loads(file.read_text())["digests"]["checkpoint"]
    original = train_cells.fit_together

    def crowded(cells, data, resume, **options):
        if len(cells) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(cells, data, resume, **options)

    monkeypatch.setattr(train_cells, "fit_together", crowded)
    status, _, errors = harness(*words, *grid)
    assert (status, "going on one by one" in errors) == (0, True)
    files = [json.loads(p.read_text()) for p in (tmp_path / "runs").glob("*/result.json")]
    assert {r["spec"]["lr"]: r["digests"]["checkpoint"] for r in files} == expected
    assert all(r["micro_batches"] == [] for r in files)


def test_beside_others_a_cell_does_not_make_pieces_of_its_own():
    cells = [make_cell(net(), FULL, lr=lr) for lr in (1e-2, 1e-3)]
    short_of_memory(cells[1])
    with pytest.raises(torch.OutOfMemoryError):
        list(fit_together(cells, data(), [None, None]))
