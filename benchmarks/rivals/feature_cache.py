"""C: every run computes the features at its own cut once and trains on them, as CLIP_benchmark's probe.

Runs share nothing: each decodes (with the harness's decoder, on all cores) and computes for itself.
"""

from __future__ import annotations

from functools import partial

import torch

from benchmarks.rivals.loop import Say, Trainee, decoded, train
from benchmarks.setting import Setting, open_setting
from benchmarks.work import CellResult, Outcome, Phases, Work


def run(work: Work, say: Say) -> Outcome:
    phases = Phases()
    setting = open_setting(work)
    results: list[CellResult] = []
    for cell in work.cells:
        trainee = Trainee(setting, cell)
        features = _features(setting, trainee, phases)
        say(f"{cell.label}: features computed")
        inputs = partial(_pick, cut=trainee.cut, features=features)
        results += train(setting, [trainee], inputs, phases, say)
    return Outcome(tuple(results), phases.seconds)


def _features(setting: Setting, trainee: Trainee, phases: Phases) -> torch.Tensor:
    """Channels last like the images: a batch is gathered row by row and needs no transposition."""
    with phases.measure("decode"):
        images = decoded(setting)
    features = torch.empty(0)
    with phases.measure("prefix"), torch.no_grad(), setting.autocast():
        for start in range(0, len(images), setting.work.batch_size):
            part = trainee.prefix(images[start : start + setting.work.batch_size].permute(0, 3, 1, 2))
            rows = part.permute(0, 2, 3, 1) if part.dim() == 4 else part
            if start == 0:
                features = rows.new_empty(len(images), *rows.shape[1:])
            features[start : start + len(rows)] = rows
        setting.wait()
    return features


def _pick(rows: torch.Tensor, cut: int, features: torch.Tensor) -> dict[int, torch.Tensor]:
    picked = features[rows]
    return {cut: picked.permute(0, 3, 1, 2) if picked.dim() == 4 else picked}
