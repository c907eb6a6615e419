"""Low-rank adapters beside convolutions: what they compute, what trains, and that everything else holds."""

import copy
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from timm.layers import StdConv2d, create_conv2d
from torch import nn

from core.grids import GRID, ONE, Interrupting, Said, results, run
from core.small import copies, image_features, make_cell, small_net, train_data
from core.test_trained import assert_gives_its_predictions
from core.watch import cell_of, watch
from harness.audit import audit
from harness.backbones.adapted import add_adapters
from harness.backbones.resnet_tiny import ResNetTiny
from harness.backbones.staged import Stage, StagedModel
from harness.backbones.timm import TimmBackbone
from harness.backbones.torchvision import TorchvisionBackbone
from harness.backbones.transforms import transformed
from harness.backbones.vgg_tiny import VGGTiny
from harness.contracts import ConvLora, Plan, Preprocess, Recipe, Segment, train
from harness.costs import CostModel
from harness.errors import UsageError
from harness.freezing import assignments, prefix_stages
from harness.plugins import load_strategy
from harness.trainer import fit

SIZE = Preprocess(16, 16, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def described(backbone, name="lora_conv"):
    """(strategy's recipe, the stages of the network that it wants)"""
    with torch.device("meta"):
        model = backbone.build("none", 2, "own")
    recipe = load_strategy(name)[0].recipe(model.describe(), 10)
    return recipe, transformed(model, recipe.taps, recipe.adapters, 2).describe()


def one_convolution(conv):
    return StagedModel(
        [Stage("block", conv, "body"), Stage("head", nn.Linear(1, 2), "head")],
        SIZE,
        frozenset({"block.weight"}),
    )


# --------------------------------------------------------------------------- what an adapter computes


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(3, 6, 3, padding=1),
        nn.Conv2d(4, 6, (3, 5), stride=2, padding=(1, 2), dilation=(1, 2), bias=False),
        nn.Conv2d(8, 12, 3, groups=4, padding="same"),
        nn.Conv2d(6, 6, 3, groups=6, padding=1, padding_mode="reflect"),
        create_conv2d(4, 6, 3, stride=2, padding="same"),
    ],
    ids=["plain", "stride and dilation", "groups", "depthwise", "timm's same padding"],
)
def test_it_is_the_convolution_with_a_low_rank_change_of_its_weight(conv):
    rank, alpha = 2, 5.0
    model = add_adapters(one_convolution(copy.deepcopy(conv)), ConvLora(rank, alpha, ("block",)))
    adapted = model.parts["block"]
    x = torch.randn(2, conv.in_channels, 11, 11, generator=torch.Generator().manual_seed(0))
    assert torch.equal(adapted(x), conv(x)), "it begins as no change"
    with torch.no_grad():
        adapted.lora_b.weight.normal_()
        change = []
        for a, b in zip(
            adapted.lora_a.weight.chunk(conv.groups), adapted.lora_b.weight.chunk(conv.groups), strict=True
        ):
            change.append(torch.einsum("or,rikl->oikl", b[:, :, 0, 0], a))
        assert max(torch.linalg.matrix_rank(c.flatten(1)) for c in change) <= rank
        merged = copy.deepcopy(conv)
        merged.weight += alpha / rank * torch.cat(change)
        torch.testing.assert_close(adapted(x), merged(x), rtol=1e-4, atol=1e-4)
        assert not torch.allclose(adapted(x), conv(x), atol=0.1)


def test_the_rank_of_a_group_is_one_that_it_can_have():
    depthwise = add_adapters(one_convolution(nn.Conv2d(6, 6, 3, groups=6)), ConvLora(8, 16, ("block",)))
    assert [tuple(p.shape) for n, p in depthwise.parts["block"].named_parameters() if "lora" in n] == [
        (6, 1, 3, 3),
        (6, 1, 1, 1),
    ]


@pytest.mark.parametrize("backbone", [VGGTiny, ResNetTiny])
def test_the_network_begins_as_what_it_was(backbone):
    torch.manual_seed(0)
    model = backbone().build("embedded", 2, "own").eval()
    before, images = copies(model), torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)
    recipe = load_strategy("lora_conv")[0].recipe(model.describe(), 1)
    adapted = transformed(copy.deepcopy(model), None, recipe.adapters, 2).eval()
    with torch.no_grad():
        assert torch.equal(adapted(images), model(images))
    after = copies(adapted)
    assert all(torch.equal(after[n], before[n]) for n in before)
    added = {n for n in after if n not in before}
    assert (
        added
        == {p.name for s in adapted.describe() for p in s.parameters if p.adapter}
        == set(adapted.adapters)
    )
    convolutions = sum(isinstance(m, nn.Conv2d) for m in model.parts.modules())
    assert len(added) == 2 * convolutions
    assert all(p.pretrained for s in adapted.describe() for p in s.parameters if p.role != "head")
    assert all(after[n].any() == n.endswith("lora_a.weight") for n in added)


# --------------------------------------------------------------------------- what trains

# Inputs and outputs of VGG16's convolutions.
VGG16 = {
    "block1": [(3, 64), (64, 64)],
    "block2": [(64, 128), (128, 128)],
    "block3": [(128, 256), (256, 256), (256, 256)],
    "block4": [(256, 512), (512, 512), (512, 512)],
    "block5": [(512, 512)] * 3,
}


@pytest.mark.parametrize(
    ("name", "rank", "blocks", "prefix"),
    [
        ("lora_conv", 8, 5, 0),
        ("lora_conv[r=4,alpha=8]", 4, 5, 0),
        ("lora_conv[blocks=1]", 8, 1, 4),
        ("lora_conv[blocks=2,r=1]", 1, 2, 3),
    ],
)
def test_on_vgg16_by_count(name, rank, blocks, prefix):
    recipe, stages = described(TorchvisionBackbone("vgg16"), name)
    (found,) = assignments(recipe, stages)
    trained = {s.name: sum(p.numel for p in s.parameters if found[p.name] is not None) for s in stages}
    expected = {
        block: sum(rank * 9 * given + rank * out for given, out in VGG16[block]) if number > 5 - blocks else 0
        for number, block in enumerate(VGG16, 1)
    }
    assert trained == expected | {"pool": 0, "fc6": 0, "fc7": 0, "head": 4096 * 2 + 2}
    assert set(found.values()) == {1.0, None}
    assert prefix_stages((found,), stages) == prefix


@pytest.mark.parametrize("backbone", [VGGTiny, ResNetTiny])
def test_adapters_and_the_head_move_at_one_rate_and_nothing_else(backbone):
    torch.manual_seed(0)
    model = backbone().build("embedded", 2, "own")
    features, labels = image_features(12, 64)
    cell = make_cell(model, load_strategy("lora_conv")[0], lr=1e-2, epochs=2, batch_size=4)
    before = copies(cell.model)
    *_, last = fit(cell, train_data(features, labels, range(8), range(8, 12)))
    now = copies(cell.model)
    moved = {n for n in now if not torch.equal(now[n], before[n])}
    head = {n for n in now if n.startswith("head.")}
    assert moved == {n for n in now if ".lora_" in n} | head, "norm statistics stand still too"
    found = audit(cell, before, cell.model.describe(), last.witness)
    assert {s: [(r.epochs, r.lr) for r in a.lr] for s, a in found.items() if a.trained} == {
        s.name: [((1, 2), 1e-2)] for s in cell.model.describe() if s.name == "head" or s.role == "body"
    }
    assert all(
        a.norm_statistics.before == a.norm_statistics.after for a in found.values() if a.norm_statistics
    )
    assert not any(a.still for a in found.values())


def test_on_the_small_network_with_dropout_and_norm_layers():
    (epoch,) = watch(cell_of("lora_conv[blocks=2]", epochs=1))
    adapters = {f"{c}.lora_{x}.weight" for c in ("block2.0", "block3.0") for x in "ab"}
    assert set(epoch.rates) == adapters | {"head.linear.weight", "head.linear.bias"}
    # In the first step the second half has a gradient and the first, times zero, hasn't.
    assert epoch.moved == set(epoch.rates)
    assert set(epoch.rates.values()) == {1e-2}


# --------------------------------------------------------------------------- what makes no sense


@pytest.mark.parametrize("name", ["lora_conv[r=0]", "lora_conv[alpha=0]", "lora_conv[alpha=-1]"])
def test_options_out_of_range(name):
    with pytest.raises(UsageError, match=r"^lora_conv: r is at least 1, alpha"):
        load_strategy(name)[0].recipe(small_net().describe(), 2)


@pytest.mark.parametrize("blocks", [0, 4])
def test_blocks_out_of_range(blocks):
    with pytest.raises(UsageError, match=rf"lora_conv\[blocks={blocks}\].*3 body stages.*1\.\.3"):
        load_strategy(f"lora_conv[blocks={blocks}]")[0].recipe(small_net().describe(), 2)


def test_a_transformer_is_refused():
    with pytest.raises(UsageError, match=r"lora_conv: 1 of the 13 body stages .* have convolutions"):
        described(TimmBackbone("vit_tiny_patch16_224"))


def test_a_convolution_of_another_kind_is_refused_by_name():
    with pytest.raises(UsageError, match=r"'block' is a StdConv2d, which isn't a plain convolution"):
        add_adapters(one_convolution(StdConv2d(3, 4, 3)), ConvLora(2, 2, ("block",)))


@pytest.mark.parametrize(
    ("stages", "message"), [(("head",), "no convolution to adapt in head"), (("blok",), "no stage 'blok'")]
)
def test_adapters_for_nothing_are_an_error(stages, message):
    with pytest.raises(UsageError, match=message):
        add_adapters(small_net(), ConvLora(2, 2, stages))


@pytest.mark.usefixtures("site")
def test_random_convolutions_are_not_frozen(harness, images):
    words = ("run", "--data", f"folder={images}", "--backbone", "small", "--weights", "other")
    status, _, errors = harness(*words, "--strategy", "lora_conv", "--epochs", "1", "--threads", "1")
    assert status == 2
    assert "would freeze layers that the weights don't cover" in errors


# --------------------------------------------------------------------------- in a grid, and afterwards


@pytest.mark.usefixtures("site")
def test_a_prefix_is_shared_with_other_strategies(tmp_path, images):
    """Adapters of the last block alone: the same activations as last_block's, computed once."""
    said = Said()
    grid = replace(GRID, strategies=("last_block", "lora_conv[blocks=1]"), lrs=(1e-2,))
    records = [outcome.record for outcome in run(grid, tmp_path / "runs", images, said)]
    assert [r["strategy"]["prefix"] for r in records] == [["block1", "block2"]] * 2
    assert len([line for line in said.lines if line.startswith("frozen prefix")]) == 1
    assert len([line for line in said.lines if "decoded" in line]) == 1
    # Two networks, one grid: cells are numbered through.
    ends = [line.split(" ")[0] for line in said.lines if "validation accuracy" in line]
    assert ends == ["[1/2]", "[2/2]"]


@pytest.mark.usefixtures("site")
def test_beside_others_and_interrupted_it_reaches_the_same_bits(tmp_path, images):
    grid = replace(GRID, strategies=("lora_conv", "head_only"), lrs=(1e-2,))
    whole = results(run(grid, tmp_path / "grid", images))
    one = replace(ONE, strategies=("lora_conv",))
    alone = results(run(one, tmp_path / "alone", images))
    with pytest.raises(KeyboardInterrupt):
        run(one, tmp_path / "again", images, Interrupting(2))
    assert results(run(one, tmp_path / "again", images)) == alone
    (folder,) = alone
    assert whole[folder] == alone[folder]


@pytest.mark.usefixtures("site")
def test_its_folder_holds_adapters_and_head_alone_and_gives_the_network_back(tmp_path, images):
    (outcome,) = run(replace(ONE, strategies=("lora_conv[r=3]",)), tmp_path / "runs", images)
    record, kept = outcome.record, load_file(outcome.folder.checkpoint)
    adapters = {f"block{i}.0.lora_{x}.weight" for i in (1, 2, 3) for x in "ab"}
    assert set(kept) == adapters | {"head.linear.weight", "head.linear.bias"}
    by_hand = 3 * (9 * (3 + 8 + 8) + 8 + 8 + 16) + 34
    assert record["strategy"]["trainable"] == sum(t.numel() for t in kept.values()) == by_hand
    assert [s["trained"] for s in record["backbone"]["stages"] if s["name"] == "block1"] == [3 * (27 + 8)]
    assert record["backbone"]["random_stages"] == ["head"]
    assert_gives_its_predictions(outcome.folder.path)


def test_show_plan_counts_adapters(harness):
    status, output, errors = harness(
        "show", "plan", "--backbone", "vgg16", "--strategy", "lora_conv[blocks=1]", "--figure", "a.svg"
    )
    assert (status, errors) == (0, "")
    row = next(line for line in output.splitlines() if line.startswith("block5"))
    added = 3 * 8 * (9 * 512 + 512)
    assert f"{7_079_424 + added:,}" in row
    assert f"{added:,}" in row
    # 14 x 14 places, over the convolutions' own 1.387.
    assert f"{1.387175 + 14 * 14 * added / 1e9:.3f}" in row
    assert "yes" in next(line for line in output.splitlines() if line.startswith("block4"))


@pytest.mark.usefixtures("site")
def test_the_plan_of_a_grid_counts_adapters(harness, images):
    words = ("run", "--data", f"folder={images}", "--backbone", "small", "--lr", "1e-3", "--threads", "1")
    status, output, errors = harness(*words, "--strategy", "full", "--strategy", "lora_conv", "--plan")
    assert (status, errors.count("Traceback")) == (0, 0)
    assert (
        "group 2 (small, head own): 1 cell\n  lora_conv[r=8,alpha=16.0] lr=0.001 seed=0\n  no frozen prefix"
        in output
    )
    model = small_net()
    plain = CostModel(model).forward(0)
    adapted = CostModel(add_adapters(small_net(), ConvLora(8, 16, ("block1", "block2", "block3")))).forward(0)
    places = {"block1": (16, 3, 8), "block2": (8, 8, 8), "block3": (4, 8, 16)}
    assert adapted - plain == sum(2 * side**2 * 8 * (9 * i + o) for side, i, o in places.values())


def test_a_plugin_may_adapt_and_train_more():
    """Adapters in the second block, the rest trained as well."""

    class Both:
        source = summary = "a test"

        def recipe(self, stages, epochs):
            return Recipe((Segment(epochs, Plan((train(),))),), adapters=ConvLora(2, 4.0, ("block2",)))

    (epoch,) = watch(make_cell(small_net(), Both(), epochs=1, batch_size=64))
    assert {"block2.0.lora_a.weight", "block2.0.lora_b.weight", "block2.0.weight", "fc.0.weight"} <= set(
        epoch.rates
    )
