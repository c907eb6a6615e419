"""Train every other block of the body."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from harness.contracts import Group, Plan, Recipe, Segment, Selector, StageInfo, body_blocks, freeze, train
from harness.errors import UsageError


@dataclass(frozen=True)
class EveryOtherBlock:
    """Of the body, counted from its end, every ``step``-th block at ``scale`` times the learning rate.

    What follows the body trains at the learning rate itself.
    """

    source: ClassVar[str] = "made up, as an example of a package"
    summary: ClassVar[str] = "every other body stage and the classifier trained"

    step: int = 2
    scale: float = 1.0

    def recipe(self, stages: Sequence[StageInfo], epochs: int) -> Recipe:
        if self.step < 1 or not 0 < self.scale < float("inf"):
            raise UsageError(
                f"every_other_block[step={self.step},scale={self.scale}]: step is at least 1, scale above 0"
            )
        chosen = body_blocks(stages)[:: -self.step]
        groups = [Group(Selector(stage=block.name), self.scale) for block in chosen]
        return Recipe((Segment(epochs, Plan((*groups, freeze(role="body"), train()))),))
