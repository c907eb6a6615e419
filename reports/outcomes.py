"""What the comparisons and the discussion look at: outcomes, settings, comparisons, statements.

An outcome is a trained network's figures on test images, whether we trained it or a paper prints its
confusion matrix. Shares are fractions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

import numpy as np

from harness.resampling import Estimate
from harness.stats import Interval, Spread
from harness.verdicts import Verdict
from reports.record_types import Scores


@dataclass(frozen=True, eq=False)
class Outcome:
    """One trained network on its test images.

    ``correct`` is bool ``[n]``: which test images it gets right; ``images`` identifies those images
    with their order and labels, so that two outcomes are only paired on the same ones. Both are
    ``None`` where only counts were published. ``groups`` is int ``[n]``, the group (person) of each
    image, ``None`` where no two images share one; ``group_interval`` is the accuracy's by the cluster
    bootstrap, beside Wilson's ``interval``.
    """

    name: str
    setting: str
    seed: int
    test: Scores
    val_accuracy: float | None
    interval: Interval
    verdict: Verdict
    correct: np.ndarray | None
    images: str | None
    groups: np.ndarray | None
    group_interval: Interval | None


OutcomeT = TypeVar("OutcomeT", bound=Outcome)


@dataclass(frozen=True, eq=False)
class Setting(Generic[OutcomeT]):
    """The outcomes that differ in their seed alone. ``val_accuracy`` is ``None`` without validation.

    ``over_seeds`` estimates the accuracy for new seeds and new images; ``None`` with one seed.
    ``collapse_interval`` is Wilson's of the share of seeds that collapse.
    """

    name: str
    cells: tuple[OutcomeT, ...]
    accuracy: Spread
    macro_f1: Spread
    val_accuracy: Spread | None
    over_seeds: Estimate | None
    collapse_interval: Interval

    @property
    def collapsed(self) -> int:
        return sum(cell.verdict.kind == "collapsed" for cell in self.cells)


Method = Literal["exact McNemar", "exact sign flips by group", "bootstrap of images and seeds", "unpaired z"]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two settings on ``n`` test images; ``difference`` is the first's accuracy less the second's.

    ``seeds`` says how many each contributes; 1 and 1: within the seed ``seed``. Then ``only_first``
    images are right in the first and wrong in the second; over several seeds counts are never pooled and
    it is ``None``, as it is where two published figures can't be paired. ``z`` is there only for those.
    ``adjusted`` is ``p`` corrected by Holm over the comparisons of the experiment, and ``supported``
    says whether the difference passes at 5 % after that. ``resolvable`` is the difference that would
    have been found four times out of five, ``compared`` the number it is corrected for.
    """

    first: Setting
    second: Setting
    n: int
    groups: int | None
    seeds: tuple[int, int]
    seed: int | None
    method: Method
    difference: float
    interval: Interval
    only_first: int | None
    only_second: int | None
    z: float | None
    p: float
    adjusted: float
    supported: bool
    resolvable: float
    compared: int


@dataclass(frozen=True)
class Statement:
    """One paragraph of the discussion and what it is about."""

    kind: Literal["best", "worst", "collapsed", "equal", "verdict", "caveat"]
    text: str


@dataclass(frozen=True)
class BestWorst:
    """Names of the settings that lead and those that trail, as far as the test supports it.

    The first of ``best`` is the one that ranks first, the last of ``worst`` the one that ranks last.
    ``best`` is empty where the test contradicts the ranking, ``worst`` where nothing is shown to be worse
    than the best.
    """

    best: tuple[str, ...]
    worst: tuple[str, ...]
