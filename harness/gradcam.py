"""Grad-CAM: which parts of an image spoke for a class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from harness.backbones.staged import StagedModel
from harness.backbones.tapped import TappedModel
from harness.errors import UsageError

if TYPE_CHECKING:
    from captum.attr import LayerGradCam

_POOLING = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d)


@dataclass(frozen=True)
class CamLayer:
    """The activations that Grad-CAM reads: the output of ``module``, or its input, in ``stage``."""

    stage: str
    module: nn.Module
    takes_input: bool


def cam_layer(model: StagedModel) -> CamLayer:
    """The last activations of ``model`` that still have a height and a width.

    Those are the output of its last stage that isn't flat, or what goes into the pooling that this
    stage ends in. Raises UsageError for a network that has none (``[n, tokens, channels]``, or
    channels last): averaging over its axes would give a picture without a meaning.
    """
    if isinstance(model, TappedModel):
        raise UsageError(
            "Grad-CAM isn't available for this network: its head reads all stages (head2toe), and a map of "
            "one of them would leave out what the others say"
        )
    shapes = _output_shapes(model)
    for name, module in reversed(list(model.parts.items())):
        shape = shapes.get(name, ())
        if len(shape) == 2 or tuple(shape[2:]) == (1, 1):
            continue
        if len(shape) == 4 and shape[2] == shape[3]:
            last = _last(module)
            pooled = isinstance(last, _POOLING)
            return CamLayer(name, last if pooled else module, pooled)
        break
    raise UsageError(
        "Grad-CAM isn't available for this network: its last stages give no maps of height and width "
        "(transformers work on tokens)"
    )


def grad_cam(
    model: StagedModel,
    layer: CamLayer,
    images: torch.Tensor,
    classes: Sequence[int],
    autocast: torch.dtype | None = None,
) -> torch.Tensor:
    """Maps float32 ``[n, h, w]``, 0 and more: what in each image speaks for the class of ``classes``.

    ``images`` is uint8 ``[n, 3, size, size]``. Channels are weighted by the mean of the class logit's
    gradient and summed, negative sums are 0 (Selvaraju et al. 2017, captum's LayerGradCam). Images go
    one by one, so that a map doesn't depend on the images beside it. Raises UsageError without captum.
    """
    attribution = _layer_grad_cam()(model, layer.module)
    device = next(model.parts.parameters()).device
    model.eval().requires_grad_(True)
    maps = []
    for image, wanted in zip(images, classes, strict=True):
        x = image[None].to(device).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
            found = attribution.attribute(
                x,
                target=int(wanted),
                attribute_to_layer_input=layer.takes_input,
                relu_attributions=True,
            )
        maps.append(found.detach()[0, 0].float().cpu())
    return torch.stack(maps)


def require_captum() -> None:
    """Raises UsageError, naming the extra, where captum isn't installed."""
    _layer_grad_cam()


def _layer_grad_cam() -> type[LayerGradCam]:
    try:
        from captum.attr import LayerGradCam
    except ImportError as error:
        raise UsageError(
            f"Grad-CAM needs captum ({error}); it comes with: pip install 'transfer-harness[explain]'"
        ) from error
    return LayerGradCam


def _last(module: nn.Module) -> nn.Module:
    while isinstance(module, nn.Sequential) and len(module):
        module = module[-1]
    return module


def _output_shapes(model: StagedModel) -> dict[str, tuple[int, ...]]:
    """Shape of each stage's output for a black image; a stage that isn't called as a whole has none."""
    shapes: dict[str, tuple[int, ...]] = {}

    def note(name: str) -> Any:
        def hook(module: nn.Module, given: Any, output: Any) -> None:
            shapes[name] = tuple(output.shape) if isinstance(output, torch.Tensor) else ()

        return hook

    hooks = [part.register_forward_hook(note(name)) for name, part in model.parts.items()]
    try:
        size, device = model.preprocess.size, next(model.parts.parameters()).device
        with torch.no_grad():
            model.eval()(torch.zeros((1, 3, size, size), dtype=torch.uint8, device=device))
    finally:
        for hook in hooks:
            hook.remove()
    return shapes
