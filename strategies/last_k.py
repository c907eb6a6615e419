"""Train the last blocks of the body and all that follows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from harness.contracts import Plan, Recipe, Segment, StageInfo, body_blocks, freeze, train
from harness.errors import UsageError


@dataclass(frozen=True)
class LastK:
    """The last ``k`` body stages that have parameters, and everything after the first of them, at one lr."""

    source: ClassVar[str] = "partial fine-tuning, Yosinski et al. 2014, arXiv:1411.1792"
    summary: ClassVar[str] = "the last k body stages and the classifier trained, one learning rate"

    k: int = 1

    @property
    def canonical(self) -> str | None:
        """``last_k[k=1]`` and ``last_block`` are one cell."""
        return "last_block" if self.k == 1 else None

    def recipe(self, stages: Sequence[StageInfo], epochs: int) -> Recipe:
        blocks = body_blocks(stages)
        if not 1 <= self.k <= len(blocks):
            raise UsageError(
                f"last_k[k={self.k}]: this backbone has {len(blocks)} body stages, so k is 1..{len(blocks)}"
            )
        kept = [freeze(stage=block.name) for block in blocks[: -self.k]]
        return Recipe((Segment(epochs, Plan((*kept, train()))),))


@dataclass(frozen=True)
class LastBlock:
    """``last_k[k=1]`` under the name that the original experiment gave it."""

    source: ClassVar[str] = "the original CelebA30k experiment, second configuration"
    summary: ClassVar[str] = "the last body stage and the classifier trained, one learning rate"

    def recipe(self, stages: Sequence[StageInfo], epochs: int) -> Recipe:
        return LastK(1).recipe(stages, epochs)
