"""The composition root: a grid goes in, run folders come out."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from harness import runtime
from harness.backbones.staged import StagedModel
from harness.data.prepare import PreparedData, image_source, prepare_data
from harness.errors import Locked
from harness.jobs import Job, Networks, check_names, plan_jobs
from harness.planner import Group, group_cells
from harness.prefix import Features, available_memory, compute_features
from harness.progress import Progress
from harness.run_cell import CellRun
from harness.spec import Grid
from harness.store import RunFolder

_IMAGES_SHARE = 0.25  # of the free memory may hold decoded images
_FEATURES_SHARE = 0.5  # and this much activations


@dataclass(frozen=True)
class RunOptions:
    """How and where a grid runs; nothing here changes a result on one machine type but ``threads``."""

    out: Path = Path("runs")
    data_path: Path | None = None
    device: str = "auto"
    threads: int | None = None
    workers: int | None = None
    wait: bool = True
    allow_random_frozen: bool = False
    argv: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What came of a cell: its record, and whether it was trained now."""

    folder: RunFolder
    record: Mapping[str, Any]
    trained: bool


def run_grid(grid: Grid, options: RunOptions, progress: Progress) -> list[Outcome]:
    """Trains every cell of ``grid`` that isn't done; returns all of them in the grid's order.

    A cell that fails is recorded as failed and the others go on. Raises Locked where another
    process holds a cell and ``options.wait`` is false.
    """
    threads = options.threads or runtime.default_threads()
    device = runtime.choose_device(options.device)
    runtime.configure(threads, grid.train.precision, grid.train.deterministic)
    check_names(grid)
    data = prepare_data(grid.data, options.data_path, options.workers or threads)
    networks = Networks(len(data.table.class_names), device)
    jobs = plan_jobs(grid, data, networks, options.out, options.allow_random_frozen)
    todo = [job for job in jobs if job.folder.status() != "done"]
    if 0 < len(todo) < len(jobs):
        progress.say(f"{len(jobs) - len(todo)} of {len(jobs)} cells are done already")
    context = _Context(grid, data, networks, options, device, options.workers or threads, progress)
    for group in group_cells((job, job.network, job.plan.cut) for job in todo):
        context.run_group(group)
    trained = {job.folder.name for job in todo}
    return [Outcome(job.folder, job.folder.result(), job.folder.name in trained) for job in jobs]


@dataclass(frozen=True)
class _Context:
    grid: Grid
    data: PreparedData
    networks: Networks
    options: RunOptions
    device: torch.device
    workers: int
    progress: Progress

    def run_group(self, group: Group[Job]) -> None:
        """One pass over the images, then every cell; cells that another process holds come last."""
        initial = self._initial(group.cells[0])
        self._announce(group.cells[0], initial)
        features, seconds = self._features(initial, group.cuts)
        timing = {"prefix_s": seconds, "prefix_shared_by": len(group.cells)}
        held = []
        for number, job in enumerate(group.cells, 1):
            title = f"[{number}/{len(group.cells)}] {job.spec.label}"
            if not self._try(job, features, timing, title, wait=False):
                held.append((job, title))
        if held and not self.options.wait:
            raise Locked(f"{len(held)} cells are being trained by another process: {held[0][0].folder.name}")
        for job, title in held:
            self.progress.say(f"{title}: another process trains it, waiting for that")
            self._try(job, features, timing, title, wait=True)

    def _initial(self, job: Job) -> StagedModel:
        return self.networks.get(*job.network, job.spec.seed)

    def _announce(self, job: Job, model: StagedModel) -> None:
        if not model.cuttable:
            self.progress.say(f"{job.spec.backbone} isn't known in stages: it trains without a shared prefix")
        random = [s.name for s in job.stages if any(not p.pretrained for p in s.parameters)]
        if len(random) > 1 and job.weights != "none":
            self.progress.say(f"at random initialisation (not in the weights): {', '.join(random)}")

    def _features(self, model: StagedModel, cuts: Sequence[int]) -> tuple[dict[int, Features], float]:
        """Activations at every cut, and the seconds they took."""
        count, names = len(self.data.table), model.stage_names
        began = time.perf_counter()
        with self.progress.task(f"decoding {count} images", count, "images") as task:
            budget = int(available_memory() * _IMAGES_SHARE)
            load = image_source(self.data.table, model.preprocess, self.workers, budget, task.advance)
        deepest = f"frozen prefix {names[0]}..{names[cuts[-1] - 1]}" if cuts[-1] else "images"
        with self.progress.task(f"{deepest} at {model.preprocess.size} px", count, "images") as task:
            features = compute_features(
                model,
                cuts,
                count,
                load,
                device=self.device,
                autocast=torch.bfloat16 if self.grid.train.precision == "bf16" else None,
                mirror=self.grid.train.flip,
                budget=int(available_memory() * _FEATURES_SHARE),
                progress=task.advance,
            )
        seconds = time.perf_counter() - began
        self.progress.say(f"{count} images decoded, {deepest}: {seconds:.1f} s")
        return features, seconds

    def _try(
        self,
        job: Job,
        features: Mapping[int, Features],
        timing: Mapping[str, float],
        title: str,
        *,
        wait: bool,
    ) -> bool:
        """Trains a cell under its lock; False where another process has it."""
        try:
            job.folder.lock(wait)
        except Locked:
            return False
        try:
            if job.folder.status() != "done":
                CellRun(
                    job=job,
                    data=self.data,
                    features=features[job.plan.cut],
                    timing=timing,
                    device=self.device,
                    suite=self.grid.suite,
                    argv=self.options.argv,
                    progress=self.progress,
                    title=title,
                ).run(self._initial(job))
            return True
        finally:
            job.folder.unlock()
