"""Networks that are cut by their traced graph: the fold over the stages is their own forward pass."""

import copy
import re
import warnings

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from core.small import CPU, PREPROCESS, copies, make_cell, train_data
from harness.backbones.graph_cut import cut_graph
from harness.backbones.layout import replace_last, stage_network, whole_layout
from harness.backbones.timm import TimmBackbone
from harness.backbones.torchvision import TorchvisionBackbone
from harness.features import Features
from harness.plugins import load_strategy
from harness.trainer import fit

SMALL = [
    (TorchvisionBackbone, "shufflenet_v2_x0_5", "stem stage2 stage3 stage4 conv5_0 pool head"),
    (
        TorchvisionBackbone,
        "mnasnet0_5",
        "stem layers_8 layers_9 layers_10 layers_11 layers_12 layers_13 layers_14",
    ),
    (TimmBackbone, "test_convnext", "stem stages_0 stages_1 stages_2 stages_3 head"),
    (TimmBackbone, "test_byobnet", "stem stages_0 stages_1 stages_2 stages_3 head"),
    (TimmBackbone, "levit_128s", "stem stages_0 stages_1 stages_2 pool head"),  # with two heads
    (TimmBackbone, "vit_tiny_patch16_224", "patch_embed blocks_0 blocks_1 blocks_2"),
]


def built(kind, name):
    """(model in stages, the native network with the same weights)"""
    torch.manual_seed(0)
    model = kind(name).build("none", 3, "own")
    torch.manual_seed(0)
    native, preprocess, _ = kind(name).native("none")
    layout = whole_layout(native)
    for last in (
        (layout.last, *layout.beside) if name != "levit_128s" else ("head.linear", "head_dist.linear")
    ):
        replace_last(native, last, 3)
    return model.eval(), native.eval(), preprocess


def pixels(size, count=2):
    draw = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=draw)


@pytest.mark.parametrize(("kind", "name", "stages"), SMALL, ids=[name for _, name, _ in SMALL])
def test_any_cut_gives_what_the_network_gives(kind, name, stages):
    model, native, preprocess = built(kind, name)
    assert model.cuttable
    assert " ".join(model.stage_names).startswith(stages)
    assert model.roles[model.stage_names[-1]] == "head"
    images = pixels(preprocess.size)
    with torch.no_grad():
        expected = native(model.normalize(images))
        for cut in range(1, len(model.stage_names)):
            middle = model.section(0, cut)(images)
            assert torch.equal(model.section(cut, len(model.stage_names))(middle), expected), cut
    assert {id(p) for p in model.parts.parameters()} <= {id(p) for p in model.parameters()}
    assert sum(p.numel() for p in model.parts.parameters()) == sum(p.numel() for p in native.parameters())


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x):
        return x + F.relu(self.norm(self.conv(x)))


class Net(nn.Module):
    """A stem, two residual blocks, pooling as a function, a classifier, dropout, a head."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=4)
        self.blocks = nn.ModuleList([Residual(8), Residual(8)])
        self.fc = nn.Linear(8, 8)
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(8, 10)

    def forward(self, x, scale=None):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        x = self.fc(x.mean((2, 3))).relu()
        return self.head(self.drop(x))


def test_classifiers_beside_one_another_are_all_replaced():
    """A network whose answer is the mean of two heads, and one that has them on its way."""

    class Two(Net):
        def __init__(self, on_the_way=False):
            super().__init__()
            self.second, self.on_the_way = nn.Linear(8, 10), on_the_way

        def forward(self, x):
            x = self.stem(x)
            early = self.second(x.mean((2, 3))) if self.on_the_way else None
            for block in self.blocks:
                x = block(x)
            x = self.fc(x.mean((2, 3))).relu()
            return (self.head(x) + (early if self.on_the_way else self.second(x))) / 2

    for native in (Two(), Two(on_the_way=True)):
        layout = whole_layout(native, "head", "second")
        model = stage_network(native, layout, PREPROCESS, frozenset(), 2, "own")
        assert model(pixels(32)).shape == (2, 2)
        heads = [name for name, role in model.roles.items() if role == "head"]
        assert model.cuttable == (not native.on_the_way)
        assert heads == (["head", "second"] if native.on_the_way else ["head"])
        assert {n.split(".")[0] for n, _ in model.tensors() if n.split(".")[0] in heads} == set(heads)


def staged(native):
    return stage_network(native, whole_layout(native, "head"), PREPROCESS, frozenset(), 2, "own")


def test_names_and_roles():
    model = staged(Net())
    assert model.roles == {
        "stem": "body", "blocks_0": "body", "blocks_1": "body",
        "pool": "neck", "fc": "classifier", "head": "head",
    }  # fmt: skip


def test_a_copy_trains_what_the_strategy_says_and_nothing_else():
    torch.manual_seed(3)
    model = staged(Net())
    model.pretrained = frozenset(n for n, _ in model.tensors() if not n.startswith("head."))
    before, images = copies(model), pixels(32, 64)
    labels = torch.arange(64) % 2
    data = train_data(Features(images.permute(0, 2, 3, 1).contiguous()), labels, range(48), range(48, 64))
    cell = make_cell(copy.deepcopy(model), load_strategy("last_block")[0], cut=0, epochs=1)
    list(fit(cell, data))
    after = copies(cell.model)
    moved = {n.split(".")[0] for n in after if not torch.equal(after[n], before[n])}
    assert moved == {"blocks_1", "fc", "head"}
    assert all(torch.equal(t, before[n]) for n, t in copies(model).items()), "the original stays"
    assert cell.device == CPU


class Forked(Net):
    """Data decide which way it goes."""

    def forward(self, x):
        return super().forward(x if x.mean() > 0 else -x)


class Functional(Net):
    """Dropout as a function: the trace would fix its mode."""

    def forward(self, x):
        return F.dropout(super().forward(x), 0.5, training=self.training)


class Tied(Net):
    """Two stages hold one weight."""

    def __init__(self):
        super().__init__()
        self.blocks[1].conv.weight = self.blocks[0].conv.weight


class Spare(Net):
    """It holds a layer that its forward pass never uses."""

    def __init__(self):
        super().__init__()
        self.auxiliary = nn.Linear(8, 2)


@pytest.mark.parametrize("kind", [Forked, Functional, Tied, Spare])
def test_what_cannot_be_cut_exactly_runs_as_a_whole(kind):
    native = kind()
    replace_last(native, "head", 2)
    assert cut_graph(native, ("head",), 32) is None
    model = staged(kind())
    assert not model.cuttable
    assert model(pixels(32)).shape == (2, 2)


def test_auxiliary_classifiers_are_left_out():
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        models = [TorchvisionBackbone(n).build("none", 2, "own") for n in ("googlenet", "inception_v3")]
    assert [m.cuttable for m in models] == [True, True]
    assert not any("aux" in n.lower() for m in models for n, _ in m.tensors())


def smallest_by_family():
    """One small network of each of timm's families."""
    families = timm.models._registry._module_to_models
    marks = (
        "test_",
        "atto",
        "femto",
        "pico",
        "nano",
        "xx",
        "tiny",
        "_t0",
        "mini",
        "xs",
        "s0",
        "b0",
        "small",
        "18",
        "26",
    )

    def size(name):
        rank = next((i for i, mark in enumerate(marks) if mark in name), len(marks))
        return rank, len(name), name

    return {family: min(names, key=size) for family, names in sorted(families.items())}


@pytest.mark.slow
def test_the_families_of_timm(capsys):
    """At least 60 can be cut and 90 have stages; each cut was compared with the network when it was made."""
    cut, known = [], []
    for family, name in smallest_by_family().items():
        torch.manual_seed(0)
        try:
            model = TimmBackbone(name).build("none", 2, "own")
        except Exception as error:
            with capsys.disabled():
                print(f"\n{family} {name}: {type(error).__name__} {error}")
            continue
        bodies = [s for s in model.stage_names if model.roles[s] == "body"]
        known += [family] if len(bodies) > 1 else []
        cut += [family] if model.cuttable else []
    with capsys.disabled():
        print(f"\ntimm {timm.__version__}: {len(cut)} families cut, {len(known)} in stages")
    assert len(cut) >= 60
    assert len(known) >= 90


def torchvision_families():
    """By the class of the network and, where one class has several versions, by version: the smallest."""
    models, found = torchvision.models, {}
    for name in TorchvisionBackbone.names():
        module = models.get_model_builder(name).__module__
        version = re.match(r"[a-z]+(_v\d|_[xy]_|next|net)?", name)[0] + "_bn" * name.endswith("_bn")
        found.setdefault((module, version), []).append(name)
    return [
        min(names, key=lambda n: models.get_model_weights(n).DEFAULT.meta["num_params"])
        for names in found.values()
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", TorchvisionBackbone.names())
def test_every_network_of_torchvision_is_cut(name):
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = TorchvisionBackbone(name).build("none", 2, "own")
    assert model.cuttable
    roles = list(model.roles.values())
    assert roles.count("body") >= 3
    assert roles.index("head") == len(roles) - 1
    stages = model.describe()
    assert sorted(p.name for s in stages for p in s.parameters) == sorted(
        n for n, _ in model.parts.named_parameters()
    )
    first = next(i for i, s in enumerate(stages) if s.parameters)
    assert stages[first].role == "body", "what comes before the first body stage has no parameters"


@pytest.mark.slow
@pytest.mark.parametrize("name", torchvision_families())
def test_the_families_of_torchvision_are_cut_exactly(name):
    """On real numbers, at every boundary of stages, against torchvision's own forward pass."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # googlenet's and inception's initialisation
        model, native, preprocess = built(TorchvisionBackbone, name)
    assert model.cuttable
    images = pixels(preprocess.size, 1)
    with torch.no_grad():
        expected = native(model.normalize(images))
        x, last = images, len(model.stage_names)
        for index in range(last):
            x = model.section(index, index + 1)(x)
            if index + 1 < last:
                assert torch.equal(model.section(index + 1, last)(x), expected), index
    assert torch.equal(x, expected)
    assert expected.std() > 0
