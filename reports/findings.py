"""What a report finds beside accuracies: where settings are safe, what they cost, how far their
probabilities hold, which mistakes they share, and on which images they are weak.

Plain values, as in :mod:`reports.model`; each is made by the module that its docstring names. Shares are
fractions, times seconds, memory bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.calibration import Reliability
from harness.ranking import Curves
from harness.stats import Interval, Spread

if TYPE_CHECKING:
    from reports.model import Cell


@dataclass(frozen=True)
class StabilityCell:
    """What became of one strategy at one learning rate, over its seeds.

    ``accuracy`` is the mean test accuracy of the ``finished`` ones, ``None`` without any; ``collapsed`` are
    among them. ``diverged`` counts seeds that ended or failed with a loss that is not finite, ``failed``
    those that failed for another reason, ``seeds`` all. ``verdict`` is the commonest of the finished ones.
    """

    accuracy: float | None
    finished: int
    collapsed: int
    diverged: int
    failed: int
    seeds: int
    verdict: str

    @property
    def fallen(self) -> bool:
        """Whether any seed collapsed or diverged."""
        return self.collapsed + self.diverged > 0

    @property
    def safe(self) -> bool:
        """Whether all seeds that say something learned something."""
        return self.finished > 0 and not self.fallen


@dataclass(frozen=True)
class StabilityMap:
    """Strategies, least trained first, by learning rates: ``cells[row][column]``, ``None``: not run.

    Made by :mod:`reports.stability`.
    """

    rows: tuple[str, ...]
    rates: tuple[float, ...]
    cells: tuple[tuple[StabilityCell | None, ...], ...]


@dataclass(frozen=True)
class Cost:
    """What a setting cost, means over its seeds; made by :mod:`reports.costs`.

    ``train_s`` are the seconds of training, ``shared_s`` the cell's share of what several cells had done
    once for all of them (decoding and the pass of the frozen prefix, ``pass_s`` seconds for
    ``shared_by`` cells). ``interval`` is that of the accuracy. ``peak_bytes`` is the most memory of a seed,
    ``None`` where it was not recorded. ``front`` holds the axes (``seconds``, ``parameters``, ``memory``)
    on which no setting that learned something was at once more accurate and cheaper.
    """

    number: int
    name: str
    strategy: str
    seeds: int
    accuracy: float
    interval: Interval
    train_s: Spread
    shared_s: float
    pass_s: float
    shared_by: int
    images_per_s: float | None
    trainable: int
    peak_bytes: int | None
    learned: bool
    front: frozenset[str] = frozenset()

    @property
    def seconds(self) -> float:
        """What a cell of the setting took, its share of the common part included."""
        return self.train_s.mean + self.shared_s


@dataclass(frozen=True)
class Costs:
    """The costs of all settings; ``machines`` are those that they ran on, ``memory_of`` what memory is."""

    rows: tuple[Cost, ...]
    machines: tuple[str, ...]
    memory_of: str


@dataclass(frozen=True)
class ProbabilityScores:
    """What a cell's probabilities on the test images are worth; made by :mod:`reports.probabilities`.

    ``class_auroc`` and ``class_ap`` are one-vs-rest, one a class, ``None`` for a class that all or no images
    are of. ``auroc`` and ``average_precision`` are the positive (second) class's of two, of more classes the
    mean. ``ece_chance`` is the calibration error that true probabilities would show on as many images.
    """

    auroc: float | None
    average_precision: float | None
    brier: float
    log_loss: float
    ece: float
    ece_chance: float
    class_auroc: tuple[float | None, ...]
    class_ap: tuple[float | None, ...]


@dataclass(frozen=True, eq=False)
class Confidences:
    """Shares of right and of wrong answers by confidence, float64 ``[bins]`` each, and their numbers."""

    edges: np.ndarray
    right: np.ndarray
    wrong: np.ndarray
    rights: int
    wrongs: int
    right_median: float
    wrong_median: float


@dataclass(frozen=True, eq=False)
class CellCurves:
    """The curves of one cell: ``curves`` are the positive class's, or the mean over classes."""

    cell: Cell
    curves: Curves | None
    reliability: Reliability
    confidences: Confidences


@dataclass(frozen=True, eq=False)
class Probabilities:
    """The curves of the settings that rank first, each by its best cell.

    ``positive`` names the positive class of two, ``None`` with more.
    """

    shown: tuple[CellCurves, ...]
    settings: int
    positive: str | None
    classes: int


@dataclass(frozen=True, eq=False)
class Overlap:
    """Mistakes that cells share, of ``n`` test images; made by :mod:`reports.overlap`.

    ``shared`` is int ``[cells, cells]``, on the diagonal each cell's own. ``everyone`` counts the images
    that all of them get wrong, ``anyone`` those that at least one does. ``of`` is how many cells there are.
    """

    cells: tuple[Cell, ...]
    n: int
    shared: np.ndarray
    everyone: int
    anyone: int
    of: int

    @property
    def jaccard(self) -> np.ndarray:
        """Shared mistakes by those of either, float ``[cells, cells]``; ``nan`` where neither has any."""
        own = np.diag(self.shared)
        either = own[:, None] + own[None, :] - self.shared
        return np.where(either > 0, self.shared / np.maximum(either, 1), np.nan)


@dataclass(frozen=True)
class Slice:
    """Test images that have something in common: value ``value`` of the attribute ``name``, or a group.

    ``rest`` is the accuracy of the other images and ``difference`` the slice's less that. ``p`` tests it,
    ``adjusted`` corrects it by Holm for all slices looked at, and ``differs`` says whether it passes at 5 %;
    ``small``: too few images to say much.
    """

    name: str
    value: str
    n: int
    right: int
    interval: Interval
    rest: float
    p: float
    adjusted: float
    differs: bool
    small: bool

    @property
    def label(self) -> str:
        return f"{self.name}: {self.value}"

    @property
    def accuracy(self) -> float:
        return self.right / self.n

    @property
    def difference(self) -> float:
        return self.accuracy - self.rest


@dataclass(frozen=True, eq=False)
class Slices:
    """Slices of the best cell's test images, worst first; made by :mod:`reports.slices`.

    ``tests`` is the number of comparisons that the correction is for: the two values of an attribute are one.
    ``correlation`` is that of right answers within a group, ``None`` where images come in none.
    """

    cell: Cell
    rows: tuple[Slice, ...]
    tests: int
    correlation: float | None
