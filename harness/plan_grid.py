"""What a grid would do: groups of cells, what they share, what that saves. Nothing is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

from harness import kept
from harness.backbones.staged import StagedModel
from harness.costs import CostModel, GridSize
from harness.feature_keys import describe_prefix, feature_keys, views
from harness.jobs import Job
from harness.placement import SHARE, Placement, show_bytes
from harness.planner import Group, group_cells
from harness.pool import IMAGES_SHARE, image_geometry
from harness.prefix import row_shapes
from harness.progress import Progress
from harness.run_grid import GridRun, prepare, settled
from harness.run_options import RunOptions
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
    """Cells of one network. ``alone`` and ``shared`` are floating-point operations; ``faults`` are cells
    that can't be trained, and why; ``network`` says which.
    """

    cells: tuple[str, ...]
    done: int
    cuts: tuple[CutPlan, ...]
    alone: float
    shared: float
    faults: tuple[str, ...] = ()
    network: str = ""


def plan_grid(grid: Grid, options: RunOptions, progress: Progress) -> tuple[GroupPlan, ...]:
    """The plan of every group that ``run_grid`` would train, in its order; no image is decoded."""
    run, jobs = prepare(grid, options, progress)
    undone_first = sorted(jobs, key=lambda job: settled(job.folder))
    pool, groups = _Pool({}, None), []
    for number, group in enumerate(group_cells((job, job.network) for job in undone_first), 1):
        plan, pool = _group(run, group, number, pool)
        groups.append(plan)
    return tuple(groups)


@dataclass(frozen=True)
class _Held:
    """Activations that a group leaves to the next ones."""

    keys: Mapping[str, kept.FeatureKey]
    group: int
    nbytes: int
    place: str


class _Images(NamedTuple):
    """Decoded images: for which networks, their bytes, where they lie."""

    geometry: str
    nbytes: int
    place: str


@dataclass(frozen=True)
class _Pool:
    """What ``FeaturePool`` would hold: activations by cut, decoded images."""

    held: Mapping[int, _Held]
    images: _Images | None


def _group(run: GridRun, group: Group[Job], number: int, pool: _Pool) -> tuple[GroupPlan, _Pool]:
    """The plan of one group, and what the pool holds after it."""
    undone = [job for job in group.cells if not settled(job.folder)]
    todo = [job for job in undone if not job.fault]
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
    cuts, after = _cuts(run, model, todo, number, pool) if todo else ((), pool)
    nowhere = {cut.cut for cut in cuts if cut.where == _PLACES["nowhere"]}
    cells = [(costs.cell(job.plan, size), nowhere & set(job.plan.cuts)) for job in todo]
    plan = GroupPlan(
        cells=tuple(job.spec.label for job in todo),
        done=len(group.cells) - len(undone),
        cuts=cuts,
        alone=sum(cell.alone for cell, _ in cells),
        shared=sum(cell.alone if again else cell.suffix for cell, again in cells)
        + _prefix_cost(
            run, costs, todo, size, cuts, have={c for c, h in after.held.items() if h.group < number}
        ),
        faults=tuple(f"{job.spec.label}: {job.fault}" for job in undone if job.fault),
        network=f"{group.cells[0].spec.backbone}, head {group.cells[0].spec.head}",
    )
    return plan, after


def _prefix_cost(
    run: GridRun,
    costs: CostModel,
    jobs: Sequence[Job],
    size: GridSize,
    cuts: Sequence[CutPlan],
    have: set[int],
) -> float:
    """Of the passes over the images, each from the nearest cut that is in the pool or kept from before."""
    stored = {cut.cut: cut for cut in cuts if cut.where != _PLACES["nowhere"]}
    if run.grid.train.augment:
        epochs = run.grid.train.epochs * len({job.spec.seed for job in jobs})
        once = costs.forward(0, max(stored)) if stored else 0
        return float(once * (size.train * epochs + size.val + size.test))
    have = have | {cut for cut, plan in stored.items() if plan.where == _KEPT}
    passes: dict[int, int] = {}  # from where -> the deepest cut
    for cut in sorted(stored.keys() - have):
        passes[max((h for h in have if h < cut), default=0)] = cut
    once = sum(costs.forward(start, stop) for start, stop in passes.items())
    return float(once * size.images * size.views)


def _cuts(
    run: GridRun, model: StagedModel, jobs: Sequence[Job], number: int, pool: _Pool
) -> tuple[tuple[CutPlan, ...], _Pool]:
    """What a group takes, and what the pool holds after it; the same choices as ``FeaturePool.get``."""
    wanted = tuple(sorted({cut for job in jobs for cut in job.plan.cuts if cut}))
    conditions, name = run.pool.conditions, jobs[0].spec.backbone
    useful = {cut for cut in pool.held if cut < max(wanted, default=0)}
    keys = {cut: feature_keys(model, name, cut, run.data, conditions) for cut in {*useful, *wanted}}
    held = {cut: left for cut, left in pool.held.items() if keys.get(cut) == left.keys}
    keep = run.options.keep_features
    before = {c for c in wanted if keep and all(kept.find(key) is not None for key in keys[c].values())}
    near = min({*held, *before}, default=0)
    images = pool.images
    if any(not 0 < near < cut for cut in set(wanted) - held.keys() - before):
        images = _images(run, model, held, images)
    room = _room(run, held, images)
    shapes = row_shapes(model, wanted, conditions.autocast) if wanted else {}
    count, found = len(run.data.table), []
    for cut in wanted:
        shape, dtype = shapes[cut]
        nbytes = count * prod(shape) * dtype.itemsize * len(keys[cut])
        place = ""
        if run.grid.train.augment:
            where = _EPOCH
        elif cut in held:
            where = f"there since group {held[cut].group}"
        elif cut in before:
            where = _KEPT
        elif keep:
            where = "in a kept file"
        else:
            place = room.choose(nbytes)
            where = _PLACES[place]
        if cut not in held and where not in (_EPOCH, _PLACES["nowhere"]):
            held[cut] = _Held(keys[cut], number, nbytes, place)
        prefix = describe_prefix(model, name, (cut,))
        found.append(CutPlan(cut, prefix, count, len(keys[cut]), nbytes, where))
    if any(0 in job.plan.cuts for job in jobs):
        images = _images(run, model, held, images)
    return tuple(found), _Pool(held, images)


def _images(run: GridRun, model: StagedModel, held: Mapping[int, _Held], there: _Images | None) -> _Images:
    """The decoded images that this network takes, as they are ``there`` or beside what is ``held``."""
    geometry, size = image_geometry(model), model.preprocess.size
    if there and there.geometry == geometry:
        return there
    room, nbytes = _room(run, held, None), len(run.data.table) * size * size * 3
    room.device_left = int(room.device_left * IMAGES_SHARE)
    room.memory_left = int(room.memory_left * IMAGES_SHARE)
    return _Images(geometry, nbytes, room.choose(nbytes))


def _room(run: GridRun, held: Mapping[int, _Held], images: _Images | None) -> Placement:
    """Room beside what the pool would hold by then."""
    taken = {"device": 0, "memory": 0}
    lying = [(h.place, h.nbytes) for h in held.values()] + ([(images.place, images.nbytes)] if images else [])
    for place, nbytes in lying:
        if place in taken:
            taken[place] += nbytes
    if run.pool.budget is not None:
        return run.pool.placement(sum(taken.values()))
    room = run.pool.placement()
    room.device_left -= int(SHARE * taken["device"])
    room.memory_left -= int(SHARE * taken["memory"])
    return room


def plan_text(groups: Sequence[GroupPlan]) -> str:
    """The plan as ``harness run --plan`` prints it."""
    lines = []
    for number, group in enumerate(groups, 1):
        total = len(group.cells) + group.done + len(group.faults)
        done = f", {group.done} done already" if group.done else ""
        which = f" ({group.network})" if len(groups) > 1 else ""
        lines.append(f"group {number}{which}: {total} cell{'s' if total > 1 else ''}{done}")
        lines += [f"  {label}" for label in group.cells]
        lines += [f"  not {fault}" for fault in group.faults]
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
