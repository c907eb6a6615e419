"""What a grid would do: groups of cells, what they share, what that saves. Nothing is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from harness import kept
from harness.backbones.staged import StagedModel
from harness.costs import CostModel, GridSize
from harness.feature_keys import describe_prefix, feature_keys, views
from harness.jobs import Job
from harness.placement import show_bytes
from harness.planner import Group, group_cells
from harness.prefix import row_shapes
from harness.progress import Progress
from harness.run import GridRun, RunOptions, prepare, settled
from harness.spec import Grid

_KEPT, _EPOCH = "kept from before", "one epoch at a time"
_PLACES = {
    "device": "in the device's memory",
    "memory": "in memory",
    "file": "in a mapped file",
    "nowhere": "that fit nowhere: computed again for every batch",
}


@dataclass(frozen=True)
class CutPlan:
    """One set of activations. ``where`` is in words; ``nbytes`` are of all views."""

    cut: int
    prefix: str
    images: int
    views: int
    nbytes: int
    where: str


@dataclass(frozen=True)
class GroupPlan:
    """Cells of one network. ``alone`` and ``shared`` are floating-point operations."""

    cells: tuple[str, ...]
    done: int
    cuts: tuple[CutPlan, ...]
    alone: float
    shared: float


def plan_grid(grid: Grid, options: RunOptions, progress: Progress) -> tuple[GroupPlan, ...]:
    """The plan of every group that ``run_grid`` would train; no image is decoded."""
    run, jobs = prepare(grid, options, progress)
    return tuple(_group(run, group) for group in group_cells((job, job.network) for job in jobs))


def _group(run: GridRun, group: Group[Job]) -> GroupPlan:
    todo = [job for job in group.cells if not settled(job.folder)]
    model = run.initial(group.cells[0])
    costs = CostModel(model)
    split = run.data.split
    size = GridSize(
        train=len(split.train),
        val=len(split.val),
        test=len(split.test),
        views=len(views(run.pool.conditions)),
        batch=run.grid.train.batch_size,
    )
    cuts = _cuts(run, model, todo)
    nowhere = {cut.cut for cut in cuts if cut.where == _PLACES["nowhere"]}
    cells = [(costs.cell(job.plan, size), nowhere & set(job.plan.cuts)) for job in todo]
    return GroupPlan(
        cells=tuple(job.spec.label for job in todo),
        done=len(group.cells) - len(todo),
        cuts=cuts,
        alone=sum(cell.alone for cell, _ in cells),
        shared=sum(cell.alone if again else cell.suffix for cell, again in cells)
        + _prefix_cost(run, costs, todo, size, cuts),
    )


def _prefix_cost(
    run: GridRun, costs: CostModel, jobs: Sequence[Job], size: GridSize, cuts: Sequence[CutPlan]
) -> float:
    """Of the passes over the images, down to the deepest cut."""
    stored = {cut.cut for cut in cuts if cut.where != _PLACES["nowhere"]}
    deepest = max(stored, default=0)
    once = costs.forward(0, deepest) if deepest else 0
    if run.grid.train.augment:
        epochs = run.grid.train.epochs * len({job.spec.seed for job in jobs})
        return float(once * (size.train * epochs + size.val + size.test))
    if cuts and all(cut.where == _KEPT for cut in cuts):
        return 0.0
    return float(once * size.images * size.views)


def _cuts(run: GridRun, model: StagedModel, jobs: Sequence[Job]) -> tuple[CutPlan, ...]:
    wanted = tuple(sorted({cut for job in jobs for cut in job.plan.cuts if cut}))
    conditions, room = run.pool.conditions, run.pool.placement()
    shapes = row_shapes(model, wanted, conditions.autocast) if wanted else {}
    count, found = len(run.data.table), []
    for cut in wanted:
        shape, dtype = shapes[cut]
        name = jobs[0].spec.backbone
        keys = feature_keys(model, name, cut, run.data, conditions).values()
        nbytes = count * prod(shape) * dtype.itemsize
        if run.grid.train.augment:
            where = _EPOCH
        elif run.options.keep_features and all(kept.find(key) is not None for key in keys):
            where = _KEPT
        elif run.options.keep_features:
            where = "in a kept file"
        else:
            where = _PLACES[room.choose(nbytes * len(keys))]
        prefix = describe_prefix(model, name, (cut,))
        found.append(CutPlan(cut, prefix, count, len(keys), nbytes * len(keys), where))
    return tuple(found)


def plan_text(groups: Sequence[GroupPlan]) -> str:
    """The plan as ``harness run --plan`` prints it."""
    lines = []
    for number, group in enumerate(groups, 1):
        total = len(group.cells) + group.done
        done = f", {group.done} done already" if group.done else ""
        lines.append(f"group {number}: {total} cell{'s' if total > 1 else ''}{done}")
        lines += [f"  {label}" for label in group.cells]
        for cut in group.cuts:
            lines.append(
                f"  frozen prefix {cut.prefix}: {cut.images} images x {cut.views} "
                f"view{'s' if cut.views > 1 else ''}, {show_bytes(cut.nbytes)} {cut.where}"
            )
        if not group.cuts and group.cells:
            lines.append("  no frozen prefix to share")
        lines.append(_cost(group.alone, group.shared))
    if len(groups) > 1:
        lines.append("all groups")
        lines.append(_cost(sum(g.alone for g in groups), sum(g.shared for g in groups)))
    lines.append(
        "counted: multiplications and additions of forward and backward passes; not decoding, not the\n"
        "optimizer, which a shared prefix can't save"
    )
    return "\n".join(lines)


def _cost(alone: float, shared: float) -> str:
    if not alone:
        return "  nothing left to train"
    return (
        f"  arithmetic: {_flop(alone)} one by one, {_flop(shared)} shared; "
        f"expected speed-up at most {alone / shared:.1f}x"
    )


def _flop(count: float) -> str:
    for unit in ("", "k", "M", "G", "T"):
        if count < 1000:
            return f"{count:.3g} {unit}FLOP"
        count /= 1000
    return f"{count:.3g} PFLOP"
