"""The stages of VGG and ResNet by their modules' names, whoever built them.

Apart from torchvision's other networks, since the embedded ones need nothing else of torchvision, whose
import takes longer than to train one of them.
"""

from __future__ import annotations

from typing import Any

from harness.backbones.layout import FLATTEN, Layout, StageLayout, numbered, split_after_pooling
from harness.contracts import Preprocess

NATIVE_POOL = 7  # VGG's adaptive pooling is the identity on a 7x7 map


def vgg_layout(native: Any, preprocess: Preprocess) -> Layout:
    """VGG with or without batch norm: block1..block5, pool, fc6, fc7, head."""
    blocks = numbered("block", "body", "features", split_after_pooling(native.features))
    # The CUDA backward of adaptive pooling has no deterministic version; at the native size it is
    # the identity and can go without changing a bit.
    native_size = preprocess.size // 32 == NATIVE_POOL
    pool = (FLATTEN,) if native_size else ("avgpool", FLATTEN)
    return Layout(
        stages=(
            *blocks,
            StageLayout("pool", "neck", pool),
            StageLayout("fc6", "classifier", ("classifier.0", "classifier.1", "classifier.2")),
            StageLayout("fc7", "classifier", ("classifier.3", "classifier.4", "classifier.5")),
            StageLayout("head", "head", ("classifier.6",)),
        ),
        last="classifier.6",
    )


def resnet_layout(native: Any, preprocess: Preprocess) -> Layout:
    """ResNet: stem, layer1..layer4, pool, head."""
    return Layout(
        stages=(
            StageLayout("stem", "body", ("conv1", "bn1", "relu", "maxpool")),
            *(StageLayout(f"layer{i}", "body", (f"layer{i}",)) for i in range(1, 5)),
            StageLayout("pool", "neck", ("avgpool", FLATTEN)),
            StageLayout("head", "head", ("fc",)),
        ),
        last="fc",
    )
