"""Before any training, complete weights name what is on a photograph: the whole input path is right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from skimage import data as photographs

from harness.backbones.staged import Normalize
from harness.backbones.timm import TimmBackbone
from harness.backbones.torchvision import TorchvisionBackbone
from harness.data.decode import resize_crop

CATS = range(281, 286)  # ImageNet's tabby, tiger cat, Persian, Siamese, Egyptian
pytestmark = pytest.mark.realdata


@pytest.mark.parametrize(
    "backbone",
    [TorchvisionBackbone("squeezenet1_1"), TimmBackbone("tf_efficientnet_lite0")],
    ids=lambda b: b.name,
)
def test_a_cat_is_named_a_cat(backbone: Any, weights_dir: Path) -> None:
    network, preprocess, covered = backbone.native(str(weights_dir / f"{backbone.model}.safetensors"))
    assert len(covered) >= len(dict(network.named_parameters()))
    image = resize_crop(photographs.chelsea(), preprocess)[None]
    network.eval()
    with torch.inference_mode():
        logits = network(Normalize(preprocess.mean, preprocess.std)(image))
    top = logits.topk(3).indices[0].tolist()
    assert top[0] in CATS, top
    wrong = network(Normalize((0.0, 0.0, 0.0), (100.0, 100.0, 100.0))(image))
    assert wrong.softmax(1).max() < logits.softmax(1).max(), "without normalisation it must be less sure"
