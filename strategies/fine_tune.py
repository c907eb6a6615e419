"""fastai's fine_tune."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from harness.contracts import Group, OneCycle, Plan, Recipe, Segment, Selector, StageInfo, freeze, train
from harness.errors import UsageError

_HALF = 0.5
_SPREAD = 100.0  # the last group's learning rate over the first one's
_FROZEN_NORMS = 0.1


@dataclass(frozen=True)
class FineTune:
    """``frozen_epochs`` of the classifier, then everything at half the learning rate, spread over the stages.

    Each part is a one-cycle policy of its own, with fastai's shapes. In the second the classifier has
    half the run's rate, the first body stage a hundredth of that, and the stages between them are spaced
    geometrically. The optimizer is kept.

    Deviations from fastai: its parameter groups are two or three parts of a network, here every stage
    below the classifier is one; the classifier is the network's own; the momentum isn't cycled; norm
    layers are frozen with their stage unless ``train_norm`` is true (they then train at a tenth of the
    rate, as in fastai).
    """

    source: ClassVar[str] = "fastai 2, Learner.fine_tune; Howard & Gugger 2020, arXiv:2002.04688"
    summary: ClassVar[str] = "the classifier for an epoch, then everything, lower stages slower, one-cycle"

    frozen_epochs: int = 1
    train_norm: bool = False

    def recipe(self, stages: Sequence[StageInfo], epochs: int) -> Recipe:
        below = [s.name for s in stages if s.parameters and s.role not in ("classifier", "head")]
        if not below:
            raise UsageError("fine_tune: this backbone has nothing to freeze below its classifier")
        if epochs < 2:
            raise UsageError("fine_tune: its two parts take 2 epochs or more")
        if not 1 <= self.frozen_epochs < epochs:
            raise UsageError(
                f"fine_tune[frozen_epochs={self.frozen_epochs}]: both parts need at least one of the "
                f"{epochs} epochs, so frozen_epochs is 1..{epochs - 1}"
            )
        norms = (Group(Selector(norm=True), _FROZEN_NORMS),) if self.train_norm else ()
        frozen = Plan((train(role="classifier"), train(role="head"), *norms, freeze()))
        step = _SPREAD ** (1 / len(below))
        spread = [Group(Selector(stage=n), _HALF / _SPREAD * step**i) for i, n in enumerate(below)]
        return Recipe(
            (
                Segment(self.frozen_epochs, frozen, schedule=OneCycle(rise=0.99)),
                Segment(
                    epochs - self.frozen_epochs,
                    Plan((*spread, Group(Selector(), _HALF))),
                    schedule=OneCycle(rise=0.3, first=5.0),
                ),
            )
        )
