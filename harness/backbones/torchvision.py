"""torchvision's classification networks in stages: ``torchvision:NAME``."""

from __future__ import annotations

import re
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from urllib.error import URLError

import torch
import torchvision
from torch import nn
from torch.overrides import TorchFunctionMode

from harness.backbones.layout import stage_network
from harness.backbones.staged import StagedModel
from harness.backbones.torchvision_layouts import torchvision_layout
from harness.backbones.weights import WeightSource, load_into, preprocess_from, read_weight_file
from harness.contracts import Preprocess
from harness.errors import UnknownName, WeightsError

_models = torchvision.models


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
        layout = torchvision_layout(native, preprocess)
        return stage_network(native, layout, preprocess, covered, num_classes, head)

    def native(self, weights: str) -> tuple[nn.Module, Preprocess, frozenset[str]]:
        """torchvision's own network with its 1,000 classes, its preprocessing, the keys the weights cover."""
        source, preprocess = self._weights(weights)
        native = self._network(preprocess)
        if source is None:
            return native, preprocess, frozenset()
        if hasattr(native, "transform_input"):  # GoogLeNet's and Inception's weights expect it
            native.transform_input = True
        optional = torchvision_layout(native, preprocess).optional_keys()
        return native, preprocess, load_into(native, source, optional)

    def _weights(self, weights: str) -> tuple[WeightSource | None, Preprocess]:
        default = _preprocess(self._enum("imagenet"))
        if weights == "none":
            return None, default
        path = Path(weights).expanduser()
        if weights == "imagenet" or not (path.suffix or path.is_file()):
            return self._download(weights)
        source = read_weight_file(path)
        return source, preprocess_from(source.metadata, default, source.name)

    def _network(self, preprocess: Preprocess) -> Any:
        # A vision transformer's positions belong to one size of image.
        sized = {"image_size": preprocess.size} if self.model.startswith("vit_") else {}
        with _NumbersOnCPU() if self.model.startswith("regnet_") else nullcontext():
            return _models.get_model(self.model, weights=None, **sized)

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


class _NumbersOnCPU(TorchFunctionMode):
    """Numbers that are written down stay on the CPU, whatever the default device.

    RegNet computes its widths with tensors, and those on the meta device have no values to read.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = {"device": "cpu"} if func in (torch.arange, torch.tensor) else {}
        return func(*args, **given | (kwargs or {}))


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
