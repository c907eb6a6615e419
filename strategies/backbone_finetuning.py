"""Train the classifier, then let the body catch up."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import ClassVar

from harness.contracts import Group, Plan, Recipe, Segment, Selector, StageInfo, freeze, train
from harness.errors import UsageError

# The callback's defaults.
_AT = 10
_FIRST = 0.1
_GROWTH = 2.0


@dataclass(frozen=True)
class BackboneFinetuning:
    """The body is frozen for ``at`` epochs; then it trains at a tenth of the learning rate, doubled every
    epoch until it is the classifier's.

    ``at=None`` is 10, or half of the epochs where that is less. Deviations from Lightning: under a
    schedule the body's share of the current rate doubles, not its last absolute rate; norm layers of the
    frozen body are frozen too, unless ``train_norm`` is true: they then train at the classifier's rate
    from the start, as in Lightning.
    """

    source: ClassVar[str] = "PyTorch Lightning, BackboneFinetuning"
    summary: ClassVar[str] = "the classifier for some epochs, then the body too, its learning rate doubling"

    at: int | None = None
    train_norm: bool = False

    def recipe(self, stages: Sequence[StageInfo], epochs: int) -> Recipe:
        at = min(_AT, epochs // 2) if self.at is None else self.at
        if not 0 <= at < epochs:
            raise UsageError(
                f"backbone_finetuning[at={at}]: the body would never train in {epochs} epochs, "
                f"so at is 0..{epochs - 1}"
            )
        norms = (train(norm=True),) if self.train_norm else ()
        top = (*norms, train(role="classifier"), train(role="head"))
        frozen = [Segment(at, Plan((*top, freeze())))] if at else []
        shares = [min(1.0, _FIRST * _GROWTH**epoch) for epoch in range(epochs - at)]
        spans = [(share, len(list(same))) for share, same in groupby(shares)]
        joined = [Segment(length, Plan((*top, Group(Selector(), share)))) for share, length in spans]
        return Recipe((*frozen, *joined))
