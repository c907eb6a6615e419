"""VGG16 in small, with the weights that come with the package: ``vgg_tiny``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn

from harness.backbones.layout import stage_network
from harness.backbones.staged import StagedModel
from harness.backbones.torchvision import vgg_layout
from harness.backbones.weights import load_into, preprocess_from, read_weight_file
from harness.contracts import Preprocess

SIZE = 64
WIDTHS = (8, 16, 32, 64, 64)  # an eighth of VGG16's
DEPTHS = (2, 2, 3, 3, 3)
HIDDEN = 256
CLASSES = 17  # attributes that the embedded weights were trained on
EMBEDDED = Path(__file__).with_name("vgg_tiny.safetensors")
PREPROCESS = Preprocess(size=SIZE, resize=SIZE, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


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
    """The embedded backbone; its weights are remade by ``python -m harness.backbones.pretrain_tiny``."""

    name: ClassVar[str] = "vgg_tiny"
    default_weights: ClassVar[str] = "embedded"

    def build(self, weights: str, num_classes: int, head: str) -> StagedModel:
        native = TinyNetwork()
        preprocess, covered = PREPROCESS, frozenset[str]()
        layout = vgg_layout(native, preprocess)
        if weights != "none":
            source = read_weight_file(EMBEDDED if weights == "embedded" else Path(weights).expanduser())
            preprocess = preprocess_from(source.metadata, preprocess, source.name)
            covered = load_into(native, source, layout.optional_keys())
        return stage_network(native, layout, preprocess, covered, num_classes, head)
