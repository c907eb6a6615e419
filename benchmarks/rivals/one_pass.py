"""D: all cells side by side in one pass over the images, without a cache, as DINOv2's linear evaluation.

Each batch goes once through the frozen stages, as deep as the deepest cut; every cell takes a step from it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from benchmarks.rivals.loop import Say, Trainee, decoded, train
from benchmarks.setting import Setting, open_setting
from benchmarks.work import Outcome, Phases, Work


def run(work: Work, say: Say) -> Outcome:
    phases = Phases()
    setting = open_setting(work)
    with phases.measure("decode"):
        images = decoded(setting)
    trainees = [Trainee(setting, cell) for cell in work.cells]
    inputs = _Forward(setting, sorted({t.cut for t in trainees}), images)
    return Outcome(tuple(train(setting, trainees, inputs, phases, say)), phases.seconds)


class _Forward:
    """From rows to the activations at every cut, each derived from the one before."""

    def __init__(self, setting: Setting, cuts: list[int], images: torch.Tensor) -> None:
        self._setting, self._images = setting, images
        model = setting.initial.to(setting.device).to(memory_format=torch.channels_last).eval()
        self._sections: list[tuple[int, nn.Module]] = [
            (cut, model.section(start, cut)) for start, cut in zip([0, *cuts], cuts, strict=False)
        ]

    def __call__(self, rows: torch.Tensor) -> Mapping[int, torch.Tensor]:
        x = self._images[rows].permute(0, 3, 1, 2)
        found = {}
        with torch.no_grad(), self._setting.autocast():
            for cut, section in self._sections:
                x = found[cut] = section(x)
        return found
