"""Train biases and the head."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from harness.contracts import Plan, Recipe, Segment, StageInfo, freeze, train
from harness.errors import UsageError


@dataclass(frozen=True)
class BitFit:
    """Every bias of the network, those of norm layers included, and the head; one learning rate.

    A norm layer whose bias trains runs in train mode: its statistics follow the new images.
    """

    source: ClassVar[str] = "Ben Zaken et al. 2022, arXiv:2106.10199"
    summary: ClassVar[str] = "biases and the head trained, one learning rate"

    def recipe(self, stages: Sequence[StageInfo], epochs: int) -> Recipe:
        if not any(p.bias for s in stages for p in s.parameters if p.role != "head"):
            raise UsageError("bitfit: this backbone has no biases below its head; use linear_probe")
        return Recipe((Segment(epochs, Plan((train(bias=True), train(role="head"), freeze()))),))
