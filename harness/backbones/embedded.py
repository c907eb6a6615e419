"""What the networks that come with the package share: their pictures, their labels, their weight files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import nn

from harness.backbones.layout import Layout, stage_network
from harness.backbones.staged import StagedModel
from harness.backbones.weights import load_into, preprocess_from, read_weight_file
from harness.contracts import Preprocess

SIZE = 64
CLASSES = 17  # attributes that the embedded weights were trained on
PREPROCESS = Preprocess(size=SIZE, resize=SIZE, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


def embedded_file(name: str) -> Path:
    """The weights of ``name`` in the package."""
    return Path(__file__).with_name(f"{name}.safetensors")


def build_embedded(
    name: str,
    native: nn.Module,
    layout_of: Callable[[nn.Module, Preprocess], Layout],
    weights: str,
    num_classes: int,
    head: str,
) -> StagedModel:
    """``native`` in stages. ``weights``: ``embedded``, a file's path, or ``none``."""
    preprocess, covered = PREPROCESS, frozenset[str]()
    layout = layout_of(native, preprocess)
    if weights != "none":
        source = read_weight_file(
            embedded_file(name) if weights == "embedded" else Path(weights).expanduser()
        )
        preprocess = preprocess_from(source.metadata, preprocess, source.name)
        covered = load_into(native, source, layout.optional_keys())
    return stage_network(native, layout, preprocess, covered, num_classes, head)
