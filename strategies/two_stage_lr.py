"""Train everything, what is pretrained more slowly than the head."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from harness.contracts import Group, Plan, Recipe, Segment, Selector, StageInfo, train
from harness.errors import UsageError


@dataclass(frozen=True)
class TwoStageLr:
    """The head at the run's learning rate, all that comes before it at ``mult`` times that.

    The head is the new last layer, as in AutoGluon: VGG16's pretrained fc6 and fc7 belong to the slow
    part. AutoGluon's default for ``mult`` is 1 (one rate for all); 0.1 is the usual ratio.
    """

    source: ClassVar[str] = "AutoGluon MultiModal, optim.lr_choice two_stages"
    summary: ClassVar[str] = "everything, the head at the learning rate, the rest at a share of it"

    mult: float = 0.1

    def recipe(self, stages: Sequence[StageInfo], epochs: int) -> Recipe:
        if not 0 < self.mult < math.inf:
            raise UsageError(f"two_stage_lr[mult={self.mult}]: mult is a finite number above 0")
        return Recipe((Segment(epochs, Plan((train(role="head"), Group(Selector(), self.mult)))),))
