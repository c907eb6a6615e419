"""Train the top, and more of the network every epoch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from harness.contracts import Group, Plan, Recipe, Segment, Selector, StageInfo, freeze
from harness.errors import UsageError


@dataclass(frozen=True)
class GradualUnfreeze:
    """The last stage in the first epoch, ``per_epoch`` more each epoch from the top down, then all.

    The learning rate follows ULMFiT's slanted triangle over the whole training, whatever the run's
    schedule is. ``factor=2.6`` adds discriminative rates, which complete the method; 1 is one rate. The
    authors' code begins a new triangle with each phase; here one spans them all.
    """

    source: ClassVar[str] = "ULMFiT, Howard & Ruder 2018, arXiv:1801.06146, sections 3.2 and 3.3"
    summary: ClassVar[str] = "one stage more every epoch from the top down, slanted triangular learning rate"

    per_epoch: int = 1
    factor: float = 1.0

    def recipe(self, stages: Sequence[StageInfo], epochs: int) -> Recipe:
        if self.per_epoch < 1 or not 1 <= self.factor < math.inf:
            raise UsageError("gradual_unfreeze: per_epoch is at least 1, factor a finite number from 1 up")
        names = [s.name for s in reversed(stages) if s.parameters]
        needed = math.ceil(len(names) / self.per_epoch)
        if epochs < needed:
            raise UsageError(
                f"gradual_unfreeze[per_epoch={self.per_epoch}]: to unfreeze the {len(names)} stages of this "
                f"backbone takes {needed} epochs, not {epochs}; raise the epochs or per_epoch"
            )
        groups = [Group(Selector(stage=n), self.factor**-depth) for depth, n in enumerate(names)]
        spans = [Segment(1, Plan((*groups[: step * self.per_epoch], freeze()))) for step in range(1, needed)]
        whole = Segment(epochs - needed + 1, Plan(tuple(groups)))
        return Recipe((*spans, whole), schedule="slanted-triangular")
