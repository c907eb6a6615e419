"""VGG16 at a quarter of its width: small enough for a processor, with VGG16's balance of costs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn

from harness.backbones.layout import stage_network
from harness.backbones.staged import StagedModel
from harness.backbones.torchvision import vgg_layout
from harness.backbones.weights import load_into, read_weight_file
from harness.contracts import Preprocess

SIZE = 224
WIDTHS = (16, 32, 64, 128, 128)
DEPTHS = (2, 2, 3, 3, 3)
HIDDEN = 1024
PREPROCESS = Preprocess(size=SIZE, resize=256, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


class QuarterNetwork(nn.Module):
    """VGG16's topology in torchvision's key names; float ``[n, 3, 224, 224]`` to ``[n, classes]``."""

    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width, depth in zip(WIDTHS, DEPTHS, strict=True):
            for _ in range(depth):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.Identity()
        self.classifier = nn.Sequential(
            nn.Linear(channels * (SIZE // 32) ** 2, HIDDEN),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(HIDDEN, HIDDEN),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(HIDDEN, classes),
        )
        for module in self.features:
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x).flatten(1))


@dataclass(frozen=True)
class VGGQuarter:
    """The backbone ``vgg_quarter``; nobody trained it, so its weights are a file that a benchmark draws."""

    name: ClassVar[str] = "vgg_quarter"
    default_weights: ClassVar[str] = "none"

    def build(self, weights: str, num_classes: int, head: str) -> StagedModel:
        native = QuarterNetwork()
        layout = vgg_layout(native, PREPROCESS)
        covered = frozenset[str]()
        if weights != "none":
            covered = load_into(native, read_weight_file(Path(weights)), layout.optional_keys())
        return stage_network(native, layout, PREPROCESS, covered, num_classes, head)
