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
from harness.trainer import DIVERGED

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
    options.out.mkdir(parents=True, exist_ok=True)  # what can't be written is said before hours of work
    todo = [job for job in jobs if not _settled(job.folder)]
    if 0 < len(todo) < len(jobs):
        progress.say(f"{len(jobs) - len(todo)} of {len(jobs)} cells are done already")
    context = _Context(grid, data, networks, options, device, options.workers or threads, progress)
    trained: set[str] = set()
    while todo:
        for group in group_cells((job, job.network) for job in todo):
            trained |= context.run_group(group)
        todo = [job for job in todo if not (_settled(job.folder) or job.folder.name in trained)]
        if todo and not options.wait:
            raise Locked(f"{len(todo)} cells are being trained by another process: {todo[0].folder.name}")
        if todo:
            progress.say(f"{todo[0].spec.label}: another process trains it, waiting for that")
            todo[0].folder.lock(wait=True)
            todo[0].folder.unlock()
    return [Outcome(job.folder, job.folder.result(), job.folder.name in trained) for job in jobs]


def _settled(folder: RunFolder) -> bool:
    """Whether training again would change nothing: it is done, or diverged, which is as repeatable."""
    status = folder.status()
    return status == "done" or (status == "failed" and str(folder.result()["error"]).startswith(DIVERGED))


@dataclass(frozen=True)
class _Context:
    grid: Grid
    data: PreparedData
    networks: Networks
    options: RunOptions
    device: torch.device
    workers: int
    progress: Progress

    def run_group(self, group: Group[Job]) -> set[str]:
        """One pass over the images, then every cell that no other process holds; names of the trained."""
        # By seed: cells of one seed start from one network, built once.
        ready = (job for job in group.cells if job.folder.free() and not _settled(job.folder))
        jobs = sorted(ready, key=lambda job: job.spec.seed)
        if not jobs:
            return set()
        initial = self._initial(jobs[0])
        self._announce(jobs[0], initial)
        features, seconds = self._features(initial, sorted({job.plan.cut for job in jobs}))
        trained = set()
        for number, job in enumerate(jobs, 1):
            # At cut 0 there is no prefix: what was decoded for others is not this cell's cost.
            timing = {"prefix_s": seconds if job.plan.cut else 0.0, "prefix_shared_by": len(jobs)}
            title = f"[{number}/{len(jobs)}] {job.spec.label}"
            if self._try(job, features, timing, title):
                trained.add(job.folder.name)
        return trained

    def _initial(self, job: Job) -> StagedModel:
        return self.networks.get(*job.network, job.spec.seed)

    def _announce(self, job: Job, model: StagedModel) -> None:
        if not model.cuttable:
            self.progress.say(f"{job.spec.backbone} isn't known in stages: it trains without a shared prefix")
        random = [s.name for s in job.stages if any(not p.pretrained for p in s.parameters)]
        if len(random) > 1 and job.weights != "none" and job.plan.recipe.init == "pretrained":
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
    ) -> bool:
        """Trains a cell under its lock; False where another process has it or has done it."""
        try:
            job.folder.lock(wait=False)
        except Locked:
            return False
        try:
            if _settled(job.folder):
                return False
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
