"""The options that say where a suite's data lie and where its grid runs; of every command that trains one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

_OPTIONS = (
    click.option("--data", metavar="NAME=PATH", help="Where the suite's data lie."),
    click.option("--weights", metavar="NAME|FILE", help="Weights instead of the suite's."),
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N, mps."),
    click.option("--threads", type=click.IntRange(1, 1024), help="CPU threads."),
    click.option(
        "--reuse",
        type=click.Path(path_type=Path, exists=True, file_okay=False),
        help="Take finished runs from here where code, versions, threads and device are the same.",
    ),
    click.option(
        "--out",
        type=click.Path(path_type=Path),
        help="Leave the runs in this folder, which must be new or empty.  [default: none are left]",
    ),
)


def suite_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds ``--data``, ``--weights``, ``--device``, ``--threads``, ``--reuse`` and ``--out``."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
