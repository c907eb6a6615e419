"""Train everything."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from harness.contracts import Plan, Recipe, Segment, StageInfo, train


@dataclass(frozen=True)
class Full:
    """Every parameter at one learning rate, starting from the pretrained weights."""

    source: ClassVar[str] = "full fine-tuning, e.g. Kornblith et al. 2019, arXiv:1805.08974"
    summary: ClassVar[str] = "everything trained, one learning rate"

    def recipe(self, stages: Sequence[StageInfo], epochs: int) -> Recipe:
        return Recipe((Segment(epochs, Plan((train(),))),))
