"""A suite against fresh runs: trains the cells that claims are about, and judges every claim."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harness.backbones.heads import check_head
from harness.code_digest import code_digest
from harness.errors import HarnessError, RecordError, UsageError
from harness.plugins import load_backbone, load_dataset, load_strategy
from harness.progress import Progress
from harness.run_grid import Outcome, run_grid
from harness.run_options import RunOptions
from harness.runtime import choose_device, default_threads, environment
from harness.spec import Grid
from harness.store import list_runs
from harness.suites.claims import Cell, Claim, Finding, judge
from harness.suites.evidence import CONDITIONS, Evidence
from harness.verify import verify_run


def check_claims(
    wanted: Sequence[Claim], grid: Grid, options: RunOptions, progress: Progress, overridden: Sequence[str]
) -> list[Finding]:
    """Trains what ``wanted`` is about in one grid, so that prefixes are shared, and judges each claim.

    Cells that are expected to end with an error run alone: their error would stop the others.
    """
    shown = train_cells_of(wanted, grid, options, progress)
    return [judge(claim, shown, overridden) for claim in wanted]


def train_cells_of(
    wanted: Sequence[Claim], grid: Grid, options: RunOptions, progress: Progress
) -> dict[Cell, Evidence | str]:
    """What each cell of ``wanted`` shows: a run, or the message of the error that kept it from one."""
    together = {c.cells[0] for c in wanted if len(c.cells) == 1 and c.what != "error"}
    for claim in wanted:  # what is expected of all cells is looked for in those that train anyway
        if together.isdisjoint(claim.cells) and claim.what != "error":
            together.add(claim.cells[0])
    alone = {claim.cells[0] for claim in wanted if claim.what == "error"}
    shown: dict[Cell, Evidence | str] = {}
    if together:
        outcomes = run_grid(replace(grid, only=frozenset(together)), options, progress)
        found = {_key(outcome): Evidence.read(outcome.folder.path) for outcome in outcomes}
        shown = {cell: found[canonical(cell)] for cell in together}
    return shown | {cell: _expected_error(cell, grid, options, progress) for cell in alone}


def measure(grid: Grid, options: RunOptions, progress: Progress) -> dict[Cell, list[Evidence]]:
    """Each cell of a grid, under its first seed, with what every one of its seeds showed."""
    outcomes = {_key(outcome): outcome for outcome in run_grid(grid, options, progress)}
    found: dict[Cell, list[Evidence]] = {}
    for cell in (Cell(*c) for c in grid.cells()):
        run = Evidence.read(outcomes[canonical(cell)].folder.path)
        found.setdefault(cell._replace(seed=grid.seeds[0]), []).append(run)
    return found


def _expected_error(cell: Cell, grid: Grid, options: RunOptions, progress: Progress) -> Evidence | str:
    own = replace(
        grid,
        backbones=(cell.backbone,),
        heads=(cell.head,),
        strategies=(cell.strategy,),
        lrs=(cell.lr,),
        seeds=(cell.seed,),
        only=frozenset(),
    )
    try:
        (outcome,) = run_grid(own, options, progress)
    except HarnessError as error:
        return str(error)
    return Evidence.read(outcome.folder.path)


def canonical(cell: Cell) -> Cell:
    """The cell as records write it: full names, every option spelled out."""
    return cell._replace(
        backbone=load_backbone(cell.backbone).name,
        head=check_head(cell.head),
        strategy=load_strategy(cell.strategy)[2],
    )


def _key(outcome: Outcome) -> Cell:
    spec = outcome.record["spec"]
    return Cell(spec["backbone"], spec["head"], spec["strategy"], float(spec["lr"]), int(spec["seed"]))


def reuse(source: Path, target: Path, device: str, threads: int | None) -> tuple[int, list[str]]:
    """Copies finished runs of ``source`` into ``target`` where code, versions, threads and device are equal.

    An old result must not vouch for new code, nor one whose bytes aren't what was written. Returns how many
    it took, and why it left the others.
    """
    here = environment(choose_device(device)) | {"threads": threads or default_threads()}
    taken, left = 0, []
    for run in list_runs(source):
        try:
            if faults := verify_run(run.path).faults:
                raise RecordError(faults[0])
            found = Evidence.read(run.path)
        except RecordError as error:
            left.append(str(error))
            continue
        if found.failed:
            continue
        before = found.conditions
        now = {key: here.get(key) for key in CONDITIONS} | {"code": _code_of(found)}
        reasons = [key for key, value in now.items() if before[key] != value]
        if reasons:
            left.append(f"{run.name}: other {', '.join(reasons)}")
            continue
        shutil.copytree(run.path, target / run.name, ignore=shutil.ignore_patterns(".lock"))
        taken += 1
    return taken, left


def _code_of(found: Evidence) -> str | None:
    """Digest of the code that would train this run now; None where one of its plugins is gone."""
    spec = found.record["spec"]
    try:
        strategy = load_strategy(spec["strategy"])[0]
        return code_digest((load_backbone(spec["backbone"]), strategy, load_dataset(spec["data"]["name"])))
    except UsageError:
        return None
