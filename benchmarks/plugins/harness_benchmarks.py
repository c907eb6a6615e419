"""VGG16 at a quarter of its width: small enough for a processor, with VGG16's balance of costs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from harness.backbones.layout import stage_network
from harness.backbones.plain_layouts import vgg_layout
from harness.backbones.staged import StagedModel
from harness.backbones.vgg_tiny import NarrowVGG
from harness.backbones.weights import load_into, read_weight_file
from harness.contracts import Preprocess

SIZE = 224
WIDTHS = (16, 32, 64, 128, 128)
HIDDEN = 1024
PREPROCESS = Preprocess(size=SIZE, resize=256, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def quarter_network() -> NarrowVGG:
    """float ``[n, 3, 224, 224]`` to ``[n, 2]`` logits, at random initialisation."""
    return NarrowVGG(WIDTHS, HIDDEN, SIZE, classes=2)


@dataclass(frozen=True)
class VGGQuarter:
    """The backbone ``vgg_quarter``; nobody trained it, so its weights are a file that a benchmark draws."""

    name: ClassVar[str] = "vgg_quarter"
    default_weights: ClassVar[str] = "none"

    def build(self, weights: str, num_classes: int, head: str) -> StagedModel:
        native = quarter_network()
        layout = vgg_layout(native, PREPROCESS)
        covered = frozenset[str]()
        if weights != "none":
            covered = load_into(native, read_weight_file(Path(weights)), layout.optional_keys())
        return stage_network(native, layout, PREPROCESS, covered, num_classes, head)
