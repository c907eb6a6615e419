"""A grid on an engine: units of work go out, run folders are watched, lost cells get a reason."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.dispatch import SAVED, CellLoad, GroupLoad, dispatch, helpers
from harness.errors import HarnessError
from harness.grid_run import GridRun
from harness.jobs import Job
from harness.loads import group_loads
from harness.planner import group_cells
from harness.plugins import load_engine
from harness.progress import Progress
from harness.run_options import RunOptions
from harness.runtime import default_threads
from harness.store import RESULT
from harness.units import CellKey, Join, Joinable, TrainUnit, UnitTask
from harness.work import Again, Ended, Engine, Need, Unit, Workers

TrainJobs = Callable[[Sequence[Job]], set[str]]
Opening = Callable[[GridRun, RunOptions, TrainUnit], AbstractContextManager[TrainJobs]]

_LOOK = 0.2  # seconds between looks at the run folders
_LOOKING = 0.05  # of the time may go into looks
JOINING = (
    "a worker that no unit is left for joins a group in which cells wait that take at least "
    f"{1 + 2 * SAVED:g} times what their pass over the images takes"
)
_CARRIED = ("TORCH_HOME", "HF_HOME")  # beside what begins with HARNESS_


@contextmanager
def opened(run: GridRun, options: RunOptions, train: TrainUnit) -> Iterator[TrainJobs]:
    """What trains jobs, and returns the names of those it trained: this process or an engine's workers."""
    engine, name = load_engine(options.engine)
    with opened_on(engine, name, run, options, train) as jobs:
        yield jobs


@contextmanager
def opened_on(
    engine: Engine, name: str, run: GridRun, options: RunOptions, train: TrainUnit
) -> Iterator[TrainJobs]:
    """The same for an engine that is at hand; ``name`` is what it is called in what is said."""
    threads = options.threads or default_threads()
    with engine.open(Need(threads, options.device, options.out.absolute())) as workers:
        if workers.count:
            yield EngineRun(run, options, train, workers, name, threads)
        else:
            yield lambda jobs: _here(run, jobs)


def _here(run: GridRun, jobs: Sequence[Job]) -> set[str]:
    trained: set[str] = set()
    before = 0
    for group in group_cells((job, job.network) for job in jobs):
        trained |= run.train_group(group, before, len(jobs))
        before += len(group.cells)
    return trained


@dataclass(frozen=True)
class EngineRun:
    """Has an engine's ``workers`` train jobs, and says what they do."""

    run: GridRun
    options: RunOptions
    train: TrainUnit
    workers: Workers
    name: str
    threads: int

    def __call__(self, jobs: Sequence[Job]) -> set[str]:
        """Names of the cells that were trained, or given up. Raises what stopped a worker."""
        progress = self.run.progress
        groups = group_cells((job, job.network) for job in jobs)
        loads = group_loads(self.run, groups)
        found = dispatch(loads, self.workers.count)
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        where = f"engine {self.name}, {self.workers.count} workers of {threads}"
        progress.say(f"{where}: {len(jobs)} cells in {len(found.units)} units")
        for reason in found.reasons:
            progress.say(reason)
        watch = _Watch(progress, {job.folder.name: job for job in jobs})
        joins = self._joins(loads, len(found.units))
        if joins:
            progress.say(JOINING)
        lost = self._pass([unit.cells for unit in found.units], watch, joins)
        if any(len(left) > 1 for left, _ in lost):
            count = sum(len(left) for left, _ in lost)
            progress.say(f"{count} cells are left of units whose workers were lost: each by itself now")
            lost = self._pass([(job,) for left, _ in lost for job in left], watch)
        for left, reason in lost:
            self.run.fail(left, HarnessError(reason), wait=True)
        watch.look()
        return watch.ended

    def _joins(self, loads: Sequence[GroupLoad[Job]], units: int) -> list[Join]:
        """What comes after ``units`` in the queue, for workers that find none left."""
        count = helpers(units, self.workers.count)
        sound = [[cell for cell in load.cells if not cell.cell.fault] for load in loads] if count else []
        groups = tuple(self._joinable(cells) for cells in sound if len(cells) > 1)
        return [Join(groups)] * count if groups else []

    def _joinable(self, cells: Sequence[CellLoad[Job]]) -> Joinable:
        return Joinable(
            self.task([cell.cell for cell in cells]),
            tuple(_key(cell.cell) for cell in cells),
            tuple(cell.suffix for cell in cells),
            tuple(cell.prefix for cell in cells),
        )

    def _pass(
        self, units: Sequence[Sequence[Job]], watch: _Watch, joins: Sequence[Join] = ()
    ) -> list[tuple[list[Job], str]]:
        """Runs units to their end; the jobs that lost ones left undone, and why."""
        lost, waiting = [], len(units)
        tasks: list[Unit] = [*(self.task(jobs) for jobs in units), *joins]
        for ended in self.workers.run(tasks):
            watch.look(in_time=not isinstance(ended, Ended))
            if isinstance(ended, Again):
                self._say_again(ended)
            elif ended is not None:
                if ended.stop is not None:
                    error = HarnessError(ended.stop.text)
                    error.exit_code = ended.stop.code
                    raise error
                waiting -= bool(ended.unit.cells)
                if ended.lost:
                    lost.append((ended.unit.cells, ended.lost))
            if not waiting and watch.jobs.keys() == watch.ended:
                break  # what may still start would find nothing to join
        return watch.left(lost)

    def _say_again(self, lost: Again) -> None:
        count = len(lost.unit.cells)
        what = f"a unit of {count} cell{'s' if count > 1 else ''}" if count else "one that helps others"
        self.run.progress.say(f"{what}: {lost.reason}; attempt {lost.attempt} of {lost.attempts}")

    def task(self, jobs: Sequence[Job]) -> UnitTask:
        """Jobs of one group as a unit."""
        spec = jobs[0].spec  # of one backbone and head, which a group has in common
        grid = replace(
            self.run.grid,
            backbones=(spec.backbone,),
            weights={spec.backbone: jobs[0].weights},
            heads=(spec.head,),
            strategies=tuple(dict.fromkeys(job.spec.strategy for job in jobs)),
            lrs=tuple(dict.fromkeys(job.spec.lr for job in jobs)),
            seeds=tuple(dict.fromkeys(job.spec.seed for job in jobs)),
            only=frozenset(map(_key, jobs)),
        )
        options = replace(
            self.options, threads=self.threads, engine="local", processes=self.workers.beside, wait=False
        )
        carried = {k: v for k, v in os.environ.items() if k.startswith("HARNESS_") or k in _CARRIED}
        names = tuple(job.folder.name for job in jobs)
        return UnitTask(names, self.train, grid, options, Path.cwd(), tuple(carried.items()))


@dataclass
class _Watch:
    """Looks for records that weren't there, and says what they hold: a line for each cell."""

    progress: Progress
    jobs: dict[str, Job]
    ended: set[str] = field(default_factory=set)
    _before: dict[str, object] = field(default_factory=dict)
    _next: float = 0.0

    def __post_init__(self) -> None:
        self._before = {name: _stamp(job) for name, job in self.jobs.items()}

    def look(self, in_time: bool = False) -> None:
        """Looks; with ``in_time`` only if the last look was some time ago."""
        began = time.monotonic()
        if in_time and began < self._next:
            return
        for name in self.jobs.keys() - self.ended:
            stamp = _stamp(self.jobs[name])
            if stamp is not None and stamp != self._before[name]:
                self.ended.add(name)
                self._say(self.jobs[name])
        now = time.monotonic()
        self._next = now + max(_LOOK, (now - began) / _LOOKING)

    def left(self, lost: Sequence[tuple[Sequence[str], str]]) -> list[tuple[list[Job], str]]:
        """Of the cells that lost units had, each once, those that nobody has ended since.

        What joined others (no cells) may have had any that nobody is at.
        """
        seen, found = set(self.ended), []
        for names, reason in sorted(lost, key=lambda unit: not unit[0]):
            left = [n for n in names or self.jobs if n not in seen and (names or self.jobs[n].folder.free())]
            seen.update(left)
            if left:
                found.append(([self.jobs[name] for name in left], reason))
        return found

    def _say(self, job: Job) -> None:
        record = job.folder.result()
        if record["status"] == "done":
            accuracy = (record["val"] or {}).get("accuracy")
            text = f"validation accuracy {100 * accuracy:.2f} %" if accuracy is not None else "done"
        else:
            text = record["error"]
        self.progress.say(f"[{len(self.ended)}/{len(self.jobs)}] {job.spec.label}: {text}")


def _key(job: Job) -> CellKey:
    return job.spec.backbone, job.spec.head, job.spec.strategy, job.spec.lr, job.spec.seed


def _stamp(job: Job) -> object:
    """Tells a record from an earlier one of the same cell; None where there is none."""
    try:
        found = (job.folder.path / RESULT).stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns
