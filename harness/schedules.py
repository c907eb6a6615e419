"""Learning-rate schedules: the factor of the learning rate at each step."""

from __future__ import annotations

import math
from collections.abc import Callable

from harness.errors import UnknownName
from harness.spec import CHOICES

# torch.optim.lr_scheduler.OneCycleLR's defaults (Smith 2018), momentum left alone.
_WARM_UP = 0.3
_DIVIDE_FIRST = 25.0
_DIVIDE_LAST = 1e4


def schedule(name: str, steps: int) -> Callable[[int], float]:
    """Factor of the lr at step 0, 1, ... of ``steps``: ``constant``, ``cosine`` (to 0) or ``one-cycle``."""
    if name == "constant":
        return lambda step: 1.0
    if name == "cosine":
        return lambda step: 0.5 * (1 + math.cos(math.pi * step / steps))
    if name == "one-cycle":
        return lambda step: _one_cycle(step, steps)
    raise UnknownName("schedule", name, CHOICES["schedule"])


def _one_cycle(step: int, steps: int) -> float:
    first, last = 1 / _DIVIDE_FIRST, 1 / (_DIVIDE_FIRST * _DIVIDE_LAST)
    peak = _WARM_UP * steps - 1
    if step <= peak:
        return _anneal(first, 1.0, step / peak)
    return _anneal(1.0, last, (step - peak) / (steps - 1 - peak))


def _anneal(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))
