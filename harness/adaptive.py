"""Learning rates that follow the gradients: what a strategy is told before an epoch, what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class GradientStatistics:
    """What a look at some training batches says of one parameter tensor ``w`` with gradients ``g``.

    ``gradient_norm`` is ``|g|``, its mean over the batches, and ``weight_norm`` is ``|w|`` (Euclidean,
    0 and more). ``signal_to_noise`` is the mean over the tensor's elements of ``mean(g)^2 / var(g)``,
    mean and (unbiased) variance over the batches, 0 for an element whose gradients are all alike; it
    is None where there is only one batch.
    """

    gradient_norm: float
    weight_norm: float
    signal_to_noise: float | None


class Adaptation(Protocol):
    """Sets the learning rates of a segment anew before each of its epochs.

    Two that do the same are equal (a frozen dataclass). Before an epoch ``batches`` of training images
    are drawn, in an order of their own, and nothing is learned from them.
    """

    @property
    def batches(self) -> int: ...

    def shares(self, seen: Mapping[str, GradientStatistics]) -> Mapping[str, float]:
        """For each tensor that the segment trains, by name, the share of its learning rate in this epoch.

        A share is 0 or more and depends on nothing but ``seen``; at 0 the tensor rests for an epoch.
        """
        ...
