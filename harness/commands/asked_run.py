"""From the options of ``harness run`` to a grid, and to how and where it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.commands.data_options import asked_data
from harness.commands.data_paths import weights_variable
from harness.errors import UsageError
from harness.spec import Grid, TrainSpec, parse_lr

if TYPE_CHECKING:
    from harness.progress import Progress
    from harness.run_options import RunOptions

_TRAIN = {f.name for f in fields(TrainSpec)}


def asked_run(given: dict[str, Any], argv: tuple[str, ...]) -> tuple[Grid, RunOptions, Progress]:
    """What the options ask for: which cells, how and where, and who is told."""
    path, grid = _grid(given)
    from harness.micro_batches import Change
    from harness.placement import parse_bytes
    from harness.progress import Progress
    from harness.run_options import RunOptions

    options = RunOptions(
        out=given["out"],
        data_path=path,
        device=given["device"],
        threads=given["threads"],
        workers=given["workers"],
        cache_budget=parse_bytes(given["cache_budget"]) if given["cache_budget"] else None,
        keep_features=given["keep_features"],
        wait=not given["no_wait"],
        allow_random_frozen=given["allow_random_frozen"],
        micro_batches=(Change(1, 0, given["micro_batches"]),),
        argv=argv,
        engine=given["engine"],
    )
    return grid, options, Progress(quiet=given["quiet"])


def check_plan(given: dict[str, Any]) -> None:
    """Raises UsageError for options of an estimate that aren't asked for with one."""
    if given["gpus"] and not given["plan"]:
        raise UsageError("--gpus is an estimate: it goes with --plan")
    for name in ("tflops", "price"):
        if given[name] is not None and not given["gpus"]:
            raise UsageError(f"--{name} goes with --plan --gpus N")


def engine_of_one(engine: str) -> str:
    """The engine of a group that trains each cell together: its processes are all that there are."""
    alone = "local[workers=1]"
    if engine not in ("local", alone):
        raise UsageError(f"--engine {engine} gives each cell to one process: leave it out, or --processes")
    return alone


def _grid(given: dict[str, Any]) -> tuple[Path | None, Grid]:
    """The grid that the options ask for, over what a suite says, over the defaults."""
    from harness.suites import load_suite
    from harness.suites.grid import suite_grid

    suite = load_suite(given["suite"]) if given["suite"] else None
    base = suite_grid(suite) if suite else Grid()
    path, data = asked_data(given, base.data)
    name = data.name
    train = {k: given[k] for k in _TRAIN - {"deterministic"} if given[k] is not None} | (
        {"deterministic": False} if given["fast"] else {}
    )
    backbones = given["backbone"] or (("vgg16",) if suite is None and name != "faces" else base.backbones)
    grid = replace(
        base,
        suite=base.suite if name == base.data.name else None,
        data=data,
        backbones=tuple(backbones),
        weights=_weights(given["weights"], tuple(backbones), base),
        heads=given["head"] or base.heads,
        strategies=given["strategy"] or base.strategies,
        lrs=tuple(lr for text in given["lr"] for lr in parse_lr(text)) or base.lrs,
        seeds=given["seed"] or base.seeds,
        train=replace(base.train, **train),
    )
    return path, grid


def _weights(given: Sequence[str], backbones: tuple[str, ...], base: Grid) -> dict[str, str]:
    """Weights by backbone: as given, else from its environment variable, else what the suite says."""
    chosen = {b: base.weights[b] for b in backbones if b in base.weights}
    for backbone in backbones if not given else ():
        variable, file = weights_variable(backbone)
        if file:
            click.echo(f"weights of {backbone}: {file} ({variable})", err=True)
            chosen[backbone] = file
    for text in given:
        backbone, equals, weights = text.partition("=")
        if equals and backbone in backbones:
            chosen[backbone] = weights
        elif len(backbones) == 1:
            chosen[backbones[0]] = text
        else:
            raise UsageError(
                f"--weights '{text}' doesn't say which of {', '.join(backbones)}: BACKBONE=NAME|FILE"
            )
    return chosen
