"""What the harness's pass and its epochs cost beside the bare network in a loop, turn by turn."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch.nn import functional as F

from benchmarks.setting import Setting, grid_of, open_setting, options_of
from benchmarks.work import Cell, Outcome, Work
from harness.backbones.staged import StagedModel
from harness.cache_dir import cache_dir
from harness.cell import TrainData
from harness.feature_keys import PLAIN
from harness.features import BATCH
from harness.grid_run import GridRun
from harness.jobs import Job
from harness.optimizers import make_optimizer
from harness.pool import loader
from harness.prefix import compute_prefix, row_shapes
from harness.progress import Progress
from harness.run_grid import prepare
from harness.trainer import Failed, fit_together

_PAIRS = 40  # turns of each side, at most
_FEWEST = 5
_ENOUGH_S = 12.0  # that all turns of a comparison may take, once there are the fewest
_PASS_S = 1.0  # of the bare network in one turn


def probe(work: Work, outcome: Outcome) -> dict[str, Any]:
    """Rates and shares, by name.

    ``pass_rate`` and ``bare_rate`` are images a second, ``pass_share`` is the median of their ratios.
    By strategy: ``epoch_s`` of the harness with all that it writes, ``bare_epoch_s`` of the same steps and
    evaluations on batches that lie ready, ``beside`` the median share of an epoch that isn't those,
    ``gather_s`` to pick an epoch's batches from the kept rows.
    """
    setting = open_setting(work)
    cache_dir().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_dir()) as out:
        grid = grid_of(work)
        grid = replace(grid, lrs=grid.lrs[-1:], train=replace(grid.train, epochs=_PAIRS + 1))
        run, jobs = prepare(grid, options_of(work, Path(out)), Progress(quiet=True))
        initial = run.initial(jobs[0])
        data, _ = run.train_data(initial, jobs)
        return {
            "decoding_in_pass": "decode" not in outcome.phases,
            **_pass(run, initial, tuple(sorted({job.plan.cut for job in jobs})), setting.wait),
            "epochs": {
                strategy: _epochs(setting, run, job, data)
                for strategy, job in zip(work.strategies, jobs, strict=True)
            },
        }


def _turns(
    wait: Callable[[], None], ours: Callable[[], object], bare: Callable[[], object]
) -> list[tuple[float, float]]:
    """Seconds of both, turn by turn, after one turn that warms up."""
    found: list[tuple[float, float]] = []
    while len(found) <= _FEWEST or (len(found) < _PAIRS and sum(map(sum, found)) < _ENOUGH_S):
        found.append((_seconds(wait, ours), _seconds(wait, bare)))
    return found[1:]


def _seconds(wait: Callable[[], None], action: Callable[[], object]) -> float:
    wait()
    began = perf_counter()
    action()
    wait()
    return perf_counter() - began


def _pass(
    run: GridRun, initial: StagedModel, cuts: tuple[int, ...], wait: Callable[[], None]
) -> dict[str, float]:
    """The frozen pass to every cut, kept, against the stages down to the deepest in a loop."""
    device, autocast = run.device, run.pool.conditions.autocast
    load, count = loader(run.pool.images(initial), PLAIN), len(run.data.table)
    network = initial.eval().section(0, cuts[-1])

    def bare(batches: int) -> None:
        with (
            torch.inference_mode(),
            torch.autocast(device.type, dtype=autocast, enabled=autocast is not None),
        ):
            for start in range(0, batches * BATCH, BATCH):
                network(load(start, min(start + BATCH, count)).to(device))

    bare(1)
    batches = max(1, min(count // BATCH, round(_PASS_S / _seconds(wait, lambda: bare(1)))))
    rows, shapes = min(count, batches * BATCH), row_shapes(initial, cuts, autocast)
    stores = {c: torch.empty((rows, *shapes[c][0]), dtype=shapes[c][1], device=device) for c in cuts}
    turns = _turns(
        wait,
        lambda: compute_prefix(initial, 0, stores, load, device=device, autocast=autocast),
        lambda: bare(batches),
    )
    return {
        "pass_rate": rows / median(ours for ours, _ in turns),
        "bare_rate": rows / median(alone for _, alone in turns),
        "pass_share": median(alone / ours for ours, alone in turns),
    }


def _epochs(setting: Setting, run: GridRun, job: Job, data: TrainData) -> dict[str, float]:
    """Epochs of one cell as the harness trains it, and the same steps on batches that lie ready."""
    cell_run = run.cell_run(job, data, {"decode_s": 0.0, "prefix_s": 0.0}, job.spec.label)
    cell, _ = cell_run.begin(run.initial(job))
    states = fit_together([cell], data, [None])

    def ours() -> None:
        state = next(states)
        if isinstance(state, Failed):
            raise state.error
        cell_run.epoch(state)

    source, size = data.features[job.plan.cut], setting.work.batch_size
    batches = data.train.split(size)
    ready = {
        len(rows): (source.batch(rows, run.device), data.labels[rows].to(run.device)) for rows in batches
    }
    val = source.batch(data.val[:1].repeat(BATCH), run.device)
    bare = _Bare(setting, job)
    evaluations = -(-len(data.val) // BATCH)
    turns = _turns(
        setting.wait, ours, lambda: bare.epoch([ready[len(rows)] for rows in batches], [val] * evaluations)
    )
    gather = [
        _seconds(setting.wait, lambda: [source.batch(rows, run.device) for rows in batches])
        for _ in range(_FEWEST)
    ]
    return {
        "epoch_s": median(mine for mine, _ in turns),
        "bare_epoch_s": median(alone for _, alone in turns),
        "beside": median(1 - alone / mine for mine, alone in turns),
        "gather_s": median(gather),
    }


class _Bare:
    """A cell's suffix and its optimizer, and nothing around them."""

    def __init__(self, setting: Setting, job: Job) -> None:
        cell = Cell(job.spec.strategy, job.spec.lr)
        self._suffix = setting.network(cell).to(memory_format=torch.channels_last).suffix
        self._autocast = setting.autocast
        parameters = dict(self._suffix.named_parameters())
        scales = dict.fromkeys(parameters, 1.0)
        self._optimizer, _ = make_optimizer("adam", parameters, scales, job.spec.lr, 0.0)

    def epoch(
        self, batches: Sequence[tuple[torch.Tensor, torch.Tensor]], evaluations: Sequence[torch.Tensor]
    ) -> None:
        self._suffix.train()
        for x, labels in batches:
            with self._autocast():
                logits = self._suffix(x)
            loss = F.cross_entropy(logits.float(), labels)
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self._optimizer.step()
        self._suffix.eval()
        with torch.inference_mode(), self._autocast():
            for x in evaluations:
                self._suffix(x)
