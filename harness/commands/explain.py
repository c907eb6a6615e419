"""``harness explain``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.commands.report import finished
from harness.errors import DataError, HarnessError, UsageError

if TYPE_CHECKING:
    from reports.model import ReportData


@click.command("explain", epilog="Example: harness explain runs && harness report runs --images embed")
@click.argument("runs", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--examples",
    type=click.IntRange(0),
    default=5,
    show_default=True,
    help="As for harness report: images of each kind.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="As for harness report: seed of the random choice.",
)
@click.option("--against", metavar="CELL", help="As for harness report: cell to set the best one beside.")
@click.option(
    "--weights",
    multiple=True,
    metavar="[BACKBONE=]FILE",
    help="Where base weights lie now, if they were moved since the run.",
)
def command(
    runs: tuple[Path, ...], examples: int, seed: int, against: str | None, weights: tuple[str, ...]
) -> int:
    """Compute Grad-CAM of the test images that the report shows.

    RUNS are run folders, or folders that hold some; by default all that lie in 'runs'. Heat maps go
    into the folder of each run concerned ('gradcam.json'; no image is copied), from where `harness
    report --images embed` takes them. Needs captum: pip install 'transfer-harness[explain]'.
    """
    folders = finished(runs or (Path("runs"),))
    from harness.explain import explain_run
    from harness.gradcam import require_captum
    from reports.records import load_records
    from reports.summary import build_report

    require_captum()
    data = build_report(load_records(folders), examples=examples, seed=seed, against=against)
    failed = False
    for folder, backbone, images in _wanted(data):
        try:
            click.echo(explain_run(folder, images, _where(weights, backbone)))
        except HarnessError as error:
            click.echo(f"{folder.name}: {error}", err=True)
            failed = True
    return 1 if failed else 0


def _wanted(data: ReportData) -> Iterator[tuple[Path, str, dict[str, Path]]]:
    """For each run that the report quotes images of: folder, backbone, image files by id."""
    from reports.thumbnails import find_image

    found: dict[Path, tuple[str, dict[str, Path]]] = {}
    for experiment in data.experiments:
        for gallery in experiment.examples.galleries:
            for example in gallery.shown:
                image = find_image(example)
                if image is None:
                    raise DataError(f"image '{example.path}' isn't there any more")
                for answer in example.answers:
                    record = answer.cell.record
                    found.setdefault(record.folder, (record.spec.backbone, {}))[1][example.name] = image
    if not found:
        raise UsageError("there is no image to explain: nothing was wrong, or --examples is 0")
    return ((folder, backbone, images) for folder, (backbone, images) in found.items())


def _where(given: Sequence[str], backbone: str) -> str | None:
    """The base weights given for a backbone, by its full name or without its family."""
    for text in given:
        name, equals, file = text.partition("=")
        if not equals:
            return text
        if name in (backbone, backbone.rpartition(":")[2]):
            return file
    return None
