"""What the harness's pass and its epochs cost beside the bare network in a loop, in the same process."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

import torch

from benchmarks.rivals.loop import Trainee
from benchmarks.setting import Setting, open_setting
from benchmarks.work import Cell, Outcome, Work
from harness.data.decode import load_images

_BATCH = 64  # the harness's batch shape for the frozen pass
_TIMES = 10
_ENOUGH_S = 5.0
_TABLE_BYTES = 2**30  # enough rows that the cache of a processor doesn't hold them


def probe(work: Work, outcome: Outcome) -> dict[str, Any]:
    """Rates and shares, by name.

    ``pass_rate`` and ``bare_rate`` are images a second. By strategy: ``epoch_s`` of the harness (median),
    ``bare_epoch_s`` of the same steps and evaluations on a batch that lies ready, ``gather_s`` to pick an
    epoch's batches from the rows.
    """
    setting = open_setting(work)
    setting.initial.to(setting.device).to(memory_format=torch.channels_last)
    pixels = load_images(setting.paths[:_BATCH], setting.initial.preprocess, work.threads)
    pixels = pixels.repeat(-(-_BATCH // len(pixels)), 1, 1, 1)[:_BATCH].to(setting.device)
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    cuts = {strategy: setting.cut(Cell(strategy, work.lrs[0])) for strategy in work.strategies}
    epochs = outcome.extra["epoch_s"]
    each = len(epochs) // len(work.strategies)
    return {
        "pass_rate": len(setting.paths) / outcome.phases["prefix"] if outcome.phases["prefix"] else None,
        "decoding_in_pass": "decode" not in outcome.phases,
        "bare_rate": _BATCH / _bare_pass(setting, pixels, max(cuts.values())),
        "epochs": {
            strategy: {
                "epoch_s": median(epochs[i * each : (i + 1) * each]),
                **_bare_epoch(setting, strategy, pixels, cut),
            }
            for i, (strategy, cut) in enumerate(cuts.items())
        },
    }


def _seconds(setting: Setting, action: Callable[[], object]) -> float:
    """The median of several times, after one that warms up; fewer of what takes long."""
    found: list[float] = []
    while len(found) < 2 or (len(found) <= _TIMES and sum(found) < _ENOUGH_S):
        began = perf_counter()
        action()
        setting.wait()
        found.append(perf_counter() - began)
    return median(found[1:])


def _bare_pass(setting: Setting, pixels: torch.Tensor, cut: int) -> float:
    prefix = setting.initial.eval().section(0, cut)
    with torch.inference_mode(), setting.autocast():
        return _seconds(setting, lambda: prefix(pixels))


def _bare_epoch(setting: Setting, strategy: str, pixels: torch.Tensor, cut: int) -> dict[str, float]:
    work = setting.work
    with torch.no_grad(), setting.autocast():
        x = setting.initial.eval().section(0, cut)(pixels)
    labels = (torch.arange(_BATCH) % 2).to(setting.device)
    size = work.batch_size
    batch, y = x[:1].expand(size, *x.shape[1:]), labels[:1].expand(size)
    if x.dim() == 4:
        batch = batch.contiguous(memory_format=torch.channels_last)
    trainee = Trainee(setting, Cell(strategy, work.lrs[-1]))
    step = _seconds(setting, lambda: trainee.step(batch, y, 1, 0))
    trainee.suffix.eval()
    with torch.inference_mode():
        evaluation = _seconds(setting, lambda: trainee.right(x, labels))
    steps, evaluations = -(-len(setting.train) // size), -(-len(setting.val) // _BATCH)
    return {  # a last, smaller batch counts by its share of a step
        "bare_epoch_s": len(setting.train) / size * step + evaluations * evaluation,
        "gather_s": steps * _gather(setting, x),
    }


def _gather(setting: Setting, x: torch.Tensor) -> float:
    row = x[0].permute(1, 2, 0) if x.dim() == 4 else x[0]
    count = max(1, min(len(setting.paths), _TABLE_BYTES // (row.numel() * row.element_size())))
    rows = row.expand(count, *row.shape).contiguous()
    index = torch.randint(count, (setting.work.batch_size,), device=rows.device)
    return _seconds(setting, lambda: rows[index])
