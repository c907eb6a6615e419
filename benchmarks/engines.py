"""What an engine costs: its start, its workers' first unit, and every cell after that.

    python -m benchmarks.engines --engine 'local[workers=2]' --engine 'ray[workers=2]'

Every cell is a unit of its own, on the embedded sample, and is small: what is left is the engine. As many
are trained in this process, in turn with each engine, for comparison.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.engine_units import Nothing, Timed
from harness.engine_run import EngineRun
from harness.plugins import load_engine
from harness.progress import Progress
from harness.run_grid import prepare, run_grid, train_unit
from harness.run_options import RunOptions
from harness.spec import DataSpec, Grid, TrainSpec
from harness.work import Again, Need, Unit, Workers

QUIET = Progress(quiet=True)


@dataclass(frozen=True)
class Cost:
    """Seconds: until workers are there, and until each has trained its first cell; then those a cell."""

    engine: str
    start: float
    first: float
    unit: float  # a unit that does nothing
    held: float  # of a worker, for a cell
    inside: float  # of that, in the unit
    here: float  # the same cell in this process


def grid_of(lrs: Sequence[float]) -> Grid:
    """Cells of one network that train for one epoch on 200 images."""
    return Grid(
        data=DataSpec(limit=200), strategies=("last_block",), lrs=tuple(lrs), train=TrainSpec(epochs=1)
    )


def measured(text: str, cells: int, threads: int, folder: Path) -> Cost:
    """One engine, from its start to its end."""
    rates = (round(1e-3 * 1.001**i, 9) for i in itertools.count())
    options = RunOptions(out=folder / "runs", device="cpu", threads=threads, engine=text)
    began = time.perf_counter()
    with load_engine(text)[0].open(Need(threads, "cpu", options.out)) as workers:
        if not workers.count:
            raise SystemExit(f"{text} has no workers but this process")
        _run(workers, [Nothing()] * workers.count)
        start = time.perf_counter() - began
        unit = _run(workers, [Nothing()] * cells) / cells
        first = _train(workers, options, [next(rates) for _ in range(workers.count)], folder / "first")[0]
        _train(workers, options, [next(rates) for _ in range(4 * workers.count)], folder / "warm")
        here, wall, inside = [], [], []
        for turn in range(3):
            here.append(_here(options, list(itertools.islice(rates, cells))) / cells)
            found = _train(workers, options, list(itertools.islice(rates, cells)), folder / f"turn{turn}")
            wall.append(found[0] * workers.count / cells)
            inside.append(found[1] / cells)
    middle = statistics.median
    return Cost(text, start, first, unit, middle(wall), middle(inside), middle(here))


def _run(workers: Workers, units: Sequence[Unit]) -> float:
    began = time.perf_counter()
    for ended in workers.run(units):
        if isinstance(ended, Again):
            raise SystemExit(ended.reason)
        if ended and (ended.lost or ended.stop):
            raise SystemExit(ended.lost or str(ended.stop))
    return time.perf_counter() - began


def _train(workers: Workers, options: RunOptions, lrs: Sequence[float], notes: Path) -> tuple[float, float]:
    """Seconds for all cells, a unit each, and the sum of those inside the units."""
    run, jobs = prepare(grid_of(lrs), options, QUIET)
    notes.mkdir(parents=True)
    engine = EngineRun(run, replace(options), train_unit, workers, options.engine, options.threads or 1)
    units = [Timed(engine.task([job]), notes / job.folder.name) for job in jobs]
    seconds = _run(workers, units)
    spent = [json.loads(file.read_text(encoding="utf-8")) for file in notes.iterdir()]
    return seconds, sum(inside for _, inside in spent)


def _here(options: RunOptions, lrs: Sequence[float]) -> float:
    began = time.perf_counter()
    run_grid(grid_of(lrs), replace(options, engine="local"), QUIET)
    return time.perf_counter() - began


def table(costs: Sequence[Cost]) -> Iterator[str]:
    """Markdown; all in seconds."""
    yield "| engine | start | first cell | empty unit | a cell: worker held | its unit | in this process |"
    yield "|---|--:|--:|--:|--:|--:|--:|"
    for c in costs:
        figures = (c.start, c.first, c.unit, c.held, c.inside, c.here)
        yield f"| `{c.engine}` | " + " | ".join(f"{figure:.3g}" for figure in figures) + " |"


def main() -> None:
    """The table on standard output."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engine", action="append", help="default: local and ray with two workers")
    parser.add_argument("--cells", type=int, default=16, help="in each of three turns")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    costs = []
    for engine in given.engine or ["local[workers=2]", "ray[workers=2]"]:
        print(engine, file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="harness-engines-") as folder:
            costs.append(measured(engine, given.cells, given.threads, Path(folder)))
    print("\n".join(table(costs)))


if __name__ == "__main__":
    main()
