"""What was written, read back and held against the trained network on real images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from harness.export.network import Compute, Network, in_own_shape


@dataclass(frozen=True)
class Parity:
    """How far the logits of ``images`` images are from the trained network's, and how often the class agrees.

    ``difference`` is the largest absolute difference of a logit, ``scale`` the largest absolute logit (1 at
    least). ``as_recorded`` counts the classes that the run recorded for these images, None where it didn't.
    """

    images: int
    difference: float
    scale: float
    agree: int
    as_recorded: int | None

    def within(self, tolerance: float) -> bool:
        """Whether the difference is at most ``tolerance`` times the scale."""
        return self.difference <= tolerance * self.scale and math.isfinite(self.difference)


def compare(
    network: Network, compute: Compute, images: torch.Tensor, recorded: Sequence[int] | None
) -> Parity:
    """Runs uint8 ``images`` through both: all at once, and the first one alone, so in two shapes of a batch.

    ``recorded`` are the classes that the run's own test gave them.
    """
    wanted = in_own_shape(network.module, images)
    with torch.no_grad():
        together, alone = compute(images), compute(images[:1])
    difference = max(_apart(together, wanted), _apart(alone, wanted[:1]))
    classes = together.argmax(1)
    return Parity(
        images=len(images),
        difference=difference,
        scale=max(1.0, float(wanted.abs().max())),
        agree=int((classes == wanted.argmax(1)).sum()),
        as_recorded=None if recorded is None else int((classes == torch.tensor(recorded)).sum()),
    )


def _apart(found: torch.Tensor, wanted: torch.Tensor) -> float:
    if found.shape != wanted.shape:
        return math.inf
    return float((found.double() - wanted.double()).abs().max())


def as_facts(parity: Parity, tolerance: float) -> Mapping[str, float | int | None]:
    """As JSON's types."""
    return {
        "images": parity.images,
        "max_abs_difference": parity.difference,
        "largest_logit": parity.scale,
        "tolerance": tolerance,
        "same_class": parity.agree,
        "class_as_recorded": parity.as_recorded,
    }
