"""Low-rank adapters beside the convolutions of a network (LoRA, Hu et al. 2021).

Not by way of peft: its adapters of convolutions leave out dilation, take the whole input where a convolution
has groups, and put a layer of their own in the place of each one, which renames every tensor; and it brings
transformers and accelerate along (0.21; ``docs/dependencies.md``).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from harness.backbones.staged import StagedModel
from harness.contracts import ConvLora
from harness.errors import UsageError

_DOWN, _UP, _SCALE = "lora_a", "lora_b", "lora_scale"
_PADS_BY_SIZE = "Conv2dSame"  # timm's, whose padding depends on the image's size


def add_adapters(model: StagedModel, lora: ConvLora) -> StagedModel:
    """Puts an adapter beside every convolution of ``lora.stages``; returns ``model``, which it changes.

    An adapter is a convolution to ``rank`` channels with the kernel, stride, padding, dilation and groups of
    the one beside it, drawn from torch's default generator as torch draws one, then a 1x1 convolution from
    there that is all zero. What comes out, times ``alpha / rank``, is added to the convolution's output. A
    convolution in groups has the like in each group, of no higher rank than the group's weight. All other
    tensors keep their names and values. Raises UsageError, naming it, for a convolution that isn't a plain
    one.
    """
    unknown = set(lora.stages) - set(model.stage_names)
    if unknown:
        raise UsageError(f"there is no stage '{min(unknown)}' to adapt: {', '.join(model.stage_names)}")
    added: dict[str, str] = {}
    for path, module in list(model.parts.named_modules()):
        if path.split(".", 1)[0] in lora.stages and isinstance(module, nn.Conv2d):
            _adapt(path, module, lora)
            added |= {f"{path}.{name}.weight": f"{path}.weight" for name in (_DOWN, _UP)}
    if not added:
        raise UsageError(f"there is no convolution to adapt in {', '.join(lora.stages)}")
    model.adapters = {**model.adapters, **added}
    return model


def _adapt(path: str, conv: nn.Conv2d, lora: ConvLora) -> None:
    kind, plain = type(conv), type(conv).forward is nn.Conv2d.forward
    if not plain and kind.__name__ != _PADS_BY_SIZE:
        raise UsageError(f"'{path}' is a {kind.__name__}, which isn't a plain convolution: it has no adapter")
    groups = conv.groups
    rank = lora.rank
    if groups > 1:
        rank = min(rank, conv.weight[0].numel(), conv.out_channels // groups)
    given: dict[str, Any] = {"groups": groups, "bias": False}
    given |= {"device": conv.weight.device, "dtype": conv.weight.dtype}
    padding = {"padding": conv.padding, "padding_mode": conv.padding_mode} if plain else {}
    make: Any = nn.Conv2d if plain else kind
    down = make(
        conv.in_channels,
        rank * groups,
        conv.kernel_size,
        stride=conv.stride,
        dilation=conv.dilation,
        **padding,
        **given,
    )
    up = nn.Conv2d(rank * groups, conv.out_channels, 1, **given)
    nn.init.zeros_(up.weight)
    conv.add_module(_DOWN, down)
    conv.add_module(_UP, up)
    setattr(conv, _SCALE, lora.alpha / lora.rank)
    # Rather than a module around it, so that its own tensors keep their names.
    conv.register_forward_hook(_add)


@torch.no_grad()
def merged_weights(model: StagedModel) -> dict[str, torch.Tensor]:
    """By name, the weight of every adapted convolution with its adapter's change added, as it would be
    without the adapter.

    Summed in float64, so that what is lost is one rounding to the weight's own dtype.
    """
    found = {}
    for path, conv in model.parts.named_modules():
        if isinstance(conv, nn.Conv2d) and hasattr(conv, _SCALE):
            up, down = (getattr(conv, name).weight.double().chunk(conv.groups) for name in (_UP, _DOWN))
            change = [torch.einsum("or,rikl->oikl", b[:, :, 0, 0], a) for a, b in zip(down, up, strict=True)]
            weight = conv.weight.double() + getattr(conv, _SCALE) * torch.cat(change)
            found[f"{path}.weight"] = weight.to(conv.weight.dtype)
    return found


def _add(conv: nn.Module, given: tuple[torch.Tensor, ...], out: torch.Tensor) -> torch.Tensor:
    up, down, scale = (getattr(conv, name) for name in (_UP, _DOWN, _SCALE))
    return out + up(down(given[0])) * scale
