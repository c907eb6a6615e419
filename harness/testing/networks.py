"""Networks of a few kilobytes in the shapes that a strategy meets, and images for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from harness.backbones.staged import Stage, StagedModel
from harness.backbones.transforms import transformed
from harness.cell import TrainData
from harness.contracts import Preprocess, Recipe
from harness.features import Features

CLASSES = 2
SIZE = 16
IMAGES = 8
_WIDTH = 4
_PREPROCESS = Preprocess(SIZE, SIZE, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


@dataclass(frozen=True)
class Shape:
    """``blocks`` body stages with their kind of norm layer, ``classifiers`` stages between pool and head."""

    blocks: int
    norm: type[nn.Module] | None = None
    classifiers: int = 0


SHAPES: Mapping[str, Shape] = {
    "a network of one block": Shape(1),
    "three blocks without norm layers": Shape(3),
    "four blocks with batch norm": Shape(4, nn.BatchNorm2d),
    "three blocks with group norm and a classifier stage": Shape(3, nn.GroupNorm, 1),
    "three blocks with batch norm and a classifier stage": Shape(3, nn.BatchNorm2d, 1),
    "five blocks and two classifier stages": Shape(5, None, 2),
}


def probe_network(shape: Shape, recipe: Recipe | None = None) -> StagedModel:
    """The same network at every call, as if weights covered all of it but its head; as ``recipe`` wants it.

    Its activations are smooth, so that no parameter misses its gradient by chance.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        blocks = [Stage(f"block{n}", _block(n, shape.norm), "body") for n in range(1, shape.blocks + 1)]
        pool = Stage("pool", nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), "neck")
        classifiers = [
            Stage(f"fc{n}", nn.Sequential(nn.Linear(_WIDTH, _WIDTH), nn.GELU()), "classifier")
            for n in range(1, shape.classifiers + 1)
        ]
        head = Stage("head", nn.Linear(_WIDTH, CLASSES), "head")
        model = StagedModel([*blocks, pool, *classifiers, head], _PREPROCESS)
        model.pretrained = frozenset(name for name, _ in model.tensors() if not name.startswith("head."))
        return transformed(model, recipe.taps, recipe.adapters, CLASSES) if recipe else model


def _block(number: int, norm: type[nn.Module] | None) -> nn.Sequential:
    channels, stride = 3 if number == 1 else _WIDTH, 2 if number < 3 else 1
    layers: list[nn.Module] = [nn.Conv2d(channels, _WIDTH, 3, stride, 1, bias=norm is None)]
    if norm is nn.GroupNorm:
        layers.append(nn.GroupNorm(2, _WIDTH))
    elif norm is not None:
        layers.append(norm(_WIDTH))
    return nn.Sequential(*layers, nn.GELU())


def probe_data() -> TrainData:
    """One batch of random images."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (IMAGES, SIZE, SIZE, 3), dtype=torch.uint8, generator=generator)
    rows = torch.arange(IMAGES)
    return TrainData(
        features={0: Features(images)},
        labels=rows % CLASSES,
        train=rows,
        val=rows,
        ids=tuple(f"{row}.png" for row in range(IMAGES)),
        num_classes=CLASSES,
    )
