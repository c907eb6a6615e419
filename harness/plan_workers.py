"""What a grid takes on several GPUs: time, cost, the critical path, and which groups are split.

The units are those that an engine would get (:mod:`harness.dispatch`), and the estimate is the simulation of
them (:mod:`harness.simulation`); only the rate, operations a second, is measured or assumed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from harness.costs import CostModel
from harness.dispatch import Dispatch, GroupLoad, dispatch, helpers
from harness.grid_run import settled
from harness.jobs import Job
from harness.loads import group_loads
from harness.planner import Group, group_cells
from harness.progress import Progress
from harness.run_grid import GridRun, prepare
from harness.run_options import RunOptions
from harness.runtime import device_name
from harness.simulation import Simulated, simulate, tasks
from harness.spec import Grid
from harness.throughput import measured_rate

SPREAD = 0.2  # of the times that cells take, where nobody knows
_PLAYED = 20  # simulations for the interval
_SHOWN = 8  # groups, reasons, workers that are listed one by one


@dataclass(frozen=True)
class Rate:
    """TFLOP a second of one worker, and where that is from."""

    tflops: float
    source: str


@dataclass(frozen=True)
class GroupSummary:
    """A group in figures: the network, its cells, seconds of one pass and of all of them on one worker."""

    name: str
    network: str
    cells: int
    prefix: float
    total: float
    rate: Rate


@dataclass(frozen=True)
class WorkersPlan:
    """Seconds throughout. ``between`` is the soonest and the latest end of some, with varying times;
    ``joined`` what workers without a unit spend on passes there, on average, to join others;
    ``path`` the cell that takes longest from its pass to its test, alone.
    """

    groups: tuple[GroupSummary, ...]
    dispatched: Dispatch[Job]
    played: Simulated[Job]
    between: tuple[float, float]
    joined: float
    path: tuple[str, float]
    done: int
    faults: tuple[str, ...]

    @property
    def ends(self) -> float:
        return self.played.ends

    @property
    def work(self) -> float:
        return sum(self.played.busy)

    @property
    def bound(self) -> float:
        """No plan ends sooner: each pass made once, no worker idle, or the one longest cell."""
        return max(self.path[1], sum(group.total for group in self.groups) / self.dispatched.workers)


def plan_workers(
    grid: Grid, options: RunOptions, progress: Progress, workers: int, tflops: float | None
) -> WorkersPlan:
    """The plan for cells that aren't done; without ``tflops`` the rate is measured on this machine."""
    run, jobs = prepare(grid, options, progress)
    todo = [job for job in jobs if not settled(job.folder) and not job.fault]
    groups = group_cells((job, job.network) for job in todo)
    rates: dict[str, Rate] = {}  # by backbone
    loads = []
    for number, group in enumerate(groups, 1):  # group by group: of large networks one is kept
        name = group.cells[0].spec.backbone
        rates[name] = rates.get(name) or (Rate(tflops, "given") if tflops else _measured(run, group))
        (load,) = group_loads(run, (group,))
        loads.append(_timed(replace(load, name=f"group {number}"), rates[name]))
    found = dispatch(loads, workers)
    suffix = {cell.cell: cell.suffix for load in loads for cell in load.cells}
    many = helpers(len(found.units), workers)
    varied = [
        simulate(tasks(found.units, suffix, SPREAD, seed), workers, helpers=many) for seed in range(_PLAYED)
    ]
    ends = [played.ends for played in varied]
    return WorkersPlan(
        groups=tuple(_summary(g, ld, rates) for g, ld in zip(groups, loads, strict=True)),
        dispatched=found,
        played=simulate(tasks(found.units, suffix), workers, helpers=many),
        between=(min(ends), max(ends)),
        joined=sum(sum(played.joined) for played in varied) / _PLAYED,
        path=_path(loads),
        done=sum(settled(job.folder) for job in jobs),
        faults=tuple(f"{job.spec.label}: {job.fault}" for job in jobs if job.fault),
    )


def _measured(run: GridRun, group: Group[Job]) -> Rate:
    run.progress.say(f"measuring how fast {group.cells[0].spec.backbone} runs here")
    model = run.initial(group.cells[0])
    rate = measured_rate(model, CostModel(model), run.grid.train.batch_size, run.pool.conditions.autocast)
    return Rate(rate / 1e12, f"measured on this machine's {run.device} ({device_name(run.device)})")


def _timed(load: GroupLoad[Job], rate: Rate) -> GroupLoad[Job]:
    """Operations as seconds."""
    second = 1e12 * rate.tflops
    cells = (replace(c, suffix=c.suffix / second, prefix=c.prefix / second) for c in load.cells)
    return replace(load, cells=tuple(cells))


def _summary(group: Group[Job], load: GroupLoad[Job], rates: Mapping[str, Rate]) -> GroupSummary:
    passes: dict[object, float] = {}
    for cell in load.cells:
        passes[cell.shares] = max(passes.get(cell.shares, 0.0), cell.prefix)
    spec = group.cells[0].spec
    prefix = sum(passes.values())
    total = prefix + sum(cell.suffix for cell in load.cells)
    network = f"{spec.backbone}, head {spec.head}"
    return GroupSummary(load.name, network, len(load.cells), prefix, total, rates[spec.backbone])


def _path(loads: Sequence[GroupLoad[Job]]) -> tuple[str, float]:
    cells = [cell for load in loads for cell in load.cells]
    if not cells:
        return "", 0.0
    longest = max(cells, key=lambda cell: cell.prefix + cell.suffix)
    spec = longest.cell.spec
    return f"{spec.backbone} {spec.label}", longest.prefix + longest.suffix


def workers_text(plan: WorkersPlan, price: float | None = None) -> str:
    """The plan as ``harness run --plan --gpus N`` prints it; ``price`` of an hour of one GPU."""
    workers, cells = plan.dispatched.workers, sum(group.cells for group in plan.groups)
    done = f", {plan.done:,} done already" if plan.done else ""
    lines = [f"{cells:,} cells in {_count(len(plan.groups), 'group')}{done}, {_count(workers, 'GPU')}"]
    lines += _some([f"not {fault}" for fault in plan.faults])
    if not cells:
        return "\n".join([*lines, "nothing left to train"])
    lines += _some([_group_line(group) for group in plan.groups])
    held, one = workers * plan.ends, sum(group.total for group in plan.groups)
    cost = "" if price is None else f": {held / 3600 * price:,.2f} at {price:g} a GPU-hour"
    low, high = map(_time, plan.between)
    idle = f"idle {100 * (1 - plan.work / held):.1f} %"
    lines += [
        f"ends after {_time(plan.ends)}; {low} to {high} where times of cells vary by {100 * SPREAD:g} % "
        f"({_PLAYED} simulated runs)",
        *_joined(plan),
        f"GPUs are held for {_time(held)}{cost}; at work {_time(plan.work)}, {idle}",
        f"no plan ends before {_time(plan.bound)}; one GPU takes {_time(one)}",
        f"critical path: {plan.path[0]}, {_time(plan.path[1])} with its pass over the images",
        _load_line(plan),
        f"{_count(len(plan.dispatched.units), 'unit')} of work, longest first",
        *_some([f"  {reason}" for reason in plan.dispatched.reasons]),
        "counted: multiplications and additions of forward and backward passes, at the rates above; not",
        "reading and decoding images, the optimizer, starting workers, waiting for files",
    ]
    return "\n".join(lines)


def _group_line(group: GroupSummary) -> str:
    rate = f"{group.rate.tflops:.3g} TFLOP/s a GPU, {group.rate.source}"
    return (
        f"  {group.name}: {group.network}: {_count(group.cells, 'cell')}, passes over the images "
        f"{_time(group.prefix)} of {_time(group.total)}; {rate}"
    )


def _joined(plan: WorkersPlan) -> list[str]:
    if not plan.joined:
        return []
    return [f"in these, workers that no unit is left for join others: {_time(plan.joined)} of passes more"]


def _load_line(plan: WorkersPlan) -> str:
    busy = sorted(plan.played.busy, reverse=True)
    if len(busy) <= _SHOWN:
        shares = ", ".join(f"{100 * b / plan.ends:.0f} %" for b in busy)
        return f"load of each GPU: {shares} of the time"
    unused = sum(b == 0 for b in busy)
    most, middle, least = (100 * busy[i] / plan.ends for i in (0, len(busy) // 2, -1))
    rest = f", {unused} never used" if unused else ""
    return f"load of a GPU: {middle:.0f} % of the time ({least:.0f} to {most:.0f} %{rest})"


def _some(lines: Sequence[str]) -> list[str]:
    more = len(lines) - _SHOWN
    return [*lines[:_SHOWN], *([f"  ... {more:,} more like these"] if more > 0 else [])]


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def _time(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return (
                f"{seconds / size:,.3g} {unit}" if seconds < 1000 * size else f"{seconds / size:,.0f} {unit}"
            )
    return f"{seconds:.3g} s"
