"""``harness report``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from harness.errors import UsageError


@click.command(
    "report", epilog="Example: harness report runs --out report --images embed && xdg-open report/index.html"
)
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
) -> None:
    """Write a report: a self-contained page and Markdown, or JSON, or a model card.

    RUNS are run folders, or folders that hold some; by default all that lie in 'runs'. No model is
    rerun.
    """
    if cell is not None and "model-card" not in formats:
        raise UsageError("--cell goes with --format model-card")
    folders = finished(runs or (Path("runs"),))
    from reports.records import load_records
    from reports.render import DEFAULT, write_report
    from reports.summary import build_report

    data = build_report(
        load_records(folders), title=title, examples=examples, seed=seed, against=against, slices=slices
    )
    for path in write_report(data, out, images, formats=formats or DEFAULT, cell=cell):
        click.echo(path)


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
