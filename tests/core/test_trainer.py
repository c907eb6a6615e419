"""Training against a loop written by hand, and against itself by other ways."""

import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import nn
from torch.nn import functional as F

from core.small import copies, make_cell, prefix_features, small_images, small_net, train_data
from harness.cell import TrainData
from harness.contracts import Plan, Recipe, Segment, train
from harness.features import BATCH, Features
from harness.plugins import load_strategy
from harness.seeding import coins, derive_seed, generator
from harness.trainer import Diverged, evaluate, fit

TRAIN, VAL = range(128), range(128, 160)
HEAD, BLOCK = load_strategy("head_only")[0], load_strategy("last_block")[0]


@pytest.fixture(scope="module")
def images():
    return small_images(192)


@pytest.fixture
def data(images):
    pixels, labels = images
    return train_data(Features(pixels.permute(0, 2, 3, 1).contiguous()), labels, TRAIN, VAL)


def at_cut(cell, data, mirror=False):
    """``data`` with the features at the cell's own cuts."""
    pixels = data.features[0].rows.permute(0, 3, 1, 2)
    model = cell.model.to(memory_format=torch.channels_last)
    return replace(data, features=prefix_features(model, pixels, sorted(set(cell.cuts)), mirror=mirror))


def trained(cell, data, resume=None):
    """(history without times, tensors after the end)"""
    history = ()
    for state in fit(cell, data, resume):
        history = state.history
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in history]
    return rows, copies(cell.model)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def by_hand(model, epochs, lr, seed, data, frozen, flip=False, weight=None):
    """A plain loop over images with the whole network; only orders and seeds are the harness's."""
    model.to(memory_format=torch.channels_last)
    live = [p for n, p in model.named_parameters() if not n.startswith(frozen)]
    for p in model.parameters():
        p.requires_grad_(False)
    for p in live:
        p.requires_grad_(True)
    optimizer = torch.optim.Adam(live, lr=lr, fused=True)
    rows, prefix = [], [m for n, m in model.parts.items() if f"parts.{n}".startswith(frozen)]
    for epoch in range(1, epochs + 1):
        model.train()
        for module in prefix:
            module.eval()
        order = data.train[torch.from_numpy(generator(seed, "order", epoch).permutation(len(data.train)))]
        heads = torch.from_numpy(coins(seed, "flip", epoch, ids=data.ids))
        total = right = 0.0
        for step in range(len(order) // BATCH):
            index = order[step * BATCH : (step + 1) * BATCH]
            pixels = data.features[0].rows[index].permute(0, 3, 1, 2)
            if flip:
                pixels = torch.where(heads[index][:, None, None, None], pixels.flip(3), pixels)
            pixels = pixels.contiguous(memory_format=torch.channels_last)
            torch.manual_seed(derive_seed(seed, "step", epoch, step))
            x = (pixels.float() / 255 - 0.5) / 0.25
            for module in model.parts.values():
                x = module(x)
            loss = F.cross_entropy(x, data.labels[index], weight=weight)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += F.cross_entropy(x.detach(), data.labels[index]).item() * BATCH  # unweighted
            right += (x.argmax(1) == data.labels[index]).sum().item()
        rows.append((total / len(order), right / len(order)))
    return rows, copies(model)


@pytest.mark.parametrize(
    ("strategy", "frozen"),
    [(HEAD, ("parts.block", "parts.pool")), (BLOCK, ("parts.block1", "parts.block2"))],
    ids=["head_only", "last_block"],
)
@pytest.mark.parametrize("flip", [False, True])
def test_a_suffix_on_cached_features_equals_the_whole_network_in_a_plain_loop(data, strategy, frozen, flip):
    """Bit for bit, since both batches have the prefix's fixed shape."""
    settings = {"epochs": 3, "batch_size": BATCH, "flip": flip}
    torch.manual_seed(0)
    cell = make_cell(small_net(), strategy, cut=None, **settings)
    assert cell.cuts == ({"HeadOnly": 4, "LastBlock": 2}[type(strategy).__name__],)
    history, tensors = trained(cell, at_cut(cell, data, mirror=flip))
    torch.manual_seed(0)
    expected, others = by_hand(small_net(), 3, 1e-2, 3, data, frozen, flip)
    assert same(tensors, others)
    assert [r["train_loss"] for r in history] == pytest.approx([loss for loss, _ in expected], rel=1e-12)
    assert [r["train_accuracy"] for r in history] == [accuracy for _, accuracy in expected]


@pytest.mark.parametrize("batch_size", [BATCH, 16])
@pytest.mark.parametrize("flip", [False, True])
def test_cached_equals_uncached(data, batch_size, flip):
    found = []
    for cut in (None, 0):
        torch.manual_seed(0)
        cell = make_cell(small_net(), BLOCK, cut=cut, batch_size=batch_size, flip=flip)
        found.append(trained(cell, at_cut(cell, data, mirror=flip)))
    (rows, tensors), (other_rows, others) = found
    if batch_size == BATCH:
        assert rows == other_rows
        assert same(tensors, others)
    else:
        # The prefix's batches have another shape than the cache's, whose sums may differ in the last bits.
        for name, tensor in tensors.items():
            torch.testing.assert_close(tensor, others[name], rtol=1e-3, atol=1e-4)


class HeadThenBlock:
    """Two epochs of head_only, then last_block."""

    source = summary = "a test"

    def recipe(self, stages, epochs):
        first, second = (strategy.recipe(stages, 2).segments[0] for strategy in (HEAD, BLOCK))
        return Recipe((first, replace(second, epochs=epochs - 2)))


@pytest.mark.parametrize("flip", [False, True])
def test_each_segment_goes_on_from_its_own_cut(data, flip):
    found = []
    for cut in (None, 0):
        torch.manual_seed(0)
        cell = make_cell(small_net(), HeadThenBlock(), cut=cut, batch_size=BATCH, flip=flip, epochs=4)
        assert cell.cuts == ((4, 2) if cut is None else (0, 0))
        found.append(trained(cell, at_cut(cell, data, mirror=flip)))
    (rows, tensors), (other_rows, others) = found
    assert rows == other_rows
    assert same(tensors, others)


def test_a_cells_own_cuts_hold_what_is_needed_to_go_on(data):
    def cell():
        torch.manual_seed(0)
        return make_cell(small_net(), HeadThenBlock(), cut=None, batch_size=BATCH, epochs=4)

    given = at_cut(cell(), data)
    whole = trained(cell(), given)
    for stop in (1, 2, 3):
        snapshot = next(s.snapshot() for s in fit(cell(), given) if s.row["epoch"] == stop)
        rows, tensors = trained(cell(), given, resume=snapshot)
        assert rows == whole[0]
        assert same(tensors, whole[1])


def test_another_seed_gives_another_result(data):
    cells = [make_cell(small_net(), HEAD, cut=4, seed=seed) for seed in (1, 1, 2)]
    shared = at_cut(cells[0], data)
    for cell in cells:
        cell.model.load_state_dict(cells[0].model.state_dict())
    first, again, other = (trained(cell, shared)[1] for cell in cells)
    assert same(first, again)
    assert not same(first, other)


@pytest.mark.parametrize("stop", [1, 2, 3])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"optimizer": "sgd", "schedule": "one-cycle"},
        {"optimizer": "adamw", "schedule": "cosine", "select": "best", "weight_decay": 0.1},
    ],
    ids=["adam", "sgd-one-cycle", "adamw-cosine-best"],
)
def test_going_on_after_any_epoch_equals_not_having_stopped(data, stop, settings):
    def cell():
        torch.manual_seed(0)
        return make_cell(small_net(), BLOCK, epochs=4, flip=True, **settings)

    whole = trained(cell(), data)
    for state in fit(cell(), data):
        if state.row["epoch"] == stop:
            snapshot = state.snapshot()
            break
    torch.manual_seed(99)
    fresh = make_cell(small_net(), BLOCK, epochs=4, flip=True, **settings)
    rows, tensors = trained(fresh, data, resume=snapshot)
    assert rows == whole[0]
    assert same(tensors, whole[1])


def test_going_on_across_a_change_of_segment(data):
    class Two:
        source = summary = "a test"

        def recipe(self, stages, epochs):
            first = HEAD.recipe(stages, 2).segments[0]
            return Recipe((first, Segment(2, Plan((train(),)), lr=1e-3)))

    def cell():
        torch.manual_seed(0)
        return make_cell(small_net(), Two(), epochs=4)

    whole = trained(cell(), data)
    for stop in (1, 2, 3):
        snapshot = next(s.snapshot() for s in fit(cell(), data) if s.row["epoch"] == stop)
        rows, tensors = trained(cell(), data, resume=snapshot)
        assert rows == whole[0]
        assert same(tensors, whole[1])


def test_a_snapshot_does_not_change_afterwards(data):
    cell = make_cell(small_net(), HEAD, epochs=3)
    states = fit(cell, data)
    snapshot = next(states).snapshot()
    kept = {n: t.clone() for n, t in snapshot.tensors.items()}
    list(states)
    assert same(dict(snapshot.tensors), kept)
    assert len(snapshot.history) == 1


def test_select_best_ends_with_the_weights_of_the_best_epoch(data):
    settings = {"epochs": 6, "lr": 0.2, "optimizer": "sgd"}
    torch.manual_seed(0)
    cell = make_cell(small_net(), BLOCK, select="best", **settings)
    seen, selected = {}, 0
    for state in fit(cell, data):
        seen[state.row["epoch"]] = copies(cell.model)
        selected = state.selected_epoch
    rows = {row["epoch"]: row for row in state.history}
    best = max(rows, key=lambda e: (rows[e]["val_accuracy"], -rows[e]["val_loss"], -e))
    assert best != 6, "this test needs a run whose last epoch isn't its best"
    assert selected == best
    assert same(copies(cell.model), seen[best])
    torch.manual_seed(0)
    last = make_cell(small_net(), BLOCK, select="last", **settings)
    *_, end = fit(last, data)
    assert end.selected_epoch == 6
    assert same(copies(last.model), seen[6])


@pytest.mark.parametrize("lr", [1e30, 1e38])
def test_a_huge_learning_rate_diverges_with_one_line(data, lr):
    with pytest.raises(Diverged, match=r"not finite in epoch \d.*smaller lr"):
        list(fit(make_cell(small_net(), BLOCK, lr=lr, epochs=3), data))


def test_class_weights_are_scikit_learns(data):
    uneven = replace(data, train=torch.cat([torch.arange(0, 96, 2), torch.arange(1, 33, 2)]))
    labels = uneven.labels[uneven.train].numpy()
    weight = compute_class_weight("balanced", classes=np.array([0, 1]), y=labels)
    assert len(labels) == BATCH
    assert weight[1] > 2 * weight[0]
    torch.manual_seed(0)
    cell = make_cell(small_net(), HEAD, epochs=2, batch_size=BATCH, class_weights="balanced")
    history, tensors = trained(cell, uneven)
    torch.manual_seed(0)
    frozen = ("parts.block", "parts.pool")
    weights = torch.tensor(weight, dtype=torch.float32)
    expected, others = by_hand(small_net(), 2, 1e-2, 3, uneven, frozen, weight=weights)
    assert same(tensors, others)
    assert history[0]["train_loss"] == pytest.approx(expected[0][0], rel=1e-12)


def test_training_figures_are_running_means_over_the_epochs_own_batches(data):
    """With a last batch that is smaller, every sample counts once."""
    uneven = replace(data, train=torch.arange(40))
    torch.manual_seed(0)
    model = small_net()
    cell = make_cell(model, HEAD, epochs=1, batch_size=16, lr=1e-2)
    logits = []
    model.parts["head"].register_forward_hook(
        lambda *a: logits.append((a[0].training, a[2].detach().clone()))
    )
    (state,) = fit(cell, uneven)
    batches = [out for training, out in logits if training]
    assert [len(b) for b in batches] == [16, 16, 8]
    order = uneven.train[torch.from_numpy(generator(3, "order", 1).permutation(40))]
    labels = uneven.labels[order]
    out = torch.cat(batches)
    assert state.row["train_accuracy"] == (out.argmax(1) == labels).double().mean().item()
    assert state.row["train_loss"] == pytest.approx(F.cross_entropy(out, labels).item(), rel=1e-6)


def test_validation_figures_are_those_of_the_network_in_eval_mode(data):
    torch.manual_seed(0)
    cell = make_cell(small_net(), BLOCK, epochs=1)
    (state,) = fit(cell, data)
    model = cell.model.eval()
    with torch.inference_mode():
        logits = model(data.features[0].rows[VAL.start : VAL.stop].permute(0, 3, 1, 2))
    labels = data.labels[VAL.start : VAL.stop]
    assert state.row["val_loss"] == pytest.approx(nn.CrossEntropyLoss()(logits, labels).item(), rel=1e-5)
    assert state.row["val_accuracy"] == (logits.argmax(1) == labels).double().mean().item()


def test_logits_of_a_row_do_not_depend_on_the_rows_asked_for(data):
    cell = make_cell(small_net(), HEAD)
    cell.model.to(memory_format=torch.channels_last)
    whole = evaluate(cell, data.features, torch.arange(150))
    for rows in (torch.arange(3), torch.tensor([149]), torch.arange(149, 60, -1)):
        assert torch.equal(evaluate(cell, data.features, rows), whole[rows])


def test_samples_outside_train_and_val_are_never_looked_at(images):
    """Poison them: nothing changes."""
    pixels, labels = images
    found = []
    for poison in (False, True):
        rows = (pixels.permute(0, 2, 3, 1).float() / 255).contiguous()
        if poison:
            rows[160:] = math.nan
            labels = labels.clone()
            labels[160:] = 10**6
        torch.manual_seed(0)
        cell = make_cell(small_net(), BLOCK)
        found.append(trained(cell, train_data(Features(rows), labels, TRAIN, VAL)))
    assert found[0][0] == found[1][0]
    assert same(found[0][1], found[1][1])


def test_the_trainer_is_given_no_test_rows():
    known = {"features", "labels", "train", "val", "ids", "num_classes", "augmented"}
    assert {f.name for f in fields(TrainData)} == known


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one-cycle"])
def test_the_history_tells_the_rate_that_the_schedule_gave_last(data, schedule):
    cell = make_cell(small_net(), HEAD, epochs=3, batch_size=32, schedule=schedule)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1e-2)
    torch_schedule = {
        "constant": lambda: torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0),
        "cosine": lambda: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 12),
        "one-cycle": lambda: torch.optim.lr_scheduler.OneCycleLR(
            optimizer, 1e-2, total_steps=12, cycle_momentum=False
        ),
    }[schedule]()
    rates = []
    for step in range(12):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step < 11:
            torch_schedule.step()
    history, _ = trained(cell, data)
    assert [row["lr"] for row in history] == pytest.approx([rates[3], rates[7], rates[11]], rel=1e-6)


def test_it_learns(data):
    torch.manual_seed(0)
    cell = make_cell(small_net(), load_strategy("full")[0], epochs=6)
    history, _ = trained(cell, data)
    assert history[-1]["val_accuracy"] >= 0.9
    assert history[-1]["train_loss"] < history[0]["train_loss"]


def test_bf16_trains_and_stays_near(data):
    found = []
    for precision in ("fp32", "bf16"):
        torch.manual_seed(0)
        found.append(trained(make_cell(small_net(), HEAD, epochs=1, precision=precision), data)[0][0])
    assert found[1]["train_loss"] == pytest.approx(found[0]["train_loss"], abs=0.05)
    assert found[1]["train_loss"] != found[0]["train_loss"]
