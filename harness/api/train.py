"""Training from Python, by the options of the command line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypedDict, Unpack

import click

from harness.api.grids import Grid
from harness.api.runs import Run
from harness.errors import HarnessError, UnknownName, UsageError

# Options that ask for something else than runs, or for other processes than this one.
_NOT_HERE = ("plan", "gpus", "tflops", "price", "processes", "help")


class Options(TypedDict, total=False):
    """Options of ``harness run`` by their names there, ``_`` for ``-``; ``harness run --help`` explains them.

    ``weights`` and ``tracker`` take one value or a list of them.
    """

    target: str
    split: str
    group: str
    split_seed: int
    limit: int
    missing: str
    weights: str | Path | Sequence[str]
    epochs: int
    batch_size: int
    micro_batches: int
    optimizer: str
    weight_decay: float
    schedule: str
    class_weights: str
    flip: bool
    augment: str
    precision: str
    select: str
    fast: bool
    device: str
    threads: int
    workers: int
    cache_budget: str
    keep_features: bool
    allow_random_frozen: bool
    no_wait: bool
    out: str | Path
    tracker: str | Sequence[str]
    engine: str
    quiet: bool


def run(
    strategy: str = "head_only",
    lr: float = 1e-3,
    seed: int = 0,
    *,
    backbone: str | None = None,
    head: str = "own",
    data: str = "faces",
    **options: Unpack[Options],
) -> Run:
    """Trains one cell, or finds it done, and returns its run.

    ``backbone`` is by default ``vgg_tiny`` on the embedded sample and ``vgg16`` on other ``data``, which are
    ``NAME`` or ``NAME=PATH`` as for ``--data``. ``options`` are those of ``harness run``. Progress goes to
    standard error (``quiet=True``: nothing). Raises UsageError for an option, a name or a value that makes no
    sense, DataError and WeightsError for files that can't be used, Locked with ``no_wait`` where another
    process trains the cell, HarnessError with the reason where training failed.
    """
    backbones = () if backbone is None else (backbone,)
    (found,) = grid([strategy], [lr], [seed], backbones=backbones, heads=[head], data=data, **options)
    if found.error is not None:
        raise HarnessError(f"run '{found.name}' failed: {found.error}")
    return found


def grid(
    strategies: Sequence[str] = (),
    lrs: Sequence[float | str] = (),
    seeds: Sequence[int] = (),
    *,
    backbones: Sequence[str] = (),
    heads: Sequence[str] = (),
    data: str | None = None,
    suite: str | Path | None = None,
    **options: Unpack[Options],
) -> Grid:
    """Trains every combination, sharing what is frozen; cells that are done already are not trained again.

    What is left empty is what the ``suite`` says (a name or a file), else as for :func:`run`: ``head_only``,
    1e-3, 0, ``vgg_tiny`` or ``vgg16``, ``own``, ``faces``. A learning rate may be a range, ``"1e-5:1e-1:7"``.
    A cell that fails is in the grid with its ``error``, and the others go on. Raises as :func:`run`, but for
    the last.
    """
    asked: dict[str, Any] = {
        "strategy": strategies,
        "lr": [value if isinstance(value, str) else repr(float(value)) for value in _listed("lrs", lrs)],
        "seed": seeds,
        "backbone": backbones,
        "head": heads,
        "data": data,
        "suite": None if suite is None else str(suite),
        **options,
    }
    given = _converted(asked)
    from harness import runtime
    from harness.commands.run import train

    with runtime.preserved():
        outcomes = train(given, ("run", *_words(asked)))
    return Grid([Run(outcome.folder.path, outcome.record) for outcome in outcomes])


def _words(asked: dict[str, Any]) -> Iterator[str]:
    """The same as a command line, which records quote."""
    for name, value in asked.items():
        option = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            yield from [option] if value else ["--no-flip"] if name == "flip" else []
        elif value is not None:
            several = isinstance(value, Sequence) and not isinstance(value, str)
            for one in value if several else [value]:
                yield from (option, str(one))


def _listed(name: str, values: Any) -> Sequence[Any]:
    """A text is a sequence too, of letters, and never what was meant."""
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise UsageError(f"{name} is a list of values, not {values!r}")
    return values


def _converted(asked: dict[str, Any]) -> dict[str, Any]:
    """Every option of ``harness run``, those asked for checked as its own types check them."""
    from harness.commands.run import command

    context = command.make_context("run", [])
    known = {p.name: p for p in command.params if p.name is not None and p.name not in _NOT_HERE}
    given = dict(context.params)
    for name, value in asked.items():
        if name not in known:
            raise UnknownName("option", name, known)
        parameter = known[name]
        if value is None:
            continue
        if parameter.multiple and name in ("weights", "tracker") and isinstance(value, str | Path):
            value = [value]
        if parameter.multiple:
            value = _listed(f"{name}s" if name not in ("weights",) else name, value)
        try:
            given[name] = parameter.type_cast_value(context, value)
        except (click.BadParameter, TypeError) as error:
            reason = error.message if isinstance(error, click.BadParameter) else str(error)
            raise UsageError(f"{name}={value!r}: {reason}") from error
    return given
