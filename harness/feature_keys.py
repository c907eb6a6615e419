"""What activations depend on, in words: two that differ in any of it are never taken for each other."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from harness.backbones.staged import StagedModel, tensor_digest
from harness.backbones.tapped import TappedModel
from harness.data.decode import DECODER_VERSION
from harness.data.prepare import PreparedData
from harness.features import BATCH
from harness.kept import FeatureKey
from harness.runtime import conditions, package_version

PLAIN, MIRRORED = "plain", "mirrored"
PREFIX_VERSION = 1  # raised when this package computes the same prefix in another way


@dataclass(frozen=True)
class Conditions:
    """What a grid fixes for all its prefixes. ``mirrored`` asks for the mirrored view too."""

    device: torch.device
    precision: str
    deterministic: bool
    mirrored: bool

    @property
    def autocast(self) -> torch.dtype | None:
        return torch.bfloat16 if self.precision == "bf16" else None


def views(conditions: Conditions) -> tuple[str, ...]:
    """The views of every image that a grid needs."""
    return (PLAIN, MIRRORED) if conditions.mirrored else (PLAIN,)


def feature_keys(
    model: StagedModel, name: str, cut: int, data: PreparedData, given: Conditions
) -> dict[str, FeatureKey]:
    """By view, the keys of the activations of ``model`` (backbone ``name``) at ``cut``."""
    names = model.stage_names[:cut]
    tensors = [(n, t) for n, t in model.tensors() if n.split(".", 1)[0] in names]
    modules = "; ".join(f"{n}: {model.parts[n]!r}" for n in names)
    if isinstance(model, TappedModel):
        modules += f"; {model.taps}"
    decoder = ", ".join(f"{p} {package_version(p)}" for p in ("simplejpeg", "pillow"))
    versions = ", ".join(f"{p} {package_version(p)}" for p in ("torchvision", "timm"))
    plain = FeatureKey(
        prefix=f"{PREFIX_VERSION} {name} {modules} {tensor_digest(tensors)}",
        images=data.images_digest,
        preprocess=str(model.preprocess),
        decoder=f"{DECODER_VERSION} {decoder}",
        view=PLAIN,
        numerics=(
            f"batches of {BATCH}, channels last, {given.precision}, "
            f"{'deterministic' if given.deterministic else 'fast'}, {conditions(given.device)}, {versions}"
        ),
    )
    return {view: replace(plain, view=view) for view in views(given)}


def describe_prefix(model: StagedModel, name: str, cuts: tuple[int, ...]) -> str:
    """``torchvision:vgg16 block1..block4 and block1..pool at 224 px``."""
    names = model.stage_names
    if isinstance(model, TappedModel):
        return f"{name} features of {', '.join(model.tapped)} at {model.preprocess.size} px"
    spans = [names[0] if cut == 1 else f"{names[0]}..{names[cut - 1]}" for cut in cuts]
    return f"{name} {' and '.join(spans)} at {model.preprocess.size} px"
