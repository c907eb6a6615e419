"""A network whose head reads every stage below it, and not only the last one (Evci et al. 2022)."""

from __future__ import annotations

import math
from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional as F

from harness.backbones.staged import Stage, StagedModel
from harness.contracts import Taps
from harness.errors import UsageError


class TapHead(nn.Module):
    """One linear layer on the features of all taps, float ``[n, sum(sizes)]``.

    The features of each tap that are ``kept`` (bool ``[sum(sizes)]``) are scaled to unit length, image by
    image; where they are all zero they stay so. The others count as zero.
    """

    kept: torch.Tensor

    def __init__(self, sizes: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        self.sizes = sizes
        self.linear = nn.Linear(sum(sizes), num_classes)
        self.register_buffer("kept", torch.ones(sum(sizes), dtype=torch.bool))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        taps = (features * self.kept).split(self.sizes, dim=1)
        logits: torch.Tensor = self.linear(torch.cat([F.normalize(tap, dim=1) for tap in taps], dim=1))
        return logits

    def scores(self) -> torch.Tensor:
        """Of each feature, float ``[sum(sizes)]``: the Euclidean norm of its weights to all classes."""
        return torch.linalg.vector_norm(self.linear.weight.detach(), dim=0)

    @torch.no_grad()
    def keep(self, share: float, draw: torch.Generator) -> None:
        """Keeps the ``share`` of the features (rounded down, one at least) with the highest scores.

        The layer starts anew, as torch draws one with that many inputs, from ``draw`` (on the CPU).
        """
        count = max(1, int(share * len(self.kept)))
        chosen = self.scores().cpu().argsort(descending=True, stable=True)[:count].sort().values
        bound = 1 / math.sqrt(count)
        drawn = torch.empty(len(self.linear.bias), count + 1).uniform_(-bound, bound, generator=draw)
        weight = torch.zeros(self.linear.weight.shape)
        weight[:, chosen] = drawn[:, 1:]
        self.linear.weight.copy_(weight)
        self.linear.bias.copy_(drawn[:, 0])
        self.kept.zero_()
        self.kept[chosen.to(self.kept.device)] = True


class TappedModel(StagedModel):
    """``model`` with a new head, drawn from torch's default generator, on taps into its stages.

    A tap is at the end of every stage below the head that has parameters. All other tensors are those
    of ``model``, shared. Between two stages the features tapped so far go on beside the activations; only
    before the head is there one tensor, so it is the only cut. Raises UsageError for a network that
    can't be tapped.
    """

    def __init__(self, model: StagedModel, taps: Taps, num_classes: int) -> None:
        if not model.cuttable:
            raise UsageError("a head on all stages needs a network that is known in stages")
        *below, (last, old) = model.parts.items()
        if sum(isinstance(module, nn.Linear) for module in old.modules()) > 1:
            raise UsageError("a head on all stages is one linear layer: use --head own or --head linear")
        sizes = _sizes(model, taps)
        stages = [Stage(name, module, model.roles[name]) for name, module in below]
        head = Stage(last, TapHead(tuple(sizes.values()), num_classes), model.roles[last])
        pretrained = frozenset(n for n in model.pretrained if not n.startswith(f"{last}."))
        super().__init__([*stages, head], model.preprocess, pretrained)
        self.normalize = model.normalize
        self.native = {name: key for name, key in model.native.items() if not name.startswith(f"{last}.")}
        self.taps, self.tapped = taps, tuple(sizes)

    @property
    def head(self) -> TapHead:
        head = self.parts[self.stage_names[-1]]
        assert isinstance(head, TapHead)
        return head

    def section(self, start: int, stop: int) -> nn.Sequential:
        names, count = self.stage_names, len(self.parts)
        parts: list[tuple[str, nn.Module]] = [("normalize", self.normalize)] if start == 0 else []
        for index in range(start, stop):
            name, part = names[index], self.parts[names[index]]
            if index < count - 1:
                part = _Tap(part, self.taps.size if name in self.tapped else None, index == count - 2)
            parts.append((name, part))
        return nn.Sequential(OrderedDict(parts))

    def kept(self) -> dict[str, int]:
        """How many features the head reads from each tapped stage."""
        counts = [int(tap.sum()) for tap in self.head.kept.split(self.head.sizes)]
        return dict(zip(self.tapped, counts, strict=True))


class _Tap(nn.Module):
    """A stage that hands on what was tapped below it, and its own features where ``size`` asks for them."""

    def __init__(self, stage: nn.Module, size: int | None, last: bool) -> None:
        super().__init__()
        self.stage, self.size, self.last = stage, size, last

    def forward(
        self, given: torch.Tensor | tuple[torch.Tensor, tuple[torch.Tensor, ...]]
    ) -> torch.Tensor | tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        x, found = given if isinstance(given, tuple) else (given, ())
        x = self.stage(x)
        if self.size is not None:
            found = (*found, pooled(x, self.size))
        return torch.cat(found, dim=1) if self.last else (x, found)


def pooled(x: torch.Tensor, size: int) -> torch.Tensor:
    """Activations as about ``size`` features a row, float32 ``[n, features]``.

    Maps ``[n, channels, height, width]`` and tokens ``[n, tokens, channels]`` are averaged over windows of
    equal size without overlap, as many as make up ``size`` features; over all of it where there are as many
    channels. The windows are square in number, and what they leave over at an edge isn't used.
    """
    if x.dim() == 4:
        side = max(1, math.isqrt(size // x.shape[1]))
        window = [max(1, length // side) for length in x.shape[2:]]
        x = F.avg_pool2d(x, window, window)
    elif x.dim() == 3:
        window = [max(1, x.shape[1] // max(1, size // x.shape[2]))]
        x = F.avg_pool1d(x.transpose(1, 2), window, window)
    return x.flatten(1).float()


def _sizes(model: StagedModel, taps: Taps) -> dict[str, int]:
    """Features by tapped stage, from a forward pass of a black image."""
    size, device = model.preprocess.size, next(model.parts.parameters()).device
    x = torch.zeros((1, 3, size, size), dtype=torch.uint8, device=device)
    x = x.contiguous(memory_format=torch.channels_last)
    found = {}
    model.eval()
    with torch.no_grad():
        for index, (name, module) in enumerate(list(model.parts.items())[:-1]):
            x = model.section(index, index + 1)(x)
            if any(True for _ in module.parameters()):
                if x.dim() not in (2, 3, 4) or (x.dim() == 4 and x.shape[2] != x.shape[3]):
                    raise UsageError(
                        f"a head on all stages can't read stage '{name}', whose output is {list(x.shape)}: "
                        "channels must come before height and width"
                    )
                found[name] = pooled(x, taps.size).shape[1]
    return found
