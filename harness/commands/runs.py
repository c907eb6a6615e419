"""``harness runs ls|rm``."""

from __future__ import annotations

from pathlib import Path

import click

from harness.errors import RecordError, UsageError

_OUT = click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("runs"),
    show_default=True,
    help="Where run folders lie.",
)


@click.group("runs", epilog="Example: harness runs ls")
def command() -> None:
    """List or remove run folders."""


@command.command("ls", epilog="Example: harness runs ls; harness runs ls experiments/runs")
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@_OUT
def ls(folder: Path | None, out: Path) -> None:
    """List the runs in FOLDER, else in --out, with their status and test accuracy."""
    from harness.store import list_runs

    out = folder or out
    runs = list_runs(out)
    if not runs:
        click.echo(f"no runs in '{out}'", err=True)
    for run in runs:
        try:
            status = run.status()
            accuracy = run.result()["test"]["accuracy"] if status == "done" else None
        except RecordError:
            status, accuracy = "unreadable", None
        figure = " " * 8 if accuracy is None else f"{100 * accuracy:6.2f} %"
        click.echo(f"{status:<10}  {figure}  {run.name}")


@command.command("rm", epilog="Example: harness runs rm RUN; harness runs rm --unfinished")
@click.argument("names", nargs=-1)
@click.option("--unfinished", is_flag=True, help="All that were not finished or failed.")
@_OUT
def rm(names: tuple[str, ...], unfinished: bool, out: Path) -> None:
    """Remove runs by name (or by the ten digits at its end), or by their folders."""
    from harness.store import list_runs, remove_run

    runs = {run.name: run for run in list_runs(out)}
    chosen = [run for run in runs.values() if unfinished and run.status() != "done"]
    for name in names:
        here = Path(name)  # as other commands take it
        matches = (
            [run for run in list_runs(here.parent) if run.path == here]
            if len(here.parts) > 1
            else [run for run in runs.values() if run.name == name or run.name.endswith(f"_{name}")]
        )
        if not matches:
            raise UsageError(f"no run '{name}' in '{out}'; harness runs ls --out {out} lists them")
        chosen += matches
    if not chosen and not unfinished:
        raise UsageError("name the runs to remove, or give --unfinished")
    for run in {r.path: r for r in chosen}.values():
        remove_run(run)
        click.echo(f"removed {run.name}")
