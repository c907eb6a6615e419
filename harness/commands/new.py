"""``harness new``."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

_NAME = click.argument("name")
_OUT = click.option(
    "--out",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    default=Path(),
    help="Where the package's folder goes.  [default: here]",
)


@click.group("new", epilog="Example: harness new strategy my_probe")
def command() -> None:
    """Write a small package for a plugin of your own, which works as it is."""


@command.command("strategy", epilog="Example: harness new strategy my_probe")
@_NAME
@_OUT
def strategy(name: str, out: Path) -> None:
    """A freezing strategy: what trains, when, at what multiple of the learning rate."""
    _write("strategy", name, out)


@command.command("backbone", epilog="Example: harness new backbone my_network --out plugins")
@_NAME
@_OUT
def backbone(name: str, out: Path) -> None:
    """A network in named stages."""
    _write("backbone", name, out)


@command.command("dataset", epilog="Example: harness new dataset my_images")
@_NAME
@_OUT
def dataset(name: str, out: Path) -> None:
    """A reader of images and their labels."""
    _write("dataset", name, out)


def _write(kind: str, name: str, out: Path) -> None:
    from harness.kit import EXAMPLES, write_package

    folder, files = write_package(kind, name, out)
    # A name without a slash would be looked for in the package index.
    path = str(folder) if folder.is_absolute() else f"./{folder}"
    click.echo(f"wrote {folder}: {', '.join(files)}")
    click.echo(f"next: python -m pip install {shlex.quote(path)} && {EXAMPLES[kind].format(name=name)}")
