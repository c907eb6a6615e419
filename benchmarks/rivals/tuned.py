"""B: a loop as someone tunes it who trains cell after cell.

The images are decoded once in all and stay in memory, on the device; channels last, fused Adam, the
frozen part without a graph. Nothing that was computed is used twice.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from benchmarks.rivals.loop import Say, Trainee, decoded, train
from benchmarks.setting import Setting, open_setting
from benchmarks.work import Outcome, Phases, Work


def run(work: Work, say: Say) -> Outcome:
    phases = Phases()
    setting = open_setting(work)
    with phases.measure("decode"):
        images = decoded(setting)
    results = []
    for cell in work.cells:
        inputs = _Forward(setting, trainee := Trainee(setting, cell), images)
        results += train(setting, [trainee], inputs, phases, say)
    return Outcome(tuple(results), phases.seconds)


class _Forward:
    """From rows to what goes into one cell's suffix, by its own frozen prefix, each time again."""

    def __init__(self, setting: Setting, trainee: Trainee, images: torch.Tensor) -> None:
        self._setting, self._trainee, self._images = setting, trainee, images

    def __call__(self, rows: torch.Tensor) -> Mapping[int, torch.Tensor]:
        with torch.no_grad(), self._setting.autocast():
            pixels = self._images[rows].permute(0, 3, 1, 2)
            return {self._trainee.cut: self._trainee.prefix(pixels)}
