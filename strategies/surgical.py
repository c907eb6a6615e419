"""Train one stage of the body and the new head."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from harness.contracts import Plan, Recipe, Segment, StageInfo, body_blocks, freeze, train
from harness.errors import UsageError


@dataclass(frozen=True)
class Surgical:
    """Body stage ``block`` (1 is the first that has parameters) and the head, at one learning rate.

    The head is the new last layer: on VGG16 fc6 and fc7 stay frozen. In the paper's own experiments the
    labels stay those of the pretrained head, which is then frozen too; here the head is always new.
    """

    source: ClassVar[str] = "surgical fine-tuning, Lee et al. 2023, arXiv:2210.11466"
    summary: ClassVar[str] = "one body stage and the head trained, one learning rate"

    block: int

    def recipe(self, stages: Sequence[StageInfo], epochs: int) -> Recipe:
        blocks = body_blocks(stages)
        if not 1 <= self.block <= len(blocks):
            raise UsageError(
                f"surgical[block={self.block}]: this backbone has {len(blocks)} body stages, "
                f"so block is 1..{len(blocks)}"
            )
        plan = Plan((train(stage=blocks[self.block - 1].name), train(role="head"), freeze()))
        return Recipe((Segment(epochs, plan),))
