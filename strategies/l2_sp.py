"""Train everything, held near the pretrained weights."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from harness.contracts import Plan, Recipe, Segment, StageInfo, StartPenalty, train
from harness.errors import UsageError


@dataclass(frozen=True)
class L2Sp:
    """Every parameter at one learning rate; the loss has ``weight / 2`` times the squared distance from the
    pretrained weights added, and ``new / 2`` times the squared norm of layers that start at random.

    As in the authors' code, biases and the parameters of norm layers aren't held. The penalty takes the
    place of a weight decay, which is added to it where the run has one.
    """

    source: ClassVar[str] = "Li et al. 2018, arXiv:1802.01483"
    summary: ClassVar[str] = "everything trained, with a penalty on the distance from the pretrained weights"

    weight: float = 0.01
    new: float = 0.01

    def recipe(self, stages: Sequence[StageInfo], epochs: int) -> Recipe:
        if not (0 <= self.weight < math.inf and 0 <= self.new < math.inf):
            raise UsageError("l2_sp: weight and new are finite numbers from 0 up")
        if not any(p.pretrained for s in stages for p in s.parameters):
            raise UsageError("l2_sp: there are no pretrained weights to stay near; give some, or use full")
        return Recipe((Segment(epochs, Plan((train(),)), penalty=StartPenalty(self.weight, self.new)),))
