"""The harness itself, from the paths of the images to complete run folders."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.probes import probe
from benchmarks.rivals.loop import Say
from benchmarks.setting import grid_of, options_of
from benchmarks.work import Cell, CellResult, Outcome, Work
from harness.cache_dir import cache_dir
from harness.progress import Progress
from harness.run_grid import Outcome as Run
from harness.run_grid import run_grid

__all__ = ["probe", "run"]


def run(work: Work, say: Say) -> Outcome:
    """``say`` has nothing to add: the harness reports its progress itself."""
    cache_dir().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_dir()) as out:
        runs = run_grid(grid_of(work), options_of(work, Path(out)), Progress())
        cells = tuple(_cell(cell, found) for cell, found in zip(work.cells, runs, strict=True))
    return Outcome(cells, _phases([found.record["timing"] for found in runs]))


def _history(found: Run) -> list[dict[str, Any]]:
    text = (found.folder.path / "history.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def _cell(cell: Cell, found: Run) -> CellResult:
    if found.record["status"] != "done":
        raise RuntimeError(f"{cell.label}: {found.record['error']}")
    rows = _history(found)
    return CellResult(
        label=cell.label,
        train_loss=tuple(row["train_loss"] for row in rows),
        val_accuracy=tuple(row["val_accuracy"] for row in rows),
        test_accuracy=found.record["test"]["accuracy"],
    )


def _phases(timings: list[dict[str, Any]]) -> dict[str, float]:
    """The grid is one group: its cells repeat what their one shared pass has cost.

    Records that don't time decoding apart count it to the pass.
    """
    shared = {name: f"{name}_s" for name in ("decode", "prefix") if f"{name}_s" in timings[0]}
    found = {name: max(float(t[key]) for t in timings) for name, key in shared.items()}
    return {**found, "train": sum(float(t["train_s"]) for t in timings)}
