"""``harness verify``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.verify import Finding


@click.command("verify", epilog="Example: harness verify; harness verify runs/RUN --images")
@click.argument("places", nargs=-1, metavar="[RUN|FOLDER]...")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("runs"),
    show_default=True,
    help="Where run folders lie.",
)
@click.option("--images", is_flag=True, help="Read the images of each run again, too.")
@click.option(
    "--data", metavar="PATH", type=click.Path(path_type=Path), help="Where the images lie now, if moved."
)
def command(places: tuple[str, ...], out: Path, images: bool, data: Path | None) -> int:
    """Check every byte of finished runs, and of kept activations, against its digest.

    A place is a run's folder, name, or the ten digits at its end, or a folder of runs. Without any, all
    runs in 'runs' and the cache are checked. What isn't as it was written is named, and the status is 3.
    """
    from harness import verify

    folders = [folder for place in places or (str(out),) for folder in _folders(place, out, bool(places))]

    def findings() -> Iterator[Finding]:
        for folder in folders:
            yield verify.verify_run(folder)
            if images or data:
                yield verify.verify_data(folder, data, os.cpu_count() or 1)
        if not places:
            yield from verify.verify_cache()

    shown = [_show(found) for found in findings()]
    begun = _unfinished(places or (str(out),))
    more = f"; {begun} without a record (unfinished?), not checked" if begun else ""
    click.echo(f"{len(shown)} checked, {sum(shown)} not as written{more}", err=True)
    return 3 if any(shown) else 0


def _unfinished(places: Iterable[str]) -> int:
    """How many runs below ``places`` hold no record."""
    from harness.store import RESULT, list_runs

    found = {run.path for place in places for run in list_runs(Path(place))}
    return sum(not (path / RESULT).exists() for path in found)


def _folders(place: str, out: Path, must_exist: bool) -> list[Path]:
    """The finished runs that a word on the command line means."""
    path = Path(place)
    if (path / "result.json").exists():
        return [path]
    inside = sorted(p.parent for p in path.glob("*/result.json"))
    if inside or not must_exist:
        return inside
    from harness.commands.show import find_run

    if path.is_dir():
        raise UsageError(f"no finished run in '{path}'")
    return [find_run(place, out)]


def _show(found: Finding) -> bool:
    """Prints a finding; whether something is wrong."""
    size = f"{found.nbytes / 2**20:.1f} MiB"
    click.echo(f"{'DAMAGED' if found.faults else 'ok':<8} {found.files:>6} files {size:>12}  {found.name}")
    for fault in found.faults:
        click.echo(f"         {fault}")
    return bool(found.faults)
