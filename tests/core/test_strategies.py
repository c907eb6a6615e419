"""What each strategy trains, counted on the networks it was defined for."""

import pytest
import torch

from core.small import small_net
from harness.backbones.timm import TimmBackbone
from harness.backbones.torchvision import TorchvisionBackbone
from harness.errors import UsageError
from harness.freezing import assignments, prefix_stages
from harness.planner import plan_cell
from harness.plugins import STRATEGIES, find, load, load_strategy

BLOCKS = tuple(f"block{i}" for i in range(1, 6))


def described(backbone):
    with torch.device("meta"):
        return backbone.build("none", 2, "own").describe()


@pytest.fixture(scope="module")
def vgg16():
    return described(TorchvisionBackbone("vgg16"))


def trained(name, stages):
    """(stages that train, number of parameters that train, stages of the frozen prefix)"""
    recipe = load_strategy(name)[0].recipe(stages, 10)
    assert recipe.epochs == 10
    (found,) = assignments(recipe, stages)
    live = [p for s in stages for p in s.parameters if found[p.name] is not None]
    assert {found[p.name] for p in live} == {1.0}
    cut = prefix_stages((found,), stages)
    return (
        tuple(dict.fromkeys(p.stage for p in live)),
        sum(p.numel for p in live),
        tuple(s.name for s in stages[:cut]),
    )


@pytest.mark.parametrize(
    ("name", "stages", "count", "prefix"),
    [
        # 25088*4096+4096 + 4096*4096+4096 + 4096*2+2
        ("head_only", ("fc6", "fc7", "head"), 119_554_050, (*BLOCKS, "pool")),
        # + 3 * (512*512*9 + 512)
        ("last_block", ("block5", "fc6", "fc7", "head"), 119_554_050 + 7_079_424, BLOCKS[:4]),
        ("last_k[k=1]", ("block5", "fc6", "fc7", "head"), 126_633_474, BLOCKS[:4]),
        # + 256*512*9+512 + 2 * (512*512*9 + 512)
        ("last_k[k=2]", ("block4", "block5", "fc6", "fc7", "head"), 126_633_474 + 5_899_776, BLOCKS[:3]),
        ("linear_probe", ("head",), 8_194, (*BLOCKS, "pool", "fc6", "fc7")),
        ("full", (*BLOCKS, "fc6", "fc7", "head"), 134_268_738, ()),
        ("scratch", (*BLOCKS, "fc6", "fc7", "head"), 134_268_738, ()),
    ],
)
def test_on_vgg16(vgg16, name, stages, count, prefix):
    assert trained(name, vgg16) == (stages, count, prefix)


@pytest.mark.parametrize(
    ("backbone", "name", "stages"),
    [
        (TorchvisionBackbone("resnet18"), "head_only", ("head",)),
        (TorchvisionBackbone("resnet18"), "last_block", ("layer4", "head")),
        (TorchvisionBackbone("mobilenet_v3_small"), "head_only", ("fc", "head")),
        (TimmBackbone("vgg16"), "head_only", ("fc6", "fc7", "head")),
        (TimmBackbone("vgg16"), "last_block", ("block5", "fc6", "fc7", "head")),
        (TimmBackbone("resnet18"), "linear_probe", ("head",)),
    ],
    ids=lambda v: getattr(v, "name", None),
)
def test_on_other_networks(backbone, name, stages):
    assert trained(name, described(backbone))[0] == stages


def test_timms_vgg16_trains_as_many_parameters_as_torchvisions():
    assert trained("head_only", described(TimmBackbone("vgg16")))[1] == 119_554_050


@pytest.mark.parametrize("k", [0, 6, -1])
def test_a_k_out_of_range_says_what_the_range_is(vgg16, k):
    with pytest.raises(UsageError, match=rf"last_k\[k={k}\].*5 body stages.*1\.\.5"):
        load_strategy(f"last_k[k={k}]")[0].recipe(vgg16, 10)


def test_all_blocks_are_the_whole_network(vgg16):
    assert trained("last_k[k=5]", vgg16)[1] == 134_268_738


def test_scratch_alone_starts_at_random():
    names = ("head_only", "last_block", "last_k", "linear_probe", "full", "scratch")
    stages = described(TorchvisionBackbone("squeezenet1_1"))
    started = {n: load_strategy(n)[0].recipe(stages, 1).init for n in names}
    assert started == {n: "random" if n == "scratch" else "pretrained" for n in names}


def test_the_linear_probe_keeps_the_network_in_eval_mode(vgg16):
    modes = {
        n: load_strategy(n)[0].recipe(vgg16, 1).segments[0].mode
        for n in ("linear_probe", "head_only", "full")
    }
    assert modes == {"linear_probe": "eval", "head_only": "follow", "full": "follow"}


def test_every_strategy_says_where_it_comes_from():
    for name in find(STRATEGIES):
        strategy = load(STRATEGIES, name, "strategy")
        assert strategy.source
        assert strategy.summary
        assert "\n" not in strategy.summary


def plan(name, stages, **options):
    strategy, _, canonical = load_strategy(name)
    given = {"epochs": 5, "cuttable": True, "allow_random_frozen": False} | options
    return plan_cell(strategy.recipe(stages, 5), stages, strategy=canonical, **given)


def test_freezing_random_layers_is_refused_unless_allowed(vgg16):
    with pytest.raises(UsageError, match=r"linear_probe.*block1, .*fc7.*--allow-random-frozen"):
        plan("linear_probe", vgg16)
    # A random prefix differs from seed to seed, so it isn't shared.
    assert plan("linear_probe", vgg16, allow_random_frozen=True).cut == 0
    assert plan("scratch", vgg16).cut == 0


def test_a_recipe_that_lasts_other_than_the_training_is_refused(vgg16):
    with pytest.raises(UsageError, match=r"plans 5 epochs, but 7"):
        plan("full", vgg16, epochs=7)


def test_a_network_that_cannot_be_cut_shares_nothing():
    stages = small_net().describe()
    assert plan("head_only", stages).cut == 4
    assert plan("head_only", stages, cuttable=False).cut == 0
