"""From a suite to the grid that it asks for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

from harness.spec import DataSpec, Grid, TrainSpec
from harness.suites import Suite


def suite_grid(suite: Suite) -> Grid:
    """The grid of a suite; what it leaves out has its default."""
    d = suite.data
    return Grid(
        data=DataSpec(d.name, d.target, d.split or "auto", d.group, d.split_seed, d.limit, d.missing),
        backbones=suite.grid.backbones,
        weights=dict.fromkeys(suite.grid.backbones, suite.grid.weights) if suite.grid.weights else {},
        heads=suite.grid.heads,
        strategies=suite.grid.strategies,
        lrs=suite.grid.lrs,
        seeds=suite.grid.seeds,
        train=replace(TrainSpec(), **dict(suite.train)),  # type: ignore[arg-type]
        suite=suite.name,
    )


def recipe(train: TrainSpec) -> dict[str, str | int | float | bool]:
    """Every setting of a training that isn't the default; epochs and batch size always."""
    default = TrainSpec()
    shown = {f.name: getattr(train, f.name) for f in fields(train)}
    return {k: v for k, v in shown.items() if k in ("epochs", "batch_size") or v != getattr(default, k)}


def overridden(grid: Grid, suite: Suite) -> tuple[str, ...]:
    """What ``grid`` asks for otherwise than ``suite``: ``epochs 3 instead of 10``. Cells don't count."""
    own = suite_grid(suite)
    return (*_differing(own.data, grid.data), *_differing(own.train, grid.train), *_weights(own, grid))


def _differing(own: DataSpec | TrainSpec, asked: DataSpec | TrainSpec) -> Iterator[str]:
    for field in fields(own):
        before, now = getattr(own, field.name), getattr(asked, field.name)
        if before != now:
            yield f"{field.name} {now} instead of {before}"


def _weights(own: Grid, asked: Grid) -> Iterator[str]:
    """A file is another place for weights: whether they are other ones, their digest says."""
    for backbone in asked.backbones:
        before, now = own.weights.get(backbone), asked.weights.get(backbone)
        if before != now and not Path(now or "").suffix:
            yield f"weights of {backbone}: {now} instead of {before}"
