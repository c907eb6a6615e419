"""Train everything whose gradients agree from batch to batch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from harness.contracts import GradientStatistics, Plan, Recipe, Segment, StageInfo, freeze, train
from harness.errors import UsageError


@dataclass(frozen=True)
class AutoSnr:
    """Before each epoch every tensor's signal-to-noise ratio, ``mean(g)^2 / var(g)`` over the gradients of
    ``batches`` training batches, mean over its elements, divided by the largest; in the epoch a tensor
    under ``threshold`` rests and the others train at the run's learning rate.

    Norm layers are skipped: frozen, their statistics still. The paper tunes the threshold for each task; a
    tenth is no more than a start. Deviations: the paper's ratio is over inputs, here over batches. The
    authors' code takes the variance over the first axis of each batch's gradient (a head's outputs) and the
    fixed threshold 0.95 without dividing by the largest: the gradients of a head's outputs sum to zero, so
    a new head would come out as (K - 1) / K for K classes and, up to 20 of them, never train. It also
    starts a new Adam every epoch; here the optimizer keeps its state.
    """

    source: ClassVar[str] = "Auto-SNR, Lee et al. 2023, arXiv:2210.11466"
    summary: ClassVar[str] = "everything but norm layers, tensors with noisy gradients resting for an epoch"

    threshold: float = 0.1
    batches: int = 5

    def recipe(self, stages: Sequence[StageInfo], epochs: int) -> Recipe:
        if not 0 <= self.threshold <= 1:
            raise UsageError(
                f"auto_snr[threshold={self.threshold}]: threshold is 0..1, a share of the largest"
            )
        if self.batches < 2:
            raise UsageError(f"auto_snr[batches={self.batches}]: noise shows in two batches or more")
        return Recipe((Segment(epochs, Plan((freeze(norm=True), train())), adapt=self),))

    def shares(self, seen: Mapping[str, GradientStatistics]) -> Mapping[str, float]:
        found = {name: s.signal_to_noise for name, s in seen.items()}
        ratios = {name: ratio for name, ratio in found.items() if ratio is not None}
        if len(ratios) < len(found):
            raise UsageError(
                "auto_snr: the training images make one batch, and noise shows in two or more; "
                "use a smaller --batch-size"
            )
        least = self.threshold * max(ratios.values(), default=0.0)
        return {name: 1.0 if ratio >= least else 0.0 for name, ratio in ratios.items()}
