"""Train everything, lower stages more slowly."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from harness.contracts import Recipe, Segment, StageInfo, decayed
from harness.errors import UsageError


@dataclass(frozen=True)
class Discriminative:
    """The learning rate of a stage is that of the one above it, divided by ``factor``.

    The last stage has the run's rate. Stages stand for the layers of ULMFiT's language model; its other
    parts are the strategy ``gradual_unfreeze``.
    """

    source: ClassVar[str] = "ULMFiT, Howard & Ruder 2018, arXiv:1801.06146, section 3.2"
    summary: ClassVar[str] = "everything, each stage at the learning rate of the next one / 2.6"

    factor: float = 2.6

    def recipe(self, stages: Sequence[StageInfo], epochs: int) -> Recipe:
        if not 1 <= self.factor < math.inf:
            raise UsageError(f"discriminative[factor={self.factor}]: factor is a finite number from 1 up")
        return Recipe((Segment(epochs, decayed(stages, 1 / self.factor)),))
