"""A grid of four cells on an engine, held against the same in this process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

import numpy as np
import torch
from PIL import Image

from harness.contracts import Again, Ended, Engine, Need, Unit, Workers
from harness.engine_run import opened_on
from harness.engines.trials import Fragile
from harness.errors import HarnessError
from harness.progress import Progress
from harness.rerun import Rerun
from harness.run_grid import run_grid
from harness.run_options import RunOptions
from harness.spec import DataSpec, Grid, TrainSpec
from harness.store import RunFolder, list_runs
from harness.testing.claims import require

_IMAGES = 40
_SIZE = 64
_GRID = Grid(
    data=DataSpec("folder"),
    backbones=("vgg_tiny",),
    strategies=("head_only", "last_block"),
    lrs=(1e-2, 1e-3),
    train=TrainSpec(epochs=4, batch_size=16),
)
_CELLS = len(_GRID.strategies) * len(_GRID.lrs)


def check_grid(engine: Engine, who: str, root: Path) -> None:
    """Trains it thrice below ``root``: here; on the engine after a beginning here; the other way round."""
    images = _write_images(root / "images")
    with _as_it_was():
        expected = _records(_here(_GRID, root / "whole", images))
        _check_lost_workers(engine, who, root, images, expected)
        _check_taken_over(engine, who, root, images, expected)


def _check_lost_workers(
    engine: Engine, who: str, root: Path, images: Path, expected: Mapping[str, Any]
) -> None:
    """``local`` begins; the engine goes on, and each of its workers is killed in its first unit."""
    what = f"{who}: a grid whose workers are killed in the middle"
    out = root / "killed"
    begun = _here(replace(_GRID, lrs=_GRID.lrs[:1]), out, images)
    before = {run.name: run.result() for run in begun}
    _on_engine(_Killing(engine, root, out), what, out, images, Progress(quiet=True))
    found = _records(list_runs(out))
    _require_same(expected, found, what)
    require(any(root.glob("killed-*")), f"{what}: none was killed")
    again = [name for name, record in before.items() if record != found[name]]
    require(not again, f"{who}: cells that were done are trained again: {', '.join(again)}")


def _check_taken_over(
    engine: Engine, who: str, root: Path, images: Path, expected: Mapping[str, Any]
) -> None:
    """The engine is left when its first cell is done; ``local`` does the rest."""
    what = f"{who}: a grid that it begins and local ends"
    out = root / "begun"
    with suppress(_Left):
        _on_engine(engine, what, out, images, _Leaving(quiet=True))
    require(bool(_records(list_runs(out))), f"{what}: nothing was trained")
    _require_same(expected, _records(_here(_GRID, out, images)), what)


class _Left(BaseException):
    """The caller goes, as with Ctrl-C."""


class _Leaving(Progress):
    def say(self, text: str) -> None:
        if text.startswith(f"[1/{_CELLS}]"):
            raise _Left


@dataclass(frozen=True)
class _Killing:
    """``engine``, whose worker is killed the first time that it runs a unit."""

    engine: Engine
    notes: Path
    runs: Path

    summary: ClassVar[str] = "in a check"
    needs: ClassVar[tuple[str, ...]] = ()
    elsewhere: ClassVar[bool] = False

    @contextmanager
    def open(self, need: Need) -> Iterator[Workers]:
        with self.engine.open(need) as workers:
            yield _KillingWorkers(workers, self.notes, self.runs, workers.count, workers.beside)


@dataclass
class _KillingWorkers:
    workers: Workers
    notes: Path
    runs: Path
    count: int
    beside: int

    def run(self, units: Sequence[Unit]) -> Iterator[Ended | Again | None]:
        # Not by their cells: a unit that joins others has none of its own.
        notes = [self.notes / f"killed-{uuid4().hex}" for _ in units]
        return self.workers.run(
            [Fragile(unit, note, self.runs) for unit, note in zip(units, notes, strict=True)]
        )


def _on_engine(engine: Engine, what: str, out: Path, images: Path, progress: Progress) -> None:
    try:
        run_grid(_GRID, _options(out, images), progress, opening=partial(opened_on, engine, "in a check"))
    except HarnessError as error:
        raise AssertionError(f"{what} raised {type(error).__name__}: {error}") from error


def _here(grid: Grid, out: Path, images: Path) -> list[RunFolder]:
    outcomes = run_grid(grid, _options(out, images), Progress(quiet=True))
    return [outcome.folder for outcome in outcomes]


def _options(out: Path, images: Path) -> RunOptions:
    return RunOptions(out=out, data_path=images, device="cpu", threads=1, engine="local")


def _records(runs: Sequence[RunFolder]) -> dict[str, Any]:
    return {run.name: run.result() for run in runs if run.status() in ("done", "failed")}


def _require_same(expected: Mapping[str, Any], found: Mapping[str, Any], what: str) -> None:
    missing = sorted(expected.keys() - found.keys())
    require(not missing, f"{what}: {len(missing)} cells have no record: {', '.join(missing)}")
    for name, record in expected.items():
        now = found[name]
        require(now["status"] == "done", f"{what}: {name} failed: {now['error']}")
        differ = [
            f"{d.name} {d.before} -> {d.now}"
            for d in Rerun(record, now, Path(name)).differences
            if not d.cause
        ]
        require(not differ, f"{what}: {name} isn't as local trains it: {', '.join(differ)}")


def _write_images(folder: Path) -> Path:
    """Two classes of noise, one of them redder."""
    rng = np.random.default_rng(0)
    for number in range(_IMAGES):
        label = number % 2
        pixels = rng.integers(0, 200, (_SIZE, _SIZE, 3))
        pixels[..., 0] += 40 * label
        file = folder / ("red" if label else "grey") / f"{number:02d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(file)
    return folder


@contextmanager
def _as_it_was() -> Iterator[None]:
    """A grid sets threads and the strictness of algorithms for the whole process."""
    threads, strictness = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_deterministic_debug_mode(strictness)
