"""timm's networks in stages: ``timm:NAME``."""

from __future__ import annotations

import logging
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import timm
import torch
from timm.models.efficientnet import EfficientNet
from timm.models.mobilenetv3 import MobileNetV3
from timm.models.resnet import ResNet
from timm.models.vgg import VGG
from torch import nn

from harness.backbones.layout import (
    Layout,
    StageLayout,
    numbered,
    split_after_pooling,
    stage_network,
    whole_layout,
)
from harness.backbones.staged import StagedModel
from harness.backbones.weights import WeightSource, load_into, preprocess_from, read_weight_file
from harness.contracts import Preprocess
from harness.errors import UnknownName, WeightsError


@dataclass(frozen=True)
class TimmBackbone:
    """A network of timm by its name, e.g. ``TimmBackbone("tf_efficientnet_lite0")``."""

    model: str
    default_weights: ClassVar[str] = "imagenet"

    def __post_init__(self) -> None:
        if not timm.is_model(self.model):
            raise UnknownName("timm backbone", self.model, self.names())

    @property
    def name(self) -> str:
        return f"timm:{self.model}"

    @staticmethod
    def names() -> tuple[str, ...]:
        """The networks that are offered."""
        return tuple(timm.list_models())

    def build(self, weights: str, num_classes: int, head: str) -> StagedModel:
        native, preprocess, covered = self.native(weights)
        return stage_network(native, _layout(native), preprocess, covered, num_classes, head)

    def native(self, weights: str) -> tuple[nn.Module, Preprocess, frozenset[str]]:
        """timm's own network with its own classes, its preprocessing, the keys the weights cover."""
        path = Path(weights).expanduser()
        tagged = weights not in ("imagenet", "none") and not path.suffix and not path.is_file()
        name = f"{self.model}.{weights}" if tagged else self.model
        try:
            native: Any = timm.create_model(name, pretrained=False)
        except RuntimeError as error:
            known = [*timm.models.list_pretrained(f"{self.model}.*"), "imagenet", "none", "a file's path"]
            raise UnknownName(f"weights of {self.name}", weights, known) from error
        preprocess = _preprocess(native.pretrained_cfg)
        if weights == "none":
            return native, preprocess, frozenset()
        if tagged or weights == "imagenet":
            source = self._download(name)
        else:
            source = read_weight_file(path)
            preprocess = preprocess_from(source.metadata, preprocess, source.name)
        return native, preprocess, load_into(native, source, _layout(native).optional_keys())

    def _download(self, name: str) -> WeightSource:
        cfg = timm.get_pretrained_cfg(name)
        place = (cfg and (cfg.hf_hub_id or cfg.url)) or name
        print(f"Downloading: weights of {self.name} ({place})", file=sys.stderr, flush=True)
        # The hub's retries would be a dozen lines; what failed is said in one below.
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
        try:
            # Its own drawing must not shift what the caller's seed gives the new head.
            with torch.random.fork_rng(devices=[]):
                tensors = timm.create_model(name, pretrained=True).state_dict()
        except Exception as error:
            reason = textwrap.shorten(str(error) or type(error).__name__, 120, placeholder=" ...")
            raise WeightsError(
                f"can't get the weights of {self.name} ({reason}); fetch model.safetensors of '{place}' "
                f"elsewhere and name the file with --weights PATH"
            ) from error
        return WeightSource(tensors, name)


def _preprocess(cfg: dict[str, Any]) -> Preprocess:
    size = int(cfg["input_size"][-1])
    return Preprocess(
        size=size,
        resize=int(size / cfg.get("crop_pct", 0.875)),
        mean=tuple(cfg["mean"]),
        std=tuple(cfg["std"]),
        interpolation="bicubic" if cfg.get("interpolation") == "bicubic" else "bilinear",
    )


def _layout(native: Any) -> Layout:
    # Dropout that timm applies as a function can't be found by module.
    if getattr(native, "drop_rate", 0) == 0:
        for family, layout in (
            (VGG, _vgg),
            (ResNet, _resnet),
            (MobileNetV3, _mobilenetv3),
            (EfficientNet, _efficientnet),
        ):
            if isinstance(native, family):
                return layout(native)
    named = native.pretrained_cfg.get("classifier") or ()
    paths = (named,) if isinstance(named, str) else tuple(named)
    modules = dict(native.named_modules())
    # A distilled network names two, one of which may be switched off.
    return whole_layout(native, *(p for p in paths if isinstance(modules.get(p), nn.Linear | nn.Conv2d)))


def _vgg(native: Any) -> Layout:
    return Layout(
        stages=(
            *numbered("block", "body", "features", split_after_pooling(native.features)),
            StageLayout("fc6", "classifier", ("pre_logits.fc1", "pre_logits.act1", "pre_logits.drop")),
            StageLayout("fc7", "classifier", ("pre_logits.fc2", "pre_logits.act2")),
            StageLayout("head", "head", ("head",)),
        ),
        last="head.fc",
    )


def _resnet(native: Any) -> Layout:
    return Layout(
        stages=(
            StageLayout("stem", "body", ("conv1", "bn1", "act1", "maxpool")),
            *(StageLayout(f"layer{i}", "body", (f"layer{i}",)) for i in range(1, 5)),
            StageLayout("pool", "neck", ("global_pool",)),
            StageLayout("head", "head", ("fc",)),
        ),
        last="fc",
    )


def _efficientnet(native: Any) -> Layout:
    return Layout(
        stages=(
            StageLayout("stem", "body", ("conv_stem", "bn1")),
            *_stages(native),
            StageLayout("conv_head", "neck", ("conv_head", "bn2")),
            StageLayout("pool", "neck", ("global_pool",)),
            StageLayout("head", "head", ("classifier",)),
        ),
        last="classifier",
    )


def _mobilenetv3(native: Any) -> Layout:
    return Layout(
        stages=(
            StageLayout("stem", "body", ("conv_stem", "bn1")),
            *_stages(native),
            StageLayout("pool", "neck", ("global_pool",)),
            StageLayout("conv_head", "classifier", ("conv_head", "norm_head", "act2", "flatten")),
            StageLayout("head", "head", ("classifier",)),
        ),
        last="classifier",
    )


def _stages(native: Any) -> list[StageLayout]:
    return numbered("stage", "body", "blocks", [[i] for i in range(len(native.blocks))])
