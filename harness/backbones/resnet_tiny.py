"""ResNet18 in small, with the weights that come with the package: ``resnet_tiny``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import nn
from torchvision.models.resnet import BasicBlock

from harness.backbones.embedded import CLASSES, build_embedded
from harness.backbones.plain_layouts import resnet_layout
from harness.backbones.staged import StagedModel

WIDTHS = (12, 24, 48, 96)  # three sixteenths of ResNet18's
BLOCKS = 2  # in each layer


class NarrowResNet(nn.Module):
    """ResNet18's topology in torchvision's key names, ``widths`` channels in layer1 to layer4.

    ``[n, 3, s, s]`` float to ``[n, classes]`` logits; layer4 sees ``s / 32`` pixels.
    """

    def __init__(self, widths: Sequence[int], classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        for number, (given, width) in enumerate(pairwise((widths[0], *widths)), 1):
            self.add_module(f"layer{number}", _layer(given, width, stride=1 if number == 1 else 2))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(widths[-1], classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for number in range(1, 5):
            x = self.get_submodule(f"layer{number}")(x)
        return self.fc(self.avgpool(x).flatten(1))


def _layer(given: int, width: int, stride: int) -> nn.Sequential:
    shortcut = (
        nn.Sequential(nn.Conv2d(given, width, 1, stride, bias=False), nn.BatchNorm2d(width))
        if stride != 1
        else None
    )
    first = BasicBlock(given, width, stride, shortcut)
    return nn.Sequential(first, *(BasicBlock(width, width) for _ in range(BLOCKS - 1)))


class TinyResNet(NarrowResNet):
    """ResNet18 at three sixteenths of its width for 64 x 64 pixels."""

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__(WIDTHS, classes)


@dataclass(frozen=True)
class ResNetTiny:
    """The embedded backbone with norm layers.

    ``python -m harness.backbones.pretrain_tiny --backbone resnet_tiny`` remakes its weights.
    """

    name: ClassVar[str] = "resnet_tiny"
    default_weights: ClassVar[str] = "embedded"

    def build(self, weights: str, num_classes: int, head: str) -> StagedModel:
        return build_embedded(self.name, TinyResNet(), resnet_layout, weights, num_classes, head)
