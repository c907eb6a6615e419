"""``harness rerun``."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.commands.show import find_run

if TYPE_CHECKING:
    from harness.rerun import Rerun


@click.command("rerun", epilog="Example: harness rerun runs/RUN; harness rerun 3f2a9c01de --data PATH")
@click.argument("run")
@click.option(
    "--runs",
    type=click.Path(path_type=Path),
    default=Path("runs"),
    show_default=True,
    help="Where run folders lie, if RUN is a name.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep the new run in this folder.  [default: it is compared and thrown away]",
)
@click.option(
    "--data", metavar="PATH", type=click.Path(path_type=Path), help="Where the images lie now, if moved."
)
@click.option("--weights", metavar="NAME|FILE", help="Where the base weights lie now, if moved.")
@click.option("--device", help="Another device than the run's.")
@click.option("--quiet", is_flag=True, help="Only the comparison.")
def command(
    run: str,
    runs: Path,
    out: Path | None,
    data: Path | None,
    weights: str | None,
    device: str | None,
    quiet: bool,
) -> int:
    """Train a run again from its record alone, and compare weights, predictions and figures bit by bit.

    RUN is a folder, a run's name, or the ten digits at its end. On the same machine with the same
    versions nothing may differ (status 0); else every difference is listed (status 1), those that may be
    why first. So is a file of the run that isn't what it wrote.
    """
    folder = find_run(run, runs)
    from harness.progress import Progress
    from harness.rerun import Moved, rerun
    from harness.verify import changed_files

    with tempfile.TemporaryDirectory(prefix="harness-rerun-") as temporary:
        found = rerun(folder, out or Path(temporary), Moved(data, weights, device), Progress(quiet=quiet))
        for line in _lines(found):
            click.echo(line)
    # It was held against the record: the files that the run has now are another matter.
    damaged = changed_files(folder)
    for fault in damaged:
        click.echo(f"harness: {fault}", err=True)
    return 0 if found.same and not damaged else 1


def _lines(found: Rerun) -> list[str]:
    from harness.rerun import CAUSES, RESULTS

    lines = [str(found.before["run"])]
    changed = {d.name for d in found.differences}
    for name in (*CAUSES, *RESULTS):
        digest = found.before["digests"].get(name)
        if digest and f"digest of {name}" not in changed:
            lines.append(f"  same      {name} {digest[:16]}")
    for d in found.differences:
        lines.append(f"  {'changed' if d.cause else 'DIFFERS':<8}  {d.name}: was {d.before}, is {d.now}")
    if not found.before["spec"]["train"].get("deterministic", True):
        lines.append("  the run was made with --fast: its last bits may differ each time")
    verdict = "every bit came out again" if found.same else "other bits came out"
    return [*lines, f"  {verdict}"]
