"""Cells that share their training data, side by side or one by one, each to its record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch

from harness import runtime
from harness.backbones.staged import StagedModel
from harness.cell import Cell, Snapshot
from harness.errors import HarnessError, Locked
from harness.run_cell import CellRun
from harness.runtime import let_go
from harness.trainer import Failed, fit_together
from harness.world import World


class Shared(NamedTuple):
    """What rank 0 tells the others of cells that they train together: by name, and where each goes on."""

    names: tuple[str, ...]
    snapshots: tuple[Snapshot | None, ...]
    fused: bool


def train_cells(runs: Sequence[CellRun], initial: StagedModel, title: str, *, fused: bool) -> None:
    """Trains the cells of ``runs``, which start from ``initial`` and share their training data.

    Every one ends with a record, of what it reached or of why it failed; what the disk refuses to
    take is raised, since it would refuse the record too.
    """
    for run in _train_together(runs, initial, title, fused):  # not before what those held is given back
        _train_together([run], initial, run.title, fused)


def _train_together(runs: Sequence[CellRun], initial: StagedModel, title: str, fused: bool) -> list[CellRun]:
    """Those that something stopped which they may not meet when each has the machine to itself."""
    progress, waiting = runs[0].progress, list(runs)
    runtime.forget_peak_memory(runs[0].device)
    try:
        begun = [run.begin(initial) for run in runs]
        owner = {cell: run for run, (cell, _) in zip(runs, begun, strict=True)}
        total = runs[0].job.spec.train.epochs * len(runs)
        with progress.task(title, total, "epochs") as task:
            task.advance(sum(resume.epoch for _, resume in begun if resume))
            cells, resumes = zip(*begun, strict=True)
            names = tuple(run.job.folder.name for run in runs)
            runs[0].world.tell(Shared(names, tuple(_on_cpu(resume) for resume in resumes), fused))
            for state in fit_together(cells, runs[0].train, resumes, fused=fused):
                run = owner[state.cell]
                if isinstance(state, Failed):
                    waiting.remove(run)
                    run.fail(state.error)
                else:
                    run.epoch(state)
                    task.advance(1)
        for cell, run in owner.items():
            if run in waiting:
                _finish(run, cell)
                waiting.remove(run)
    except (OSError, Locked):
        raise
    except Exception as error:
        if not runs[0].world.alone:  # the other processes are still at it
            raise named(error, title, runs[0].world) from error
        if isinstance(error, torch.OutOfMemoryError):
            let_go(error)
        if len(runs) > 1:
            progress.say(f"{title}: {type(error).__name__}: {error}; going on one by one")
            return waiting
        runs[0].fail(error)
    return []


def _on_cpu(snapshot: Snapshot | None) -> Snapshot | None:
    if snapshot is None:
        return None
    tensors, optimizer, best = (
        {name: tensor.cpu() for name, tensor in part.items()}
        for part in (snapshot.tensors, snapshot.optimizer, snapshot.best)
    )
    return replace(snapshot, tensors=tensors, optimizer=optimizer, best=best)


def named(error: Exception, title: str, world: World) -> Exception:
    """``error``, with the cell and the process that met it where it doesn't speak for itself."""
    if isinstance(error, HarnessError):
        return error
    return HarnessError(f"{title}, process {world.rank}: {type(error).__name__}: {error}")


def _finish(run: CellRun, cell: Cell) -> None:
    try:
        run.finish(cell)
    except (OSError, Locked):
        raise
    except Exception as error:
        run.fail(error)
