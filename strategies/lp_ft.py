"""Linear probing, then fine-tuning."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from harness.contracts import Plan, Recipe, Segment, StageInfo, freeze, train
from harness.errors import UsageError


@dataclass(frozen=True)
class LpFt:
    """``probe_epochs`` of linear probing (network in eval mode), then full fine-tuning from that head.

    ``probe_epochs=None`` is half of the epochs, rounded down; ``lr_ft=None`` is the run's learning rate.
    Fine-tuning begins with a fresh optimizer, as a training of its own. Deviations from the paper: the
    probe is trained by the run's optimizer instead of being fitted to convergence, and the run's schedule
    spans both parts.
    """

    source: ClassVar[str] = "Kumar et al. 2022, arXiv:2202.10054"
    summary: ClassVar[str] = "the final layer alone, then everything at a learning rate of its own"

    lr_ft: float | None = None
    probe_epochs: int | None = None

    def recipe(self, stages: Sequence[StageInfo], epochs: int) -> Recipe:
        probe = epochs // 2 if self.probe_epochs is None else self.probe_epochs
        if not 1 <= probe < epochs:
            raise UsageError(
                f"lp_ft with {probe} of {epochs} epochs of probing: both parts need at least one epoch"
            )
        if self.lr_ft is not None and not 0 < self.lr_ft < math.inf:
            raise UsageError(f"lp_ft[lr_ft={self.lr_ft}]: a learning rate is a finite number above 0")
        head = Plan((train(role="head"), freeze()))
        return Recipe(
            (
                Segment(probe, head, mode="eval"),
                Segment(epochs - probe, Plan((train(),)), lr=self.lr_ft, fresh_optimizer=True),
            )
        )
