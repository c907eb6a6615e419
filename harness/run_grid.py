"""The composition root: a grid goes in, run folders come out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import runtime
from harness.data.prepare import prepare_data
from harness.errors import Locked
from harness.feature_keys import Conditions
from harness.grid_run import GridRun, RunOptions, settled
from harness.jobs import Job, Networks, check_names, plan_jobs
from harness.planner import group_cells
from harness.pool import FeaturePool
from harness.progress import Progress
from harness.spec import Grid
from harness.store import RunFolder


@dataclass(frozen=True)
class Outcome:
    """What came of a cell: its record, and whether it was trained now."""

    folder: RunFolder
    record: Mapping[str, Any]
    trained: bool


def run_grid(
    grid: Grid,
    options: RunOptions,
    progress: Progress,
    follow: Callable[[Iterable[Path]], object] = lambda folders: None,
) -> list[Outcome]:
    """Trains every cell of ``grid`` that isn't done; returns all of them in the grid's order.

    ``follow`` is given the folders of all cells before the first trains. A cell that fails is recorded as
    failed and the others go on. Raises Locked where another process holds a cell and ``options.wait`` is
    false.
    """
    run, jobs = prepare(grid, options, progress)
    options.out.mkdir(parents=True, exist_ok=True)  # what can't be written is said before hours of work
    follow([job.folder.path for job in jobs])
    todo = [job for job in jobs if not settled(job.folder)]
    for job in jobs:
        job.folder.tidy()
    if 0 < len(todo) < len(jobs):
        progress.say(f"{len(jobs) - len(todo)} of {len(jobs)} cells are done already")
    _say_older(jobs, options, progress)
    trained: set[str] = set()
    try:
        _train(run, todo, trained, options, progress)
    except BaseException as stopped:
        if not isinstance(stopped, Exception):  # Ctrl-C and the like
            progress.say(_standing(jobs, grid.train.epochs))
        raise
    return [Outcome(job.folder, job.folder.result(), job.folder.name in trained) for job in jobs]


def _say_older(jobs: Sequence[Job], options: RunOptions, progress: Progress) -> None:
    """Code isn't part of a cell's identity: an edited plugin doesn't train its done cells again."""
    done = [job for job in jobs if settled(job.folder)]
    records = [(job, (job.folder.result().get("digests") or {}).get("code")) for job in done]
    older = [job.folder.name for job, code in records if code and code != job.digests["code"]]
    if older:
        progress.say(
            f"{len(older)} of {len(records)} cells that are done come from other code (harness or a plugin "
            f"has changed): 'harness runs rm --out {options.out} {older[0]}' makes room to train one again, "
            "another --out all"
        )


def _train(run: GridRun, todo: list[Job], trained: set[str], options: RunOptions, progress: Progress) -> None:
    """Until every cell of ``todo`` is settled; ``trained`` takes the names of those trained here."""
    while todo:
        before = 0
        for group in group_cells((job, job.network) for job in todo):
            trained |= run.train_group(group, before, len(todo))
            before += len(group.cells)
        todo = [job for job in todo if not (settled(job.folder) or job.folder.name in trained)]
        if todo and not options.wait:
            raise Locked(f"{len(todo)} cells are being trained by another process: {todo[0].folder.name}")
        if todo:
            progress.say(f"{todo[0].spec.label}: another process trains it, waiting for that")
            todo[0].folder.lock(wait=True)
            todo[0].folder.unlock()


def _standing(jobs: Sequence[Job], epochs: int) -> str:
    """Where a grid stands that was stopped: cells that are done, and what is kept of those that aren't."""
    done = sum(settled(job.folder) for job in jobs)
    begun = [(job.spec.label, epoch) for job in jobs if (epoch := job.folder.kept_epoch())]
    kept = "".join(f"; {label} is kept up to epoch {epoch} of {epochs}" for label, epoch in begun[:3])
    more = f"; and {len(begun) - 3} more" if len(begun) > 3 else ""
    return f"stopped: {done} of {len(jobs)} cells are done{kept}{more}"


def prepare(grid: Grid, options: RunOptions, progress: Progress) -> tuple[GridRun, tuple[Job, ...]]:
    """Everything that is known before any image is decoded: samples, networks, one job a cell."""
    threads = options.threads or runtime.default_threads()
    workers = options.workers or threads
    device = runtime.choose_device(options.device)
    runtime.configure(threads, grid.train.precision, grid.train.deterministic)
    check_names(grid)
    data = prepare_data(grid.data, options.data_path, workers)
    networks = Networks(len(data.table.class_names), device)
    jobs = plan_jobs(grid, data, networks, options.out, options.allow_random_frozen)
    mirrored = grid.train.flip and not grid.train.augment
    conditions = Conditions(device, grid.train.precision, grid.train.deterministic, mirrored)
    pool = FeaturePool(data, conditions, workers, options.cache_budget, options.keep_features, progress)
    return GridRun(grid, data, networks, pool, options, device, progress), jobs
