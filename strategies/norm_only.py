"""Train norm layers and the head."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from harness.contracts import Plan, Recipe, Segment, StageInfo, freeze, train
from harness.errors import UsageError


@dataclass(frozen=True)
class NormOnly:
    """Scales and shifts of the norm layers, and the head; one learning rate.

    Norm layers run in train mode, so their statistics follow the new images. The paper trains them in
    networks that are otherwise random; here what is frozen is pretrained.
    """

    source: ClassVar[str] = "Frankle et al. 2021, arXiv:2003.00152"
    summary: ClassVar[str] = "norm layers' scales and shifts and the head trained, one learning rate"

    def recipe(self, stages: Sequence[StageInfo], epochs: int) -> Recipe:
        if not any(p.norm for s in stages for p in s.parameters if p.role != "head"):
            raise UsageError(
                "norm_only: this backbone has no norm layers with parameters; resnet_tiny and vgg16_bn have"
            )
        return Recipe((Segment(epochs, Plan((train(norm=True), train(role="head"), freeze()))),))
