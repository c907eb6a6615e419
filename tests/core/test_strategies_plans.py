"""Strategies of one plan: which parameters train, at which share of the learning rate."""

from dataclasses import replace

import pytest
import torch

from core.small import small_net
from core.watch import STAGES, cell_of, watch
from harness.backbones.torchvision import TorchvisionBackbone
from harness.errors import UsageError
from harness.freezing import assignments, prefix_stages
from harness.plugins import load_strategy

BLOCKS = tuple(f"block{i}" for i in range(1, 6))


def described(name):
    with torch.device("meta"):
        return TorchvisionBackbone(name).build("none", 2, "own").describe()


@pytest.fixture(scope="module")
def vgg16():
    return described("vgg16")


def plan(name, stages):
    """Parameter -> share of the learning rate, of a strategy that has one plan."""
    recipe = load_strategy(name)[0].recipe(stages, 10)
    assert recipe.epochs == 10
    assert recipe.plain
    (found,) = assignments(recipe, stages)
    return found


def shares(name, stages):
    """Stage -> share of the learning rate, where all of its parameters have the same."""
    found = plan(name, stages)
    by_stage = {s.name: {found[p.name] for p in s.parameters} for s in stages if s.parameters}
    return {stage: share for stage, (share,) in by_stage.items()}


def count(name, stages):
    found = plan(name, stages)
    return sum(p.numel for s in stages for p in s.parameters if found[p.name] is not None)


@pytest.mark.parametrize(
    ("block", "trained", "prefix"),
    [
        (1, 3 * 64 * 9 + 64 + 64 * 64 * 9 + 64, 0),
        (4, 256 * 512 * 9 + 512 + 2 * (512 * 512 * 9 + 512), 3),
        (5, 7_079_424, 4),
    ],
)
def test_surgical_trains_one_block_and_the_last_layer(vgg16, block, trained, prefix):
    name = f"surgical[block={block}]"
    assert shares(name, vgg16) == {
        stage: 1.0 if stage in (f"block{block}", "head") else None
        for stage in (*BLOCKS, "fc6", "fc7", "head")
    }
    assert count(name, vgg16) == trained + 8_194
    assert prefix_stages((plan(name, vgg16),), vgg16) == prefix


@pytest.mark.parametrize("block", [0, 6])
def test_surgical_says_which_blocks_there_are(vgg16, block):
    with pytest.raises(UsageError, match=rf"surgical\[block={block}\].*5 body stages.*1\.\.5"):
        load_strategy(f"surgical[block={block}]")[0].recipe(vgg16, 10)
    with pytest.raises(UsageError, match=r"surgical needs option 'block'"):
        load_strategy("surgical")


def test_two_stage_lr_slows_all_but_the_last_layer(vgg16):
    assert shares("two_stage_lr", vgg16) == dict.fromkeys((*BLOCKS, "fc6", "fc7"), 0.1) | {"head": 1.0}
    assert shares("two_stage_lr[mult=0.5]", vgg16)["fc7"] == 0.5


@pytest.mark.parametrize(("name", "share"), [("discriminative", 1 / 2.6), ("layer_decay", 0.75)])
def test_shares_of_the_learning_rate_fall_from_stage_to_stage(vgg16, name, share):
    expected, rate = {}, 1.0
    for stage in ("head", "fc7", "fc6", *reversed(BLOCKS)):
        expected[stage] = pytest.approx(rate, rel=1e-12)
        rate *= share
    assert shares(name, vgg16) == expected
    option = {"discriminative": "[factor=4]", "layer_decay": "[decay=0.25]"}[name]
    assert shares(name + option, vgg16)["block1"] == 0.25**7


def test_bitfit_trains_biases_and_the_head(vgg16):
    found = plan("bitfit", vgg16)
    assert {n for n, share in found.items() if share is not None} == {
        n for n in found if n.endswith(".bias") or n.startswith("head.")
    }
    # Outputs of 13 convolutions and of fc6 and fc7, and the head.
    assert count("bitfit", vgg16) == 2 * 64 + 2 * 128 + 3 * 256 + 6 * 512 + 2 * 4096 + 8_194


@pytest.mark.parametrize(
    ("network", "channels", "head"),
    [
        ("vgg16_bn", 2 * 64 + 2 * 128 + 3 * 256 + 6 * 512, 8_194),
        # The stem; two blocks of two norm layers a stage, and those of the projections.
        ("resnet18", 64 + 4 * 64 + 5 * 128 + 5 * 256 + 5 * 512, 512 * 2 + 2),
    ],
)
def test_norm_only_trains_scales_and_shifts_and_the_head(network, channels, head):
    stages = described(network)
    assert count("norm_only", stages) == 2 * channels + head
    found = plan("norm_only", stages)
    norms = {p.name for s in stages for p in s.parameters if "Norm" in p.kind or p.role == "head"}
    assert {n for n, share in found.items() if share is not None} == norms


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("norm_only", "no norm layers"),
        ("l2_sp", "no pretrained weights"),
        ("l2_sp[weight=-1]", "from 0 up"),
        ("two_stage_lr[mult=0]", "above 0"),
        ("two_stage_lr[mult=-1]", "finite"),
        ("discriminative[factor=0.5]", "from 1 up"),
        ("layer_decay[decay=0]", "at most 1"),
        ("layer_decay[decay=1.5]", "at most 1"),
    ],
)
def test_what_makes_no_sense_for_a_network_or_at_all_is_an_error(vgg16, name, message):
    with pytest.raises(UsageError, match=rf"^{name.split('[')[0]}.*{message}"):
        load_strategy(name)[0].recipe(vgg16, 10)


def test_bitfit_needs_biases():
    stages = tuple(
        replace(s, parameters=tuple(p for p in s.parameters if not p.bias or p.role == "head"))
        for s in small_net().describe()
    )
    with pytest.raises(UsageError, match=r"bitfit.*no biases"):
        load_strategy("bitfit")[0].recipe(stages, 1)


def weights(*stages):
    return {
        n for n, _ in small_net().named_parameters() if n.split(".")[1] in stages and n.endswith("weight")
    }


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        ("surgical[block=2]", {"block2": 1, "head": 1}),
        ("two_stage_lr", dict.fromkeys(STAGES[:-1], 0.1) | {"head": 1}),
        (
            "layer_decay[decay=0.5]",
            {"block1": 1 / 16, "block2": 1 / 8, "block3": 1 / 4, "fc": 1 / 2, "head": 1},
        ),
        ("discriminative[factor=4]", {s: 4.0 ** (i - 4) for i, s in enumerate(STAGES)}),
        ("l2_sp", dict.fromkeys(STAGES, 1)),
    ],
)
def test_on_the_small_network_just_that_moves_at_that_rate(name, rates):
    (epoch,) = watch(cell_of(name, epochs=1, lr=1e-3))
    assert epoch.by_stage() == {s: pytest.approx(1e-3 * r) for s, r in rates.items()}
    assert epoch.stages == set(rates)
    assert {n.removeprefix("parts.") for n in weights(*rates)} <= epoch.moved


def test_biases_alone_move_and_take_the_statistics_of_their_norm_layers_along():
    (epoch,) = watch(cell_of("bitfit", epochs=1))
    assert set(epoch.rates.values()) == {1e-2}
    parameters = {n for n in epoch.moved if n.endswith((".weight", ".bias"))}
    assert parameters <= set(epoch.rates)
    assert {n for n in parameters if n.endswith("weight")} == {"head.linear.weight"}
    # A bias before a norm layer in train mode has no effect, and its gradient is rounding.
    assert {"block1.1.bias", "block2.0.bias", "block3.1.bias", "fc.0.bias"} <= parameters
    assert {"block1.1.running_mean", "block3.1.running_var"} <= epoch.moved


def test_norm_layers_and_the_head_alone_move():
    (epoch,) = watch(cell_of("norm_only", epochs=1))
    assert {n for n in epoch.moved if n.endswith((".weight", ".bias"))} == set(epoch.rates)
    assert set(epoch.rates) == {
        f"{layer}.{part}" for layer in ("block1.1", "block3.1", "head.linear") for part in ("weight", "bias")
    }
