"""The contract tests for plugins: what is built in passes them, and each finds the fault planted for it."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

from core.small import Small
from harness import cell_state, freezing, plugins
from harness.backbones.staged import Stage, StagedModel
from harness.backbones.vgg_tiny import VGGTiny
from harness.contracts import Group, Plan, Preprocess, Recipe, Segment, Selector, freeze, train
from harness.data.folder import Folder
from harness.data.table import Table
from harness.errors import UsageError
from harness.testing import check_backbone, check_dataset, check_strategy

BUILT_IN = [n for n, f in plugins.find(plugins.STRATEGIES).items() if f.package == "transfer-harness"]


# --------------------------------------------------------------------------- strategies


NEEDED = {"freeze_unfreeze": "[at=2]", "surgical": "[block=2]"}


@pytest.mark.parametrize("text", [*(n + NEEDED.get(n, "") for n in BUILT_IN), "last_k[k=2]", "last_k[k=5]"])
def test_built_in_strategies(text):
    check_strategy(plugins.load_strategy(text)[0])


def recipe(*groups, **options):
    return lambda stages, epochs: Recipe((Segment(epochs, Plan(groups), **options),))


@dataclass(frozen=True)
class Given:
    """A strategy with the faults of ``answer``."""

    answer: object
    source: str = "a test"
    summary: str = "a fault"

    def recipe(self, stages, epochs):
        return self.answer(stages, epochs)


def test_a_strategy_that_moves_from_segment_to_segment():
    def in_two(stages, epochs):
        if epochs == 1:
            raise UsageError("two parts need two epochs")
        head = Segment(1, Plan((train(role="head"), freeze())), mode="eval", lr=1e-9)
        return Recipe((head, Segment(epochs - 1, Plan((Group(Selector(norm=False), 0.5), freeze())))))

    check_strategy(Given(in_two))


def unsteady():
    answers = iter(range(10**6))
    return lambda stages, epochs: recipe(Group(Selector(), 1.0 + next(answers)))(stages, epochs)


def refuses(reason):
    def answer(stages, epochs):
        raise UsageError(reason)

    return answer


def fails(stages, epochs):
    return stages[7]


ALL = Plan((train(),))
FAULTY = {
    "too short": (lambda s, e: Recipe((Segment(1, ALL),)), "for 2 epochs: the recipe lasts 1 epochs"),
    "empty": (lambda s, e: Recipe((Segment(0, ALL), Segment(e, ALL))), "segment 1 lasts 0 epochs"),
    "a backward span": (lambda s, e: Recipe((Segment(-1, ALL), Segment(e + 1, ALL))), "lasts -1 epochs"),
    "no lr": (recipe(train(), lr=0.0), r"segment 1 has the learning rate 0\.0"),
    "no init": (lambda s, e: replace(recipe(train())(s, e), init="zeros"), "init is 'zeros'"),
    "a gap": (recipe(train(role="head")), r"no group of the plan names parameter 'block1\.0\.weight'"),
    "a gap for norms": (recipe(train(norm=False)), r"batch norm.*no group of the plan names parameter"),
    "nothing trains": (recipe(freeze()), "segment 1: nothing trains"),
    "a multiplier of zero": (recipe(Group(Selector(), 0.0)), r"the multiplier of '.*' is 0\.0"),
    "uphill": (recipe(Group(Selector(), -1.0)), r"the multiplier of '.*' is -1\.0"),
    "not a number": (recipe(Group(Selector(), float("nan"))), r"the multiplier of '.*' is nan"),
    "too little": (
        recipe(Group(Selector(role="head"), 1e-30), train()),
        r"'head\.bias' trains \(multiplier 1e-30\) but didn't move",
    ),
    "unsteady": (unsteady(), "called again, gave another recipe"),
    "no recipe": (lambda s, e: ALL, "gave a Plan, not a Recipe"),
    "a fault": (fails, r"raised IndexError: .*is a UsageError"),
    "no reason": (refuses(" "), "refused without a reason"),
    "never": (refuses("only for transformers"), "refuses every network .* only for transformers"),
}


@pytest.mark.parametrize("fault", FAULTY)
def test_a_faulty_strategy_is_found_out(fault):
    answer, message = FAULTY[fault]
    with pytest.raises(AssertionError, match=message):
        check_strategy(Given(answer))


@pytest.mark.parametrize("words", [{"source": ""}, {"summary": "two\nlines"}, {"summary": None}])
def test_a_strategy_without_words_is_found_out(words):
    with pytest.raises(AssertionError, match=rf"Given\.{next(iter(words))} is .*one line of text"):
        check_strategy(Given(recipe(train()), **words))


def test_a_frozen_tensor_that_moves_is_found_out(monkeypatch):
    def careless(model, segment, assignment):
        freezing.apply_segment(model, segment, assignment)
        model.train()  # norm layers that are frozen go on counting

    monkeypatch.setattr(cell_state, "apply_segment", careless)
    with pytest.raises(
        AssertionError, match=r"batch norm.*frozen, but moved: block1\.1\.num_batches_tracked"
    ):
        check_strategy(Given(recipe(train(role="head"), freeze())))


# --------------------------------------------------------------------------- backbones


@pytest.mark.parametrize("backbone", [VGGTiny(), Small()])
def test_backbones(backbone):
    check_backbone(backbone)


def stages(classes, body=None, head=None):
    """Two blocks, pooling and a head."""
    return [
        Stage("block1", nn.Conv2d(3, 4, 3, 2, 1), "body"),
        Stage("block2", body or nn.Conv2d(4, 4, 3, 2, 1), "body"),
        Stage("pool", nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), "neck"),
        Stage("head", head or nn.Linear(4, classes), "head"),
    ]


SMALL = Preprocess(16, 16, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


class Built:
    """A backbone with the faults of ``make(classes)``."""

    name = "built"
    default_weights = "none"

    def __init__(self, make):
        self.make = make

    def build(self, weights, num_classes, head):
        return self.make(num_classes)


def made(change=lambda found: found, preprocess=SMALL, **parts):
    return lambda classes: StagedModel(change(stages(classes, **parts)), preprocess)


class Extra(StagedModel):
    def forward(self, images):
        return super().forward(images) + 1


class Whiten(nn.Module):
    """Normalises over the batch, in eval mode as well."""

    def forward(self, x):
        return x - x.mean(0)


class Dropped(nn.Module):
    def forward(self, x):
        return nn.functional.dropout(x, 0.5)


class Remembers(nn.Module):
    last = None

    def forward(self, x):
        Remembers.last = x
        return x


class Recalls(nn.Module):
    def forward(self, x):
        return x + Remembers.last.flatten(1).mean(1)[:, None, None, None]


class Pair(nn.Module):
    def forward(self, x):
        return x, x


class First(nn.Module):
    def forward(self, x):
        return x[0]


class NotANumber(nn.Module):
    def forward(self, x):
        return x / 0


def unseeded():
    layer = nn.Conv2d(4, 4, 3, 2, 1)
    layer.weight.data.copy_(torch.from_numpy(np.random.default_rng().normal(size=layer.weight.shape)))
    return layer


def with_role(role, place):
    return lambda found: [s._replace(role=role) if i == place else s for i, s in enumerate(found)]


def with_module(module, place):
    def change(found):
        return [
            s._replace(module=nn.Sequential(s.module, module)) if i == place else s
            for i, s in enumerate(found)
        ]

    return change


def remembering(found):
    return with_module(Recalls(), 1)(with_module(Remembers(), 0)(found))


def pairs_between(found):
    """Two tensors go from the first stage into the second."""
    second = found[1]._replace(module=nn.Sequential(First(), found[1].module))
    return [with_module(Pair(), 0)(found)[0], second, *found[2:]]


def pretrained(classes):
    model = made()(classes)
    model.pretrained = frozenset({"block1.weight"})
    return model


def renamed(found):
    return [s._replace(name="block1") if s.name == "block2" else s for s in found]


FAULTY_NETWORKS = {
    "one name twice": (made(renamed), "raised ValueError: two stages have one name: block1, block1"),
    "no role": (made(with_role("tail", 2)), "stage 'pool' has the role 'tail'"),
    "no head": (made(with_role("classifier", 3)), "one stage is the head, not 0"),
    "two heads": (made(with_role("head", 0)), "one stage is the head, not 2"),
    "head first": (made(lambda f: [f[3], *f[:3]]), "the head isn't the last stage: head"),
    "out of order": (made(with_role("classifier", 0)), "roles go body, neck, classifier, head; here: block1"),
    "an empty head": (made(lambda f: [*with_role("neck", 3)(f), Stage("end", nn.Identity(), "head")]),
                      "the head 'end' has no parameters"),
    "classes": (lambda classes: made()(2), r"with 3 classes: 4 images give \[4, 2\], not logits \[4, 3\]"),
    "not finite": (made(with_module(NotANumber(), 1)), "logits that aren't finite"),
    "fails": (made(body=nn.Conv2d(5, 4, 1)), "the forward pass of 4 images raised RuntimeError"),
    "at random": (made(with_module(Dropped(), 1)), "the same images give other logits the second time"),
    "by batch": (made(with_module(Whiten(), 1)), "depend on the other images of its batch"),
    "no fold": (lambda classes: Extra(stages(classes), SMALL), "don't give the network's own output"),
    "past the cut": (made(remembering), "cut before 'block2', stages one after the other"),
    "a pair": (made(pairs_between), "what goes into stage 'block2' is a tuple, not one tensor"),
    "unseeded": (lambda classes: made(body=unseeded())(classes), r"'block2\.weight' differs"),
    "pretrained": (pretrained, r"nothing is pretrained, but 'block1\.weight' is said to be"),
    "crop": (made(preprocess=replace(SMALL, resize=8)), "crops 16 px out of 8 px"),
    "mean": (made(preprocess=replace(SMALL, mean=(127.0, 127.0, 127.0))), r"preprocess\.mean"),
    "std": (made(preprocess=replace(SMALL, std=(0.0, 1.0, 1.0))), r"preprocess\.std"),
    "interpolation": (made(preprocess=replace(SMALL, interpolation="cubic")), "'cubic'"),
    "not staged": (lambda classes: nn.Linear(3, classes), "gave a Linear, not a StagedModel"),
}  # fmt: skip


def test_the_backbone_that_faults_are_planted_in_has_none():
    check_backbone(Built(made()))


@pytest.mark.parametrize("fault", FAULTY_NETWORKS)
def test_a_faulty_backbone_is_found_out(fault):
    make, message = FAULTY_NETWORKS[fault]
    with pytest.raises(AssertionError, match=message):
        check_backbone(Built(make))


def test_tensors_of_other_names_are_found_out():
    count = iter(range(10))
    make = made(lambda found: [found[0]._replace(name=f"block{10 + next(count)}"), *found[1:]])
    with pytest.raises(AssertionError, match="tensors of other names"):
        check_backbone(Built(make))


@pytest.mark.parametrize("attribute", ["name", "default_weights"])
def test_a_backbone_without_words_is_found_out(attribute):
    backbone = Built(made())
    setattr(backbone, attribute, None)
    with pytest.raises(AssertionError, match=rf"Built\.{attribute} is None"):
        check_backbone(backbone)


def test_checks_leave_the_random_numbers_alone():
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    check_strategy(plugins.load_strategy("full")[0])
    check_backbone(Built(made()))
    assert torch.equal(torch.rand(3), expected)


# --------------------------------------------------------------------------- datasets


@pytest.fixture
def listed(images):
    """A table with a group and a split for the images of the folder."""
    lines = ["path,label,group,split,round"]
    for number, path in enumerate(sorted(images.rglob("*.png"))):
        split = ("train", "val", "test")[number % 3]
        lines.append(f"{path.relative_to(images)},{path.parent.name},{number // 2},{split},{number % 2}")
    file = images / "images.csv"
    file.write_text("\n".join(lines) + "\n")
    return file


def test_datasets(images, listed):
    check_dataset(Folder(), images)
    check_dataset(Folder(), str(images))
    check_dataset(Table(), listed)
    check_dataset(Table(), listed, target="split")


class Changed:
    """Folder with a fault: ``change(table, reads so far)``."""

    name = "changed"
    default_target = None
    default_split = "stratified"
    needs_path = True

    def __init__(self, change):
        self.change = change
        self.reads = 0

    def read(self, path, *, target, missing):
        self.reads += 1
        return self.change(Folder().read(path, target=target, missing=missing), self.reads)


def field(**changes):
    """The table with ``name=function of the old value``."""
    return lambda table, _: replace(table, **{n: f(getattr(table, n)) for n, f in changes.items()})


def card(**changes):
    return lambda table, _: replace(table, card=replace(table.card, **changes))


FAULTY_TABLES = {
    "paths": (field(paths=lambda v: v[1:]), "60 ids, but 59 paths"),
    "labels": (field(labels=lambda v: v[:7]), "60 ids, but 7 labels"),
    "groups": (field(groups=lambda _: ("a",)), "60 ids, but 1 groups"),
    "official": (field(official=lambda _: ("train",) * 61), "60 ids, but 61 official"),
    "attributes": (field(attributes=lambda _: {"young": np.ones(3, np.int8)}), r"3 attributes\['young'\]"),
    "bits": (field(attributes=lambda _: {"young": np.full(60, -1)}), "'young' holds other values"),
    "ids": (field(ids=lambda v: (v[1], *v[1:])), r"the id 'grey/\d+\.png' names two samples"),
    "no file": (field(paths=lambda v: (*v[1:], "nowhere.png")), "the path 'nowhere.png' is no file"),
    "empty": (lambda t, _: t.take(np.arange(0)), "no samples"),
    "too high": (field(labels=lambda v: v + 1), "2 class names, but a label 2"),
    "below zero": (field(labels=lambda v: v - 1), "but a label -1"),
    "floats": (field(labels=lambda v: v.astype(float)), "numpy array int64"),
    "a list": (field(labels=lambda v: v.tolist()), "numpy array int64"),
    "one class": (field(class_names=lambda v: v[:1]), "1 class names"),
    "equal classes": (field(class_names=lambda v: ("grey", "grey")), "all different"),
    "splits": (field(official=lambda _: ("dev",) * 60), r"not \['dev'\]"),
    "licence": (card(license=" "), "the card lacks the licence"),
    "source of labels": (card(labels=""), "the card lacks where the labels come from"),
    "title": (card(title=""), "the card lacks a title"),
    "other order": (lambda t, n: t.take(np.arange(60)[:: 1 if n == 1 else -1]), "gives another 'ids'"),
    "other labels": (lambda t, n: replace(t, labels=t.labels if n == 1 else 1 - t.labels), "other labels"),
    "other attributes": (
        lambda t, n: replace(t, attributes={"young": np.full(60, n % 2)}),
        "other attributes",
    ),
    "no table": (lambda t, _: t.ids, "gave a tuple, not a SampleTable"),
}


@pytest.mark.parametrize("fault", FAULTY_TABLES)
def test_a_faulty_dataset_is_found_out(fault, images):
    change, message = FAULTY_TABLES[fault]
    with pytest.raises(AssertionError, match=message):
        check_dataset(Changed(change), images)


def test_the_dataset_that_faults_are_planted_in_has_none(images):
    check_dataset(Changed(lambda table, _: table), images)


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        ("name", "", r"Changed\.name is ''"),
        ("default_split", "random", "default_split is 'random'"),
        ("default_split", "official", "has no column 'official'"),
    ],
)
def test_a_wrong_attribute_of_a_dataset_is_found_out(images, attribute, value, message):
    dataset = Changed(lambda table, _: table)
    setattr(dataset, attribute, value)
    with pytest.raises(AssertionError, match=message):
        check_dataset(dataset, images)


class Agreeable(Changed):
    """Takes any path and any target."""

    def read(self, path, *, target, missing):
        return super().read(path or self.path, target=None, missing=missing)


class Abrupt(Changed):
    def read(self, path, *, target, missing):
        return super().read(path / ".", target=target, missing=missing)


def test_what_should_have_been_refused_is_found_out(images):
    dataset = Agreeable(lambda table, _: table)
    dataset.path = images
    with pytest.raises(AssertionError, match="a target that it doesn't have was accepted"):
        check_dataset(dataset, images)
    with pytest.raises(AssertionError, match="no path, which it needs, raised TypeError"):
        check_dataset(Abrupt(lambda table, _: table), images)
    with pytest.raises(AssertionError, match=r"Folder\.read\(nowhere\) raised DataError: nowhere"):
        check_dataset(Folder(), "nowhere")
