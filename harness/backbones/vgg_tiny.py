"""VGG16 in small, with the weights that come with the package: ``vgg_tiny``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from harness.backbones.embedded import CLASSES, SIZE, build_embedded
from harness.backbones.plain_layouts import vgg_layout
from harness.backbones.staged import StagedModel

WIDTHS = (8, 16, 32, 64, 64)  # an eighth of VGG16's
DEPTHS = (2, 2, 3, 3, 3)
HIDDEN = 256


class NarrowVGG(nn.Module):
    """VGG16's topology in torchvision's key names: five blocks of ``widths``, two layers of ``hidden``.

    ``[n, 3, size, size]`` float to ``[n, classes]`` logits. What is VGG's pooling to a fixed size is the
    identity here.
    """

    def __init__(self, widths: Sequence[int], hidden: int, size: int, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width, depth in zip(widths, DEPTHS, strict=True):
            for _ in range(depth):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.Identity()
        self.classifier = nn.Sequential(
            nn.Linear(channels * (size // 32) ** 2, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(hidden, classes),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


class TinyNetwork(NarrowVGG):
    """VGG16 at an eighth of its width for 64 x 64 pixels."""

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__(WIDTHS, HIDDEN, SIZE, classes)


@dataclass(frozen=True)
class VGGTiny:
    """The embedded backbone without norm layers.

    ``python -m harness.backbones.pretrain_tiny --backbone vgg_tiny`` remakes its weights.
    """

    name: ClassVar[str] = "vgg_tiny"
    default_weights: ClassVar[str] = "embedded"

    def build(self, weights: str, num_classes: int, head: str) -> StagedModel:
        return build_embedded(self.name, TinyNetwork(), vgg_layout, weights, num_classes, head)
