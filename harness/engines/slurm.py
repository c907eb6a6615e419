"""The engine ``slurm``: a job for each unit, submitted by submitit."""

from __future__ import annotations

import os
import re
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from harness.errors import UsageError
from harness.work import Again, Ended, Need, Stop, Unit

_FOLDER = ".slurm"  # beside the run folders: what was submitted, and the jobs' output
_LOOK = 0.2  # seconds between looks at jobs
_CLUSTERS = ("slurm", "local", "debug")


@dataclass(frozen=True)
class Slurm:
    """``jobs`` at once, each of ``gpus`` and ``memory`` GB, for ``hours``; the rest as ``sbatch`` has it.

    ``cluster`` is ``slurm``, or, to try things out, ``local`` (processes of this machine) or ``debug``
    (this process), which submitit has as well.
    """

    summary: ClassVar[str] = "Slurm jobs: slurm[partition=NAME,hours=4,jobs=8], submitted by submitit"
    needs: ClassVar[tuple[str, ...]] = ("submitit",)
    elsewhere: ClassVar[bool] = True

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    hours: float = 4.0
    gpus: int | None = None
    memory: float | None = None
    jobs: int = 8
    retries: int = 2
    cluster: str = "slurm"

    @contextmanager
    def open(self, need: Need) -> Iterator[SlurmWorkers]:
        """Nothing is submitted yet; jobs that are left when the context ends are cancelled."""
        if self.jobs < 1 or self.retries < 0 or self.hours <= 0 or self.cluster not in _CLUSTERS:
            raise UsageError(
                "slurm: jobs are 1 or more, retries 0 or more, hours above 0, "
                f"cluster one of {', '.join(_CLUSTERS)}"
            )
        import submitit

        try:
            executor = submitit.AutoExecutor(folder=need.folder / _FOLDER, cluster=self.cluster)
        except RuntimeError as error:  # without srun
            raise UsageError(
                f"engine slurm: {error}; where jobs are submitted, or slurm[cluster=local]"
            ) from error
        executor.update_parameters(**self._parameters(need))
        beside = 1 if self.cluster == "slurm" else self.jobs
        workers = SlurmWorkers(self.jobs, beside, executor, submitit, self.cluster == "slurm", self.retries)
        try:
            yield workers
        finally:
            workers.cancel()

    def _parameters(self, need: Need) -> dict[str, object]:
        """submitit's names."""
        gpus = self.gpus if self.gpus is not None else int(need.device != "cpu" and self.cluster == "slurm")
        asked = {
            "name": "harness",
            "timeout_min": max(1, round(60 * self.hours)),
            "cpus_per_task": need.threads,
            "gpus_per_node": gpus or None,
            "mem_gb": self.memory,
            "slurm_partition": self.partition,
            "slurm_account": self.account,
            "slurm_qos": self.qos,
            "slurm_constraint": self.constraint,
            "slurm_array_parallelism": self.jobs,
        }
        return {name: value for name, value in asked.items() if value is not None}


@dataclass
class SlurmWorkers:
    """Jobs by their units. ``queued``: all are submitted at once, and Slurm keeps the count."""

    count: int
    beside: int
    executor: Any
    submitit: ModuleType
    queued: bool
    retries: int
    _running: dict[Any, tuple[Unit, int]] = field(default_factory=dict)

    def run(self, units: Sequence[Unit]) -> Iterator[Ended | Again | None]:
        """See :class:`~harness.work.Workers`."""
        waiting = deque((unit, 0) for unit in units)
        while waiting or self._running:
            self._submit(waiting)
            ended = [job for job in self._running if job.done()]
            for job in ended:
                unit, lost = self._running.pop(job)
                found = self._ended(job, unit)
                if found.lost and lost < self.retries:
                    yield Again(unit, found.lost, lost + 2, self.retries + 1)
                    waiting.appendleft((unit, lost + 1))
                else:
                    yield found
            if not ended:
                time.sleep(_LOOK)
                yield None

    def cancel(self) -> None:
        """Ends what still waits or runs."""
        for job in self._running:
            with suppress(Exception):  # gone by itself, or Slurm doesn't answer: the next ones too
                job.cancel(check=False)

    def _submit(self, waiting: deque[tuple[Unit, int]]) -> None:
        room = len(waiting) if self.queued else self.count - len(self._running)
        taken = [waiting.popleft() for _ in range(min(room, len(waiting)))]
        if taken:
            with nullcontext() if self.queued else _aside(Path(self.executor.folder)):
                jobs = self.executor.map_array(_Requeued(), [unit for unit, _ in taken])
            self._running.update(zip(jobs, taken, strict=True))

    def _ended(self, job: Any, unit: Unit) -> Ended:
        errors = self.submitit.core.utils
        try:
            return Ended(unit, stop=job.result())
        except errors.FailedJobError as error:
            return Ended(unit, stop=Stop(f"job {job.job_id} can't run the unit: {_last_line(error)}", 1))
        except errors.UncompletedJobError:
            return Ended(unit, lost=f"its job {job.job_id} ended without a result: {job.state.lower()}")


class _Requeued:
    """Runs a unit; a job that is preempted, or out of time, is queued again with the same."""

    def __call__(self, unit: Unit) -> Stop | None:
        return unit()

    def checkpoint(self, unit: Unit) -> Any:
        """What submitit calls at the signal."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, unit)


@contextmanager
def _aside(folder: Path) -> Iterator[None]:
    """What processes that are started meanwhile print as errors goes into a file: submitit's own, beside jobs
    of this machine, end with a traceback when they are cancelled.
    """
    folder.mkdir(parents=True, exist_ok=True)
    errors = os.dup(2)
    with (folder / "controllers.log").open("ab") as log:
        os.dup2(log.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(errors, 2)
        os.close(errors)


def _last_line(error: Exception) -> str:
    """Of the trace, which submitit puts between two rules, before the paths of a job's output."""
    parts = re.split(r"^-{5,}$", str(error), flags=re.MULTILINE)
    trace = parts[1] if len(parts) > 2 else str(error)
    return (trace.strip().splitlines() or [type(error).__name__])[-1]
