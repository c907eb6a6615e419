"""What groups of cells cost, for :mod:`harness.dispatch`: floating-point operations, counted."""

from __future__ import annotations

from collections.abc import Sequence

from harness.costs import CostModel, GridSize
from harness.dispatch import CellLoad, GroupLoad
from harness.feature_keys import views
from harness.grid_run import GridRun
from harness.jobs import Job
from harness.planner import Group


def group_loads(run: GridRun, groups: Sequence[Group[Job]]) -> tuple[GroupLoad[Job], ...]:
    """Suffixes and passes over the images of all cells of ``groups``, done or not."""
    return tuple(_load(run, group, f"group {number}") for number, group in enumerate(groups, 1))


def _load(run: GridRun, group: Group[Job], name: str) -> GroupLoad[Job]:
    costs, split, train = CostModel(run.initial(group.cells[0])), run.data.split, run.grid.train
    size = GridSize(
        train=len(split.train),
        val=len(split.val),
        test=len(split.test),
        views=len(views(run.pool.conditions)),
        batch=train.batch_size,
    )
    # Augmented images pass once an epoch, for the cells of one seed together.
    images = size.train * train.epochs + size.val + size.test if train.augment else size.images * size.views
    cells = []
    for job in group.cells:
        suffix = 0.0 if job.fault else costs.cell(job.plan, size).suffix
        prefix = float(costs.forward(0, max(job.plan.cuts)) * images)
        cells.append(CellLoad(job, suffix, prefix, job.spec.seed if train.augment else None))
    return GroupLoad(name, tuple(cells))
