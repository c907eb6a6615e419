"""Learning-rate schedules: the factor of the learning rate at each step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from harness.contracts import OneCycle, Schedule
from harness.errors import UnknownName

# torch.optim.lr_scheduler.OneCycleLR's defaults (Smith 2018), momentum left alone.
_WARM_UP = 0.3
_DIVIDE_FIRST = 25.0
_DIVIDE_LAST = 1e4
# Howard & Ruder 2018.
_CUT = 0.1
_RATIO = 32.0


def schedule(kind: Schedule, steps: int) -> Callable[[int], float]:
    """Factor of the lr at step 0, 1, ... of ``steps``.

    ``constant``, ``cosine`` (to 0), ``one-cycle`` (torch's), ``slanted-triangular`` (ULMFiT's), or the
    shape of a cycle (fastai's).
    """
    if isinstance(kind, OneCycle):
        return lambda step: _cycle(kind, step / steps)
    if kind not in _NAMED:
        raise UnknownName("schedule", kind, _NAMED)
    factor = _NAMED[kind]
    return lambda step: factor(step, steps)


def _constant(step: int, steps: int) -> float:
    return 1.0


def _cosine(step: int, steps: int) -> float:
    return 0.5 * (1 + math.cos(math.pi * step / steps))


def _one_cycle(step: int, steps: int) -> float:
    first, last = 1 / _DIVIDE_FIRST, 1 / (_DIVIDE_FIRST * _DIVIDE_LAST)
    peak = _WARM_UP * steps - 1
    if step <= peak:
        return _anneal(first, 1.0, step / peak)
    return _anneal(1.0, last, (step - peak) / (steps - 1 - peak))


def _slanted_triangular(step: int, steps: int) -> float:
    """The paper's formula where a tenth of ``steps`` is whole; else the way down still ends at 1 / ratio."""
    cut = math.floor(_CUT * steps)
    share = step / cut if step < cut else 1 - (step - cut) / (steps - cut)
    return (1 + share * (_RATIO - 1)) / _RATIO


def _cycle(shape: OneCycle, share: float) -> float:
    """At a ``share`` of the steps."""
    if share < shape.rise:
        return _anneal(1 / shape.first, 1.0, share / shape.rise)
    return _anneal(1.0, 1 / shape.last, (share - shape.rise) / (1 - shape.rise))


def _anneal(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))


_NAMED: Mapping[str, Callable[[int, int], float]] = {
    "constant": _constant,
    "cosine": _cosine,
    "one-cycle": _one_cycle,
    "slanted-triangular": _slanted_triangular,
}
