"""Train everything from random initialisation: the control."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from harness.contracts import Plan, Recipe, Segment, StageInfo, train


@dataclass(frozen=True)
class Scratch:
    """Every parameter, and no pretrained weight: what transfer learning has to beat."""

    source: ClassVar[str] = "control, e.g. Kornblith et al. 2019, arXiv:1805.08974"
    summary: ClassVar[str] = "everything trained from random initialisation"

    def recipe(self, stages: Sequence[StageInfo], epochs: int) -> Recipe:
        return Recipe((Segment(epochs, Plan((train(),))),), init="random")
