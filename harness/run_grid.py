"""The composition root: a grid goes in, run folders come out."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from harness import runtime
from harness.assist import assist
from harness.data.prepare import prepare_data
from harness.engine_run import Opening, TrainJobs, opened
from harness.errors import DataError, HarnessError, Locked
from harness.feature_keys import Conditions
from harness.grid_run import GridRun, settled
from harness.jobs import Job, check_names, plan_jobs
from harness.networks import Networks
from harness.placement import shared_budget
from harness.planner import group_cells
from harness.plugins import load_engine
from harness.pool import FeaturePool
from harness.progress import Progress
from harness.run_options import RunOptions
from harness.spec import DataSpec, Grid, TrainSpec
from harness.store import RunFolder

_VAIN = 3  # times that an engine may end and leave the same cells


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
    opening: Opening = opened,
) -> list[Outcome]:
    """Trains every cell of ``grid`` that isn't done; returns all of them in the grid's order.

    ``follow`` is given the folders of all cells before the first trains; ``opening`` opens what trains them.
    A cell that fails is recorded as failed and the others go on. Raises Locked where another process holds a
    cell and ``options.wait`` is false. In processes other than rank 0 of ``options.world`` nothing is
    written, nor returned.
    """
    run, jobs = prepare(grid, options, progress)
    if options.world.rank:
        assist(run, jobs)
        return []
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
        if todo:
            with opening(run, options, train_unit) as train:
                _train(train, todo, trained, options, progress)
    except BaseException as stopped:
        if not isinstance(stopped, Exception):  # Ctrl-C and the like
            progress.say(_standing(jobs, grid.train.epochs))
        raise
    options.world.tell(None)
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


def _train(
    train: TrainJobs, todo: list[Job], trained: set[str], options: RunOptions, progress: Progress
) -> None:
    """Until every cell of ``todo`` is settled; ``trained`` takes the names of those trained here."""
    vain = 0
    while todo:
        before = len(todo)
        trained |= train(todo)
        todo = [job for job in todo if not (settled(job.folder) or job.folder.name in trained)]
        if todo and not options.wait:
            raise Locked(f"{len(todo)} cells are being trained by another process: {todo[0].folder.name}")
        if todo and not todo[0].folder.free():
            progress.say(f"{todo[0].spec.label}: another process trains it, waiting for that")
            todo[0].folder.lock(wait=True)
            todo[0].folder.unlock()
        elif todo:  # left by a process that was stopped meanwhile, or by an engine
            vain = vain + 1 if len(todo) == before else 0
        if vain == _VAIN:
            raise HarnessError(f"{len(todo)} cells aren't trained, though the engine ended as if they were")


def _standing(jobs: Sequence[Job], epochs: int) -> str:
    """Where a grid stands that was stopped: cells that are done, and what is kept of those that aren't."""
    done = sum(settled(job.folder) for job in jobs)
    begun = [(job.spec.label, epoch) for job in jobs if (epoch := job.folder.kept_epoch())]
    kept = "".join(f"; {label} is kept up to epoch {epoch} of {epochs}" for label, epoch in begun[:3])
    more = f"; and {len(begun) - 3} more" if len(begun) > 3 else ""
    return f"stopped: {done} of {len(jobs)} cells are done{kept}{more}"


def prepare(grid: Grid, options: RunOptions, progress: Progress) -> tuple[GridRun, tuple[Job, ...]]:
    """Everything that is known before any image is decoded: samples, networks, one job a cell."""
    check_names(grid)
    run = _set_up(grid, options, progress)
    return run, plan_jobs(grid, run.data, run.networks, options.out, options.allow_random_frozen)


def _set_up(grid: Grid, options: RunOptions, progress: Progress) -> GridRun:
    """What does not depend on which cells a grid has."""
    world = options.world
    threads = options.threads or max(1, runtime.default_threads() // world.local_size)
    workers = options.workers or threads
    # Workers elsewhere have a device; this process only plans.
    chosen = "cpu" if load_engine(options.engine)[0].elsewhere else options.device
    device = world.place(runtime.choose_device(chosen))
    runtime.configure(threads, grid.train.precision, grid.train.deterministic)
    data = prepare_data(grid.data, options.data_path, workers)
    networks = Networks(len(data.table.class_names), device)
    mirrored = grid.train.flip and not grid.train.augment
    conditions = Conditions(device, grid.train.precision, grid.train.deterministic, mirrored)
    budget = options.cache_budget
    if options.processes > 1:
        budget = shared_budget(device, budget, options.processes)
    keep = options.keep_features and world.rank == 0
    pool = FeaturePool(data, conditions, workers, budget, keep, progress)
    return GridRun(grid, data, networks, pool, options, device, progress)


def train_unit(grid: Grid, options: RunOptions, cells: Sequence[str]) -> None:
    """What an engine's worker does: trains the cells of ``grid``, which are one group's.

    Raises DataError where they aren't the runs called ``cells``: it has other data, weights or code here.
    """
    run = replace(_kept_set_up(grid.data, grid.train, options), grid=grid)
    jobs = plan_jobs(grid, run.data, run.networks, options.out, options.allow_random_frozen)
    strange = sorted(set(cells) - {job.folder.name for job in jobs})
    if strange:
        raise DataError(
            f"data, weights or versions on {socket.gethostname()} aren't those that the grid was planned "
            f"with: there is no cell '{strange[0]}' there"
        )
    for group in group_cells((job, job.network) for job in jobs):
        run.train_group(group, 0, len(jobs))


@lru_cache(maxsize=1)
def _kept_set_up(data: DataSpec, train: TrainSpec, options: RunOptions) -> GridRun:
    """Samples and activations stay with a worker from one unit to the next."""
    return _set_up(Grid(data=data, train=train), options, Progress(quiet=True))
