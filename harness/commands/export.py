"""``harness export``."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import click

from harness.commands.options import FiniteRange
from harness.commands.show import find_run
from harness.errors import DataError

FORMATS = ("safetensors", "onnx", "torch-export", "hf")
IMAGES = 64  # of the run's test that the check takes: one batch

_EXAMPLES = """\b
Examples:
  harness export runs/RUN --to safetensors
  harness export 3f2a9c01de --to onnx --out smile-onnx
"""


@click.command("export", epilog=_EXAMPLES)
@click.argument("run")
@click.option("--to", "form", type=click.Choice(FORMATS), required=True, help="What to write.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to write.  [default: exports/RUN_FORMAT]",
)
@click.option("--force", is_flag=True, help="Replace an earlier export in that folder.")
@click.option(
    "--images",
    multiple=True,
    metavar="PATH",
    help="Images to check with: files, folders, patterns; repeat.  [default: the run's first test images]",
)
@click.option(
    "--tolerance",
    type=FiniteRange(0),
    default=1e-4,
    show_default=True,
    help="How far a logit may be off, as a share of the largest one; safetensors must be equal.",
)
@click.option(
    "--runs",
    type=click.Path(path_type=Path),
    default=Path("runs"),
    show_default=True,
    help="Where run folders lie, if RUN is a name.",
)
@click.option("--weights", metavar="NAME|FILE", help="Where the base weights lie now, if moved.")
def command(
    run: str,
    form: str,
    out: Path | None,
    force: bool,
    images: tuple[str, ...],
    tolerance: float,
    runs: Path,
    weights: str | None,
) -> None:
    """Write a run's network as files that stand alone, with its model card.

    RUN is a folder, a run's name, or the ten digits at its end. The files are read back and must
    give the trained network's logits for real images, or nothing is written (status 1). onnx needs the
    extra 'export': pip install 'transfer-harness[export]'.
    """
    folder = find_run(run, runs)
    out = out or Path("exports") / f"{folder.resolve().name}_{form}"
    from harness import runtime
    from harness.data.find_images import find_images
    from harness.export.write import check_export, export_run
    from harness.predict import recorded_answers
    from harness.trained import load_run
    from reports.notes import export_notes

    check_export(form, out, force=force)
    notes = export_notes(folder)
    trained = load_run(folder, weights=weights)
    train = trained.spec.train
    runtime.configure(trained.threads, train.precision, train.deterministic)
    answers = {} if images else recorded_answers(trained)
    there = list(islice(filter(_readable, answers), IMAGES))
    if not images and not there:
        raise DataError(
            f"the test images of run '{folder.name}' aren't there any more: name others with --images"
        )
    done = export_run(
        trained,
        form,
        out,
        notes,
        images=find_images(images)[:IMAGES] if images else there,
        recorded=None if images else [answers[path] for path in there],
        tolerance=tolerance,
        force=force,
    )
    for file in done.files:
        click.echo(file)
    p = done.parity
    click.echo(f"checked on {p.images} images{'' if images else ' of the test'}:", err=True)
    click.echo(f"  largest difference of a logit {p.difference:.3g} (largest logit {p.scale:.3g})", err=True)
    click.echo(f"  same class as the trained network {p.agree} of {p.images}", err=True)
    if p.as_recorded is not None:
        click.echo(f"  same class as the run recorded {p.as_recorded} of {p.images}", err=True)
    click.echo(f"licence of the data: {notes.terms['licence']} {notes.terms['sharing']}", err=True)
    click.echo(f"what this model is not for: {notes.terms['not_for']}", err=True)


def _readable(path: str) -> bool:
    from harness.data.image_file import read_file

    try:
        return bool(read_file(path))
    except DataError:
        return False
