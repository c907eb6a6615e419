"""Train the classifier first, then everything."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from harness.contracts import Plan, Recipe, Segment, StageInfo, freeze, train
from harness.errors import UsageError


@dataclass(frozen=True)
class FreezeUnfreeze:
    """The body is frozen for the first ``at`` epochs, then everything trains at the same learning rate.

    Flash keeps the optimizer and its state when the body joins, and so does this. It leaves norm layers
    of the frozen body trainable; here they are frozen and in eval mode unless ``train_norm`` is true.
    """

    source: ClassVar[str] = "Lightning Flash 0.8, strategy freeze_unfreeze"
    summary: ClassVar[str] = "the classifier for some epochs, then everything, one learning rate"

    at: int
    train_norm: bool = False

    def recipe(self, stages: Sequence[StageInfo], epochs: int) -> Recipe:
        if epochs < 2:
            raise UsageError("freeze_unfreeze: its two parts take 2 epochs or more")
        if not 1 <= self.at < epochs:
            raise UsageError(
                f"freeze_unfreeze[at={self.at}]: of {epochs} epochs at least one comes before the body is "
                f"unfrozen and one after it, so at is 1..{epochs - 1}"
            )
        norms = (train(norm=True),) if self.train_norm else ()
        frozen = Plan((*norms, train(role="classifier"), train(role="head"), freeze()))
        return Recipe((Segment(self.at, frozen), Segment(epochs - self.at, Plan((train(),)))))
