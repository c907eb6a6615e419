"""Train the last linear layer on features that stay as they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from harness.contracts import Plan, Recipe, Segment, StageInfo, freeze, train


@dataclass(frozen=True)
class LinearProbe:
    """The head alone (the final layer, unless ``--head mlp``), the network in eval mode: no dropout."""

    source: ClassVar[str] = "Kumar et al. 2022, arXiv:2202.10054"
    summary: ClassVar[str] = "the final layer alone, network in eval mode"

    def recipe(self, stages: Sequence[StageInfo], epochs: int) -> Recipe:
        return Recipe((Segment(epochs, Plan((train(role="head"), freeze())), mode="eval"),))
