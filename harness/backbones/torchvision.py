"""torchvision's classification networks in stages: ``torchvision:NAME``."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from urllib.error import URLError

import torch
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
    stage_network,
    whole_layout,
)
from harness.backbones.staged import StagedModel
from harness.backbones.weights import WeightSource, load_into, preprocess_from, read_weight_file
from harness.contracts import Preprocess
from harness.errors import UnknownName, WeightsError

_models = torchvision.models
NATIVE_POOL = 7  # VGG's adaptive pooling is the identity on a 7x7 map


@dataclass(frozen=True)
class TorchvisionBackbone:
    """A network of torchvision by its builder's name, e.g. ``TorchvisionBackbone("vgg16")``."""

    model: str
    default_weights: ClassVar[str] = "imagenet"

    def __post_init__(self) -> None:
        if self.model not in self.names():
            raise UnknownName("torchvision backbone", self.model, self.names())

    @property
    def name(self) -> str:
        return f"torchvision:{self.model}"

    @staticmethod
    def names() -> tuple[str, ...]:
        """The networks that are offered."""
        return tuple(_models.list_models(module=_models))

    def build(self, weights: str, num_classes: int, head: str) -> StagedModel:
        native, preprocess, covered = self.native(weights)
        _drop_auxiliary(native)
        layout = _layout(native, preprocess)
        return stage_network(native, layout, preprocess, covered, num_classes, head)

    def native(self, weights: str) -> tuple[nn.Module, Preprocess, frozenset[str]]:
        """torchvision's own network with its 1,000 classes, its preprocessing, the keys the weights cover."""
        native = _models.get_model(self.model, weights=None)
        default = _preprocess(self._enum("imagenet"))
        if weights == "none":
            return native, default, frozenset()
        if hasattr(native, "transform_input"):  # GoogLeNet's and Inception's weights expect it
            native.transform_input = True
        path = Path(weights).expanduser()
        if weights != "imagenet" and (path.suffix or path.is_file()):
            source = read_weight_file(path)
            preprocess = preprocess_from(source.metadata, default, source.name)
        else:
            source, preprocess = self._download(weights)
        covered = load_into(native, source, _layout(native, preprocess).optional_keys())
        return native, preprocess, covered

    def _enum(self, weights: str) -> Any:
        offered = _models.get_model_weights(self.model)
        if weights == "imagenet":
            return offered.DEFAULT
        if weights not in offered.__members__:
            known = [*offered.__members__, "imagenet", "none", "a file's path"]
            raise UnknownName(f"weights of torchvision:{self.model}", weights, known)
        return offered[weights]

    def _download(self, weights: str) -> tuple[WeightSource, Preprocess]:
        enum = self._enum(weights)
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        file = folder / enum.url.rsplit("/", 1)[-1]
        try:
            tensors = enum.get_state_dict(progress=sys.stderr.isatty(), check_hash=True)
        except (URLError, OSError, RuntimeError) as error:
            reason = str(getattr(error, "reason", error)).splitlines()[0]
            raise WeightsError(
                f"can't get the weights of torchvision:{self.model} ({reason}); put {enum.url} "
                f"at '{file}', or name a file with --weights PATH"
            ) from error
        # IMAGENET1K_FEATURES stores NaN for the classifier that it doesn't hold.
        finite = {_renamed(k): v for k, v in tensors.items() if torch.isfinite(v).all()}
        return WeightSource(finite, enum.name), _preprocess(enum)


def _drop_auxiliary(native: Any) -> None:
    """Takes away GoogLeNet's and Inception's auxiliary classifiers: they serve a loss of their own."""
    for name in ("aux1", "aux2", "AuxLogits"):
        if getattr(native, name, None) is not None:
            setattr(native, name, None)


# torchvision's DenseNet files have names from before dots in module names were forbidden.
_DENSE = re.compile(
    r"^(.*denselayer\d+\.(?:norm|relu|conv))\.((?:[12])\.(?:weight|bias|running_mean|running_var))$"
)


def _renamed(key: str) -> str:
    match = _DENSE.match(key)
    return match[1] + match[2] if match else key


def _preprocess(enum: Any) -> Preprocess:
    transform = enum.transforms()
    bicubic = transform.interpolation == torchvision.transforms.InterpolationMode.BICUBIC
    return Preprocess(
        size=transform.crop_size[0],
        resize=transform.resize_size[0],
        mean=tuple(transform.mean),
        std=tuple(transform.std),
        interpolation="bicubic" if bicubic else "bilinear",
    )


def _layout(native: nn.Module, preprocess: Preprocess) -> Layout:
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
