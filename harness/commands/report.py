"""``harness report``."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Literal

import click

from harness.errors import UsageError


@click.command("report", epilog="Example: harness report runs --out report --images embed --open")
@click.argument("runs", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("report"),
    show_default=True,
    help="Folder for index.html, report.md and so on.",
)
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=click.Choice(["html", "md", "json", "model-card"]),
    help="What to write; repeat.  [default: html and md]",
)
@click.option("--cell", metavar="CELL", help="Whose model card: number, name or run.  [default: the best]")
@click.option("--title", help="Title of the report.")
@click.option(
    "--examples",
    type=click.IntRange(0),
    default=5,
    show_default=True,
    help="Test images to show of each kind: random and confident mistakes, fixed, broken.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Seed of the random choice.",
)
@click.option(
    "--against",
    metavar="CELL",
    help="Cell to set the best one beside: its number, name, strategy or run.  [default: the simplest]",
)
@click.option(
    "--slice",
    "slices",
    multiple=True,
    metavar="NAME",
    help="Attribute of the data, or 'group', to show the best cell's accuracy by; may be repeated.  "
    "[default: all attributes]",
)
@click.option(
    "--images",
    type=click.Choice(["embed", "names", "none"]),
    default="names",
    show_default=True,
    help="Show the images themselves, their names, or neither.",
)
@click.option("--open", "opened", is_flag=True, help="Show the page in the browser when it is written.")
def command(
    runs: tuple[Path, ...],
    out: Path,
    formats: tuple[Literal["html", "md", "json", "model-card"], ...],
    cell: str | None,
    title: str | None,
    examples: int,
    seed: int,
    against: str | None,
    slices: tuple[str, ...],
    images: Literal["embed", "names", "none"],
    opened: bool,
) -> None:
    """Write a report: a self-contained page and Markdown, or JSON, or a model card.

    RUNS are run folders, or folders that hold some; by default all that lie in 'runs'. No model is
    rerun.
    """
    if cell is not None and "model-card" not in formats:
        raise UsageError("--cell goes with --format model-card")
    if opened and formats and "html" not in formats:
        raise UsageError("--open goes with --format html")
    places = runs or (Path("runs"),)
    folders = finished(places)
    from reports.formats import plural
    from reports.records import load_records
    from reports.render import DEFAULT, write_report
    from reports.summary import build_report

    data = build_report(
        load_records(folders), title=title, examples=examples, seed=seed, against=against, slices=slices
    )
    written = write_report(data, out, images, formats=formats or DEFAULT, cell=cell)
    beside = [path for path in written if path.parent != out]
    failed = f", {plural(len(data.failed), 'failed run')}" if data.failed else ""
    click.echo(f"report on {plural(len(data.cells), 'cell')}{failed}:")
    for path in written:
        if path not in beside:
            click.echo(path)
    if beside:
        click.echo(f"{plural(len(beside), 'file')} in {beside[0].parent}")
    for folder in unfinished(places):
        click.echo(f"not finished, left out: {folder}; the same harness run goes on with it", err=True)
    if opened and not webbrowser.open((out / "index.html").resolve().as_uri()):
        raise UsageError(f"no browser could be started; open {out / 'index.html'} yourself")


def unfinished(places: tuple[Path, ...]) -> list[Path]:
    """The folders at or directly below ``places`` in which a run was begun and not ended."""
    begun = [
        spec.parent for place in places for spec in (*place.glob("spec.json"), *place.glob("*/spec.json"))
    ]
    return sorted({folder for folder in begun if not (folder / "result.json").exists()})


def finished(places: tuple[Path, ...]) -> tuple[Path, ...]:
    """The folders with a result, at or directly below ``places``; UsageError where there is none."""
    found: dict[Path, None] = {}
    for place in places:
        if not place.exists():
            raise UsageError(f"'{place}' doesn't exist; train something first: harness run")
        inside = (
            [place]
            if (place / "result.json").exists()
            else sorted(p.parent for p in place.glob("*/result.json"))
        )
        if not inside:
            raise UsageError(
                f"no finished run in '{place}'; train something first: harness run --out {place}"
            )
        found |= dict.fromkeys(inside)
    return tuple(found)
