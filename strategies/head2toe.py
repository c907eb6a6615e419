"""Head2Toe: a linear head on features of all stages, those that matter selected."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from harness.contracts import GroupLasso, Plan, Recipe, Segment, StageInfo, Taps, freeze, train
from harness.errors import UsageError


@dataclass(frozen=True)
class Head2Toe:
    """The body is frozen. A linear head on the features of all stages trains with a group lasso; the share
    ``keep`` of the features whose weights have the largest norms stays, and a new head trains on them.

    A stage's activations are pooled to about ``size`` features, which are scaled to unit length. ``lasso``
    weighs the sum of the features' norms. ``score_epochs`` come before the selection (None: half of
    the epochs); each part has a cosine schedule of its own. Deviations from the authors' code: taps are
    at the ends of stages, not of all layers; bias and weights start as torch's layers do; ``keep``,
    ``size`` and ``lasso``, which they choose on validation for every dataset, have fixed defaults.
    """

    source: ClassVar[str] = "Evci et al. 2022, arXiv:2201.03529"
    summary: ClassVar[str] = "a linear head on features of all stages, a share of them selected; body frozen"

    keep: float = 0.1
    size: int = 512
    lasso: float = 1e-4
    score_epochs: int | None = None

    def recipe(self, stages: Sequence[StageInfo], epochs: int) -> Recipe:
        if not 0 < self.keep <= 1 or self.size < 1 or not 0 <= self.lasso < math.inf:
            raise UsageError(
                "head2toe: keep is a share above 0 and up to 1, size at least 1, lasso a number from 0 up"
            )
        scoring = epochs // 2 if self.score_epochs is None else self.score_epochs
        if not 1 <= scoring < epochs:
            raise UsageError(
                f"head2toe[score_epochs={scoring}]: scoring and the head on what is kept each need at least "
                f"one of the {epochs} epochs, so score_epochs is 1..{epochs - 1}"
            )
        plan = Plan((train(role="head"), freeze()))
        score = Segment(scoring, plan, schedule="cosine", penalty=GroupLasso(self.lasso))
        final = Segment(epochs - scoring, plan, schedule="cosine", keep=self.keep, fresh_optimizer=True)
        return Recipe((score, final), taps=Taps(self.size))
