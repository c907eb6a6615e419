"""Strategies of several parts: what trains in which epoch, at which learning rate, at which step."""

import math

import pytest

from core.watch import STAGES, cell_of, watch
from harness.contracts import OneCycle
from harness.epoch import lr_factor
from harness.errors import UsageError
from harness.plugins import load_strategy
from harness.schedules import schedule

ALL = set(STAGES)
TOP = {"fc", "head"}
LR = 1e-3


def rates(name, epochs, **settings):
    """Stage -> learning rate, of each epoch; what trains is also what moves."""
    seen = watch(cell_of(name, epochs=epochs, lr=LR, **settings))
    for epoch in seen:
        assert epoch.stages == {n.split(".")[0] for n in epoch.rates}
    return [{s: pytest.approx(r, rel=1e-9) for s, r in epoch.by_stage().items()} for epoch in seen]


def at(rate, stages=ALL):
    return dict.fromkeys(stages, rate)


def test_freeze_unfreeze():
    assert rates("freeze_unfreeze[at=2]", 3) == [at(LR, TOP), at(LR, TOP), at(LR)]


@pytest.mark.parametrize(
    "name", ["freeze_unfreeze[at=1,train_norm=true]", "backbone_finetuning[at=1,train_norm=true]"]
)
def test_norm_layers_train_from_the_start_on_request(name):
    first, second = watch(cell_of(name, epochs=2, lr=LR))
    norms = {f"{layer}.{part}" for layer in ("block1.1", "block3.1") for part in ("weight", "bias")}
    assert {n for n in first.rates if n.startswith("block")} == norms
    assert norms | {"block1.1.running_mean"} <= first.moved
    assert {second.rates[n] for n in norms} == {LR}
    assert second.stages == ALL


@pytest.mark.parametrize(
    ("name", "probe", "lr_ft"),
    [("lp_ft", 2, LR), ("lp_ft[lr_ft=1e-5]", 2, 1e-5), ("lp_ft[lr_ft=2e-4,probe_epochs=3]", 3, 2e-4)],
)
def test_lp_ft(name, probe, lr_ft):
    assert rates(name, 4) == [at(LR, {"head"})] * probe + [at(lr_ft)] * (4 - probe)
    recipe = cell_of(name).recipe
    assert [s.mode for s in recipe.segments] == ["eval", "follow"]
    assert [s.fresh_optimizer for s in recipe.segments] == [False, True]
    assert load_strategy(load_strategy(name)[2])[0] == load_strategy(name)[0]


@pytest.mark.parametrize(
    ("name", "epochs", "shares"),
    [
        ("backbone_finetuning[at=1]", 7, [None, 0.1, 0.2, 0.4, 0.8, 1, 1]),
        ("backbone_finetuning[at=0]", 2, [0.1, 0.2]),
        ("backbone_finetuning", 5, [None, None, 0.1, 0.2, 0.4]),  # half of 5, rounded down
        ("backbone_finetuning", 1, [0.1]),
    ],
)
def test_backbone_finetuning(name, epochs, shares):
    body = ALL - TOP
    expected = [at(LR, TOP) | (at(LR * share, body) if share else {}) for share in shares]
    assert rates(name, epochs) == expected


def test_backbone_finetuning_waits_ten_epochs_at_most():
    stages = cell_of("full").model.describe()
    segments = load_strategy("backbone_finetuning")[0].recipe(stages, 40).segments
    assert [s.epochs for s in segments] == [10, 1, 1, 1, 1, 26]


def triangle(step, steps):
    """Howard & Ruder 2018, equation 3, for steps of which a tenth is whole."""
    cut = steps * 0.1
    p = step / cut if step < cut else 1 - (step - cut) / (cut * (1 / 0.1 - 1))
    return (1 + p * (32 - 1)) / 32


@pytest.mark.parametrize("steps", [10, 100, 370])
def test_the_slanted_triangle_is_the_papers(steps):
    factor = schedule("slanted-triangular", steps)
    assert [factor(s) for s in range(steps)] == pytest.approx(
        [triangle(s, steps) for s in range(steps)], rel=1e-9
    )
    assert (factor(0), factor(steps // 10), factor(steps)) == (1 / 32, 1.0, 1 / 32)


@pytest.mark.parametrize("steps", range(1, 40))
def test_the_slanted_triangle_stays_between_its_ends(steps):
    factors = [schedule("slanted-triangular", steps)(s) for s in range(steps)]
    assert min(factors) >= 1 / 32
    assert max(factors) == 1.0


def test_gradual_unfreeze_goes_down_a_stage_an_epoch_under_one_triangle():
    top = [STAGES[-n:] for n in (1, 2, 3, 4, 5, 5, 5, 5, 5, 5)]
    last = [LR * triangle(2 * epoch + 1, 20) for epoch in range(10)]  # the second of two steps
    found = rates("gradual_unfreeze", 10, schedule="cosine")
    assert found == [at(rate, stages) for rate, stages in zip(last, top, strict=True)]


def test_gradual_unfreeze_by_more_stages_with_discriminative_rates():
    cell = cell_of("gradual_unfreeze[per_epoch=2,factor=2.6]", epochs=5)
    assert cell.recipe.schedule == "slanted-triangular"
    assert [s.epochs for s in cell.recipe.segments] == [1, 1, 3]
    whole = {s: 2.6 ** (i - 4) for i, s in enumerate(STAGES)}
    for kept, assigned in zip((2, 4, 5), cell.assigned, strict=True):
        assert {n: s for n, s in assigned.items() if s is not None} == {
            n: pytest.approx(whole[n.split(".")[0]]) for n in assigned if n.split(".")[0] in STAGES[-kept:]
        }


def fastai(share, rise, div, div_final=1e5):
    """fastai's combined_cos(rise, 1 / div, 1, 1 / div_final)."""

    def cosine(start, end, at):
        return start + (1 + math.cos(math.pi * (1 - at))) * (end - start) / 2

    if share < rise:
        return cosine(1 / div, 1, share / rise)
    return cosine(1, 1 / div_final, (share - rise) / (1 - rise))


@pytest.mark.parametrize(("shape", "rise", "div"), [(OneCycle(0.99), 0.99, 25), (OneCycle(0.3, 5.0), 0.3, 5)])
def test_a_cycle_is_fastais(shape, rise, div):
    factor = schedule(shape, 50)
    assert [factor(s) for s in range(50)] == pytest.approx(
        [fastai(s / 50, rise, div) for s in range(50)], rel=1e-9
    )


def test_fine_tune_is_a_cycle_of_the_classifier_and_a_cycle_of_everything():
    first, *second = rates("fine_tune", 4, schedule="cosine")
    assert first == at(LR * fastai(1 / 2, 0.99, 25), TOP)
    # Four groups, so a hundred is three steps.
    shares = {"block1": 0.01, "block2": 100 ** (-2 / 3), "block3": 100 ** (-1 / 3), "fc": 1.0, "head": 1.0}
    for epoch, found in enumerate(second):
        factor = fastai((2 * epoch + 1) / 6, 0.3, 5)
        assert found == {stage: LR / 2 * share * factor for stage, share in shares.items()}


def test_fine_tune_trains_frozen_norm_layers_on_request():
    first, _ = watch(cell_of("fine_tune[train_norm=true]", epochs=2, lr=LR))
    factor = fastai(1 / 2, 0.99, 25)
    assert first.rates["block1.1.weight"] == pytest.approx(LR / 10 * factor)
    assert first.rates["head.linear.weight"] == pytest.approx(LR * factor)
    assert "block1.0.weight" not in first.rates


def test_a_segments_schedule_starts_anew_and_the_runs_does_not():
    cell = cell_of("fine_tune[frozen_epochs=2]", epochs=5)
    assert lr_factor(cell, 2, 10)(3) == schedule(OneCycle(0.99), 20)(13)
    assert lr_factor(cell, 3, 10)(0) == schedule(OneCycle(0.3, 5.0), 30)(0)
    cell = cell_of("freeze_unfreeze[at=2]", epochs=5, schedule="cosine")
    assert [lr_factor(cell, e, 10)(3) for e in (1, 2, 3)] == [schedule("cosine", 50)(s) for s in (3, 13, 23)]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("freeze_unfreeze[at=0]", r"1\.\.2"),
        ("freeze_unfreeze[at=3]", r"1\.\.2"),
        ("lp_ft[probe_epochs=3]", "both parts"),
        ("lp_ft[lr_ft=0.0]", "above 0"),
        ("backbone_finetuning[at=3]", r"never train in 3 epochs.*0\.\.2"),
        ("backbone_finetuning[at=-1]", r"0\.\.2"),
        ("gradual_unfreeze", "5 stages.*takes 5 epochs, not 3"),
        ("gradual_unfreeze[per_epoch=0]", "at least 1"),
        ("fine_tune[frozen_epochs=3]", r"1\.\.2"),
    ],
)
def test_epochs_that_a_strategy_cannot_fill_are_an_error(name, message):
    with pytest.raises(UsageError, match=rf"^{name.split('[')[0]}.*{message}"):
        cell_of(name, epochs=3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("freeze_unfreeze", "needs option 'at'"),
        ("lp_ft[probe_epochs=1.5]", "'1.5' is not a int"),
        ("backbone_finetuning[at=soon]", "'soon' is not a int"),
    ],
)
def test_options_are_typed_also_where_none_is_allowed(text, message):
    with pytest.raises(UsageError, match=message):
        load_strategy(text)
