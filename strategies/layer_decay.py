"""Train everything at a learning rate that decays from the head down."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from harness.contracts import Recipe, Segment, StageInfo, decayed
from harness.errors import UsageError


@dataclass(frozen=True)
class LayerDecay:
    """Stage i of L + 1 has ``decay ** (L - i)`` of the learning rate; the head, stage L, has all of it.

    BEiT counts transformer blocks, timm the groups of a network's own matcher; here a layer is a stage
    that has parameters. The weight decay is the run's for all tensors, where timm leaves vectors out.
    """

    source: ClassVar[str] = "BEiT, Bao et al. 2022, arXiv:2106.08254; timm, param_groups_layer_decay"
    summary: ClassVar[str] = "everything, each stage at a share of the learning rate of the next one"

    decay: float = 0.75

    def recipe(self, stages: Sequence[StageInfo], epochs: int) -> Recipe:
        if not 0 < self.decay <= 1:
            raise UsageError(f"layer_decay[decay={self.decay}]: decay is above 0 and at most 1")
        return Recipe((Segment(epochs, decayed(stages, self.decay)),))
