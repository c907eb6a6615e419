"""Train everything, each tensor at a learning rate that follows its relative gradient norm."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from harness.contracts import GradientStatistics, Plan, Recipe, Segment, StageInfo, freeze, train
from harness.errors import UsageError


@dataclass(frozen=True)
class AutoRgn:
    """Before each epoch every tensor's gradient norm / weight norm, the mean over ``batches`` training
    batches; in the epoch its learning rate is the run's times its ratio over the largest.

    Norm layers are skipped: frozen, their statistics still. A tensor whose weights are all zero has no
    ratio; it trains at the run's rate. Deviations from the authors' code: it tells norm layers by ``bn`` in
    their names and lets their statistics follow the images; it starts a new Adam every epoch, here the
    optimizer keeps its state; its head is the pretrained one, here the new head's ratio counts like any.
    """

    source: ClassVar[str] = "Auto-RGN, Lee et al. 2023, arXiv:2210.11466"
    summary: ClassVar[str] = "everything but norm layers, each tensor's rate by gradient norm / weight norm"

    batches: int = 5

    def recipe(self, stages: Sequence[StageInfo], epochs: int) -> Recipe:
        if self.batches < 1:
            raise UsageError(f"auto_rgn[batches={self.batches}]: at least one batch")
        return Recipe((Segment(epochs, Plan((freeze(norm=True), train())), adapt=self),))

    def shares(self, seen: Mapping[str, GradientStatistics]) -> Mapping[str, float]:
        ratios = {n: s.gradient_norm / s.weight_norm if s.weight_norm else math.inf for n, s in seen.items()}
        largest = max((r for r in ratios.values() if r < math.inf), default=0.0)
        return {n: 1.0 if r == math.inf else r / largest if largest else 0.0 for n, r in ratios.items()}
