from __future__ import annotations

import os
from pathlib import Path

import pytest


def _place(variable: str, what: str) -> Path:
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f"{variable} is not set: {what}")
    return Path(value)


@pytest.fixture
def celeba_root() -> Path:
    return _place("HARNESS_CELEBA_ROOT", "a folder of CelebA")


@pytest.fixture
def vgg16_weights() -> Path:
    return _place("HARNESS_VGG16_WEIGHTS", "a weight file of torchvision's VGG16")


@pytest.fixture
def weights_dir() -> Path:
    return _place("HARNESS_WEIGHTS_DIR", "a folder with squeezenet1_1 and tf_efficientnet_lite0 .safetensors")


@pytest.fixture
def hymenoptera_root() -> Path:
    return _place("HARNESS_HYMENOPTERA_ROOT", "the ants and bees of torchvision's tutorial")
