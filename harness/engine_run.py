"""A grid on an engine: units of work go out, run folders are watched, lost cells get a reason."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.dispatch import dispatch
from harness.errors import HarnessError
from harness.grid_run import GridRun
from harness.jobs import Job
from harness.loads import group_loads
from harness.planner import group_cells
from harness.plugins import load_engine
from harness.progress import Progress
from harness.run_options import RunOptions
from harness.runtime import default_threads
from harness.spec import Grid
from harness.store import RESULT
from harness.work import Need, Stop, Workers

TrainUnit = Callable[[Grid, RunOptions, Sequence[str]], None]
TrainJobs = Callable[[Sequence[Job]], set[str]]

_LOOK = 0.2  # seconds between looks at the run folders
_LOOKING = 0.05  # of the time may go into looks
_CARRIED = ("TORCH_HOME", "HF_HOME")  # beside what begins with HARNESS_


@dataclass(frozen=True)
class UnitTask:
    """Cells of one group, as a process of any machine can train them: ``train`` (an importable function)
    gets their own small grid. ``folder`` is where relative paths begin.
    """

    cells: tuple[str, ...]
    train: TrainUnit
    grid: Grid
    options: RunOptions
    folder: Path
    environment: tuple[tuple[str, str], ...]

    def __call__(self) -> Stop | None:
        """Trains them; an error that concerns the whole grid comes back as what stopped it."""
        os.environ.update(self.environment)
        if self.folder.is_dir():  # records name data and weights as they were typed
            os.chdir(self.folder)
        try:
            self.train(self.grid, self.options, self.cells)
        except HarnessError as error:
            return Stop(str(error), error.exit_code)
        except OSError as error:
            return Stop(f"{error.filename or 'system'}: {error.strerror or error}", 1)
        except Exception as error:
            return Stop(f"internal error in a worker: {type(error).__name__}: {error}", 1)
        return None


@contextmanager
def opened(run: GridRun, options: RunOptions, train: TrainUnit) -> Iterator[TrainJobs]:
    """What trains jobs, and returns the names of those it trained: this process or an engine's workers."""
    engine, name = load_engine(options.engine)
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
        found = dispatch(group_loads(self.run, groups), self.workers.count)
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        where = f"engine {self.name}, {self.workers.count} workers of {threads}"
        progress.say(f"{where}: {len(jobs)} cells in {len(found.units)} units")
        for reason in found.reasons:
            progress.say(reason)
        watch = _Watch(progress, {job.folder.name: job for job in jobs})
        lost = self._pass([unit.cells for unit in found.units], watch)
        if any(len(left) > 1 for left, _ in lost):
            count = sum(len(left) for left, _ in lost)
            progress.say(f"{count} cells are left of units whose workers were lost: each by itself now")
            lost = self._pass([(job,) for left, _ in lost for job in left], watch)
        for left, reason in lost:
            self.run.fail(left, HarnessError(reason), wait=True)
        watch.look()
        return watch.ended

    def _pass(self, units: Sequence[Sequence[Job]], watch: _Watch) -> list[tuple[list[Job], str]]:
        """Runs units to their end; the jobs that lost ones left undone, and why."""
        lost = []
        for ended in self.workers.run([self.task(jobs) for jobs in units]):
            watch.look(in_time=ended is None)
            if ended is None:
                continue
            if ended.stop is not None:
                error = HarnessError(ended.stop.text)
                error.exit_code = ended.stop.code
                raise error
            left = [watch.jobs[name] for name in ended.unit.cells if name not in watch.ended]
            if ended.lost and left:
                lost.append((left, ended.lost))
        return lost

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
            only=frozenset(
                (j.spec.backbone, j.spec.head, j.spec.strategy, j.spec.lr, j.spec.seed) for j in jobs
            ),
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

    def _say(self, job: Job) -> None:
        record = job.folder.result()
        if record["status"] == "done":
            accuracy = (record["val"] or {}).get("accuracy")
            text = f"validation accuracy {100 * accuracy:.2f} %" if accuracy is not None else "done"
        else:
            text = record["error"]
        self.progress.say(f"[{len(self.ended)}/{len(self.jobs)}] {job.spec.label}: {text}")


def _stamp(job: Job) -> object:
    """Tells a record from an earlier one of the same cell; None where there is none."""
    try:
        found = (job.folder.path / RESULT).stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns
