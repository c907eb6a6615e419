"""``harness compare``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from harness.commands.report import finished
from harness.commands.show import find_run
from harness.errors import UsageError
from harness.files import write_text


@click.command(
    "compare",
    epilog="Example: harness compare 3f2a9c01de 77b1c20e4a --figure compare.svg; harness compare A B --seeds",
)
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("runs"),
    show_default=True,
    help="Where run folders lie.",
)
@click.option(
    "--seeds", is_flag=True, help="All finished seeds of the two, from the folder in which each lies."
)
@click.option(
    "--figure", type=click.Path(path_type=Path, dir_okay=False), help="Draw it as well, into this SVG file."
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def command(first: str, second: str, out: Path, seeds: bool, figure: Path | None, as_json: bool) -> None:
    """Compare two runs on the test images that they share.

    A and B are run folders, runs' names, or the ten digits at their ends. Within one seed the test is
    exact McNemar (whole groups are exchanged where images come in groups) and the interval a paired
    bootstrap; --seeds resamples images and seeds together. No model is rerun.
    """
    if figure and figure.suffix.lower() != ".svg":
        raise UsageError(f"--figure '{figure}' should end in .svg")
    folders = [find_run(run, out) for run in (first, second)]
    from reports import two_runs
    from reports.records import load_records

    a, b = ([load_records([folder])[0]] for folder in folders)
    if seeds:
        a, b = (
            list(two_runs.other_seeds(group[0], load_records(finished((folder.resolve().parent,)))))
            for group, folder in zip((a, b), folders, strict=True)
        )
    found = two_runs.compare_records(a, b)
    if as_json:
        click.echo(json.dumps(two_runs.as_json(found), indent=2, ensure_ascii=False))
    else:
        click.echo("\n".join(two_runs.lines(found)))
    if figure:
        from reports.figures.comparison import comparison

        figure.parent.mkdir(parents=True, exist_ok=True)
        write_text(figure, comparison(found).file)
        if not as_json:
            click.echo(f"figure: {figure}")
