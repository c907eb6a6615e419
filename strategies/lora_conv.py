"""Train low-rank adapters beside frozen convolutions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from harness.contracts import ConvLora, Plan, Recipe, Segment, StageInfo, body_blocks, freeze, train
from harness.errors import UsageError


@dataclass(frozen=True)
class LoraConv:
    """The network's own weights are frozen but for the head. Beside each convolution trains another to ``r``
    channels, with the same kernel, stride, padding, dilation and groups, followed by a 1x1 convolution that
    begins at zero; the result, times ``alpha / r``, is added. All at one learning rate.

    ``blocks=k`` adapts the convolutions of the last k body stages and of what follows them, so that the
    stages before them are a prefix to share; ``None`` adapts all. A convolution in groups is adapted group by
    group, at the rank its group can have (1 where it is depthwise, which saves nothing). Linear layers, such
    as VGG16's fc6 and fc7, aren't adapted and stay frozen, in eval mode as the norm layers do.
    """

    source: ClassVar[str] = "LoRA, Hu et al. 2021, arXiv:2106.09685; for convolutions as in loralib and peft"
    summary: ClassVar[str] = "low-rank adapters beside frozen convolutions and the head, one learning rate"

    r: int = 8
    alpha: float = 16.0
    blocks: int | None = None

    def recipe(self, stages: Sequence[StageInfo], epochs: int) -> Recipe:
        if self.r < 1 or not 0 < self.alpha < math.inf:
            raise UsageError("lora_conv: r is at least 1, alpha a finite number above 0")
        body = body_blocks(stages)
        convolve = sum(map(_convolves, body))
        if not body or 2 * convolve < len(body):
            raise UsageError(
                f"lora_conv: {convolve} of the {len(body)} body stages of this backbone have convolutions, "
                "and adapters are for those"
            )
        if self.blocks is not None and not 1 <= self.blocks <= len(body):
            raise UsageError(
                f"lora_conv[blocks={self.blocks}]: this backbone has {len(body)} body stages, "
                f"so blocks is 1..{len(body)}"
            )
        first = body[-(self.blocks or len(body))].name
        names = [s.name for s in stages]
        late = [s for s in stages[names.index(first) :] if s.role != "head" and _convolves(s)]
        if not late:
            raise UsageError(f"lora_conv[blocks={self.blocks}]: there is no convolution from {first} on")
        plan = Plan((train(adapter=True), train(role="head"), freeze()))
        adapters = ConvLora(self.r, self.alpha, tuple(s.name for s in late))
        return Recipe((Segment(epochs, plan),), adapters=adapters)


def _convolves(stage: StageInfo) -> bool:
    return any("Conv2d" in p.kind for p in stage.parameters)
