"""Grids, learning rates and the identity of a run."""

import re
from dataclasses import fields, replace

import numpy as np
import pytest

from harness.errors import UsageError
from harness.spec import CHOICES, DataSpec, Grid, RunSpec, TrainSpec, parse_lr

SPEC = RunSpec(
    DataSpec("celeba", "Male"), "torchvision:vgg16", "imagenet", "own", "last_k[k=1]", 1e-3, 0, TrainSpec()
)


@pytest.mark.parametrize("text", ["1e-3", "0.001", " 1e-3"])
def test_a_learning_rate(text):
    assert parse_lr(text) == (1e-3,)


@pytest.mark.parametrize(
    ("low", "high", "count"), [(1e-5, 1e-2, 7), (1e-4, 1e-2, 3), (1e-1, 1e-4, 4), (1, 2, 2)]
)
def test_a_range_is_log_spaced_and_holds_both_ends(low, high, count):
    found = parse_lr(f"{low}:{high}:{count}")
    assert found == pytest.approx(np.geomspace(low, high, count), rel=1e-5)
    assert (found[0], found[-1]) == (low, high)


def test_points_of_a_range_can_be_typed_again():
    for lr in parse_lr("1e-5:1e-2:7"):
        assert parse_lr(f"{lr:g}") == (lr,)


@pytest.mark.parametrize(
    "text",
    ["", "fast", "0", "-1e-3", "nan", "inf", "1e999", "1e-5:1e-2", "1e-5:1e-2:1", "1e-5:1e-2:2.5", "0:1:3",
     "-1:1:3", "1:nan:3", "1:inf:3", "1:2:nan", "1:2:inf", "1:2:3:4", "1e-5::7", "1,5"],
)  # fmt: skip
def test_a_bad_learning_rate_is_named(text):
    with pytest.raises(UsageError, match=re.escape(f"bad lr '{text}'")):
        parse_lr(text)


def changed_values(spec):
    """``spec`` with one field changed, for every field."""
    for f in fields(spec):
        value = getattr(spec, f.name)
        if isinstance(value, bool):
            other = not value
        elif isinstance(value, int | float):
            other = value + 1
        elif f.name in CHOICES:
            other = CHOICES[f.name][1 if value == CHOICES[f.name][0] else 0]
        else:
            other = {"limit": 5, "augment": "crop"}.get(f.name, f"{value}x")
        yield f.name, replace(spec, **{f.name: other})


def test_every_field_but_the_name_of_the_weights_is_part_of_the_identity():
    variants = {"": SPEC}
    variants |= {f"data.{n}": replace(SPEC, data=v) for n, v in changed_values(SPEC.data)}
    variants |= {f"train.{n}": replace(SPEC, train=v) for n, v in changed_values(SPEC.train)}
    for name in ("backbone", "head", "strategy", "lr", "seed"):
        value = getattr(SPEC, name)
        other = f"{value}x" if isinstance(value, str) else value + 1
        variants[name] = replace(SPEC, **{name: other})
    identities = {name: spec.identity("data", "weights") for name, spec in variants.items()}
    assert len(identities) == 5 + len(fields(DataSpec)) + len(fields(TrainSpec)) + 1
    assert len(set(identities.values())) == len(identities)


def test_the_name_of_the_weights_is_no_part_of_the_identity_but_their_digest_is():
    known = SPEC.identity("data", "weights")
    assert replace(SPEC, weights="vgg16.safetensors").identity("data", "weights") == known
    assert SPEC.identity("data", "other") != known
    assert SPEC.identity("other", "weights") != known


def test_the_identity_is_ten_hex_digits_and_ends_the_folder_name():
    identity = SPEC.identity("data", "weights")
    assert re.fullmatch(r"[0-9a-f]{10}", identity)
    assert SPEC.folder_name(identity) == f"celeba-Male_vgg16_last_k-k=1_lr0.001_s0_{identity}"


@pytest.mark.parametrize("strategy", ["last_k[k=1]", "a/b", "..", "x y", "nul\0"])
def test_folder_names_are_safe_to_use(strategy):
    name = replace(SPEC, strategy=strategy, data=DataSpec("table", "a/../b c")).folder_name("0123456789")
    assert re.fullmatch(r"[A-Za-z0-9._=,+-]+", name)
    assert not name.startswith(".")


def test_a_range_of_so_many_rates_that_they_fill_the_memory_is_refused_at_once():
    assert len(parse_lr("1e-5:1e-2:10000")) == 10_000
    for count in ("10001", "1e9", "1e300"):
        with pytest.raises(UsageError, match="at most 10000 rates"):
            parse_lr(f"1:2:{count}")


def test_folder_names_fit_every_file_system_and_still_end_in_the_identity():
    long = replace(SPEC, strategy="s" * 300, backbone="b" * 300, data=DataSpec("table", "\u00fc" * 300))
    name = long.folder_name("0123456789")
    assert len(name.encode()) == 200  # of the 255 bytes; the rest is for what temporary files add
    assert name.endswith("_0123456789")
    other = replace(long, strategy="s" * 300 + "t").folder_name("9876543210")
    assert other != name
    short = replace(SPEC, strategy="s" * 150)  # celeba-Male_vgg16_..._lr0.001_s0_0123456789: nothing is cut
    assert "_s0_" in short.folder_name("0123456789")


def test_cells_come_in_the_order_given_and_once_only():
    grid = Grid(strategies=("b", "a", "b"), lrs=(1e-3, 1e-4, 1e-3), seeds=(1, 0))
    assert [cell[2:] for cell in grid.cells()] == [
        ("b", 1e-3, 1), ("b", 1e-3, 0), ("b", 1e-4, 1), ("b", 1e-4, 0),
        ("a", 1e-3, 1), ("a", 1e-3, 0), ("a", 1e-4, 1), ("a", 1e-4, 0),
    ]  # fmt: skip


def test_a_grid_crosses_backbones_and_heads_too():
    grid = Grid(backbones=("x", "y"), heads=("own", "linear"))
    assert [cell[:2] for cell in grid.cells()] == [
        ("x", "own"), ("x", "linear"), ("y", "own"), ("y", "linear"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("select", "bset"),
        ("precision", "fp16"),
        ("class_weights", "balance"),
        ("epochs", 0),
        ("epochs", "ten"),
        ("epochs", 2.5),
        ("flip", 1),
        ("weight_decay", -0.1),
        ("batch_size", True),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(field, value):
    with pytest.raises(UsageError, match=field.replace("_", ".")):
        TrainSpec(**{field: value})


@pytest.mark.parametrize("lr", [0.0, -1.0, float("nan"), float("inf")])
def test_a_grid_refuses_what_is_no_learning_rate(lr):
    with pytest.raises(UsageError, match="bad lr"):
        Grid(lrs=(1e-3, lr))
