"""Which modules of torchvision's networks form which stage."""

from __future__ import annotations

from typing import Any

import torchvision
from torch import nn

from harness.backbones.layout import (
    FLATTEN,
    POOL,
    Layout,
    StageLayout,
    numbered,
    split_after_pooling,
    split_at_downsampling,
    whole_layout,
)
from harness.backbones.plain_layouts import resnet_layout, vgg_layout
from harness.contracts import Preprocess

_models = torchvision.models


def torchvision_layout(native: nn.Module, preprocess: Preprocess) -> Layout:
    """The stages of one of torchvision's networks."""
    for family, layout in (
        (_models.VGG, vgg_layout),
        (_models.AlexNet, _alexnet),
        (_models.ResNet, resnet_layout),
        (_models.SqueezeNet, _squeezenet),
        (_models.MobileNetV2, _mobilenet),
        (_models.MobileNetV3, _mobilenet),
        (_models.EfficientNet, _efficientnet),
    ):
        if isinstance(native, family):
            return layout(native, preprocess)
    return whole_layout(native)


def _alexnet(native: Any, preprocess: Preprocess) -> Layout:
    return Layout(
        stages=(
            *numbered("block", "body", "features", split_after_pooling(native.features)),
            StageLayout("pool", "neck", ("avgpool", FLATTEN)),
            StageLayout("fc6", "classifier", ("classifier.0", "classifier.1", "classifier.2")),
            StageLayout("fc7", "classifier", ("classifier.3", "classifier.4", "classifier.5")),
            StageLayout("head", "head", ("classifier.6",)),
        ),
        last="classifier.6",
    )


def _squeezenet(native: Any, preprocess: Preprocess) -> Layout:
    groups = split_after_pooling(native.features)
    return Layout(
        stages=(
            *numbered("block", "body", "features", groups),
            StageLayout("head", "head", (*(f"classifier.{i}" for i in range(4)), FLATTEN)),
        ),
        last="classifier.1",
    )


def _mobilenet(native: Any, preprocess: Preprocess) -> Layout:
    last_conv = len(native.features) - 1
    groups = split_at_downsampling(list(native.features)[:last_conv])
    v3 = isinstance(native, _models.MobileNetV3)
    hidden = (StageLayout("fc", "classifier", tuple(f"classifier.{i}" for i in range(3))),) if v3 else ()
    return Layout(
        stages=(
            *numbered("stage", "body", "features", groups),
            StageLayout("conv_head", "neck", (f"features.{last_conv}",)),
            StageLayout("pool", "neck", ("avgpool" if v3 else POOL, FLATTEN)),
            *hidden,
            StageLayout("head", "head", ("classifier.3",) if v3 else ("classifier.0", "classifier.1")),
        ),
        last="classifier.3" if v3 else "classifier.1",
    )


def _efficientnet(native: Any, preprocess: Preprocess) -> Layout:
    last_conv = len(native.features) - 1
    return Layout(
        stages=(
            StageLayout("stem", "body", ("features.0",)),
            *(StageLayout(f"stage{i}", "body", (f"features.{i}",)) for i in range(1, last_conv)),
            StageLayout("conv_head", "neck", (f"features.{last_conv}",)),
            StageLayout("pool", "neck", ("avgpool", FLATTEN)),
            StageLayout("head", "head", tuple(f"classifier.{i}" for i in range(len(native.classifier)))),
        ),
        last="classifier.1",
    )
