"""The contract of a backbone as tests: built-in ones pass, and each planted fault is found."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from core.small import Small
from harness import plugins
from harness.backbones.staged import Stage, StagedModel
from harness.backbones.vgg_tiny import VGGTiny
from harness.contracts import Preprocess
from harness.testing import check_backbone, check_strategy


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
