"""Train the classifier, keep the body."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from harness.contracts import Plan, Recipe, Segment, StageInfo, freeze, train


@dataclass(frozen=True)
class HeadOnly:
    """The whole classifier (VGG16: fc6, fc7 and the new last layer) trains; all convolutions are frozen."""

    source: ClassVar[str] = "the original CelebA30k experiment, first configuration"
    summary: ClassVar[str] = "body frozen, the whole classifier trained"

    def recipe(self, stages: Sequence[StageInfo], epochs: int) -> Recipe:
        plan = Plan((train(role="classifier"), train(role="head"), freeze()))
        return Recipe((Segment(epochs, plan),))
