"""``harness predict``."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.commands.show import find_run

if TYPE_CHECKING:
    from harness.predict import Predictions
    from reports.responsible import Rules

_EXAMPLES = """\b
Examples:
  harness predict runs/RUN photo.jpg
  harness predict 3f2a9c01de photos 'more/*.png' --format csv --out predictions.csv
"""


@click.command("predict", epilog=_EXAMPLES)
@click.argument("run")
@click.argument("images", nargs=-1, required=True, metavar="PATH...")
@click.option(
    "--runs",
    type=click.Path(path_type=Path),
    default=Path("runs"),
    show_default=True,
    help="Where run folders lie, if RUN is a name.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "csv"]),
    default="table",
    show_default=True,
    help="A table to read, or every probability in full, for programs.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write to this file.  [default: standard output]",
)
@click.option(
    "--top",
    type=click.IntRange(1),
    metavar="K",
    help="Give the K most probable classes.  [default: one in the table, else all]",
)
@click.option(
    "--batch-size",
    type=click.IntRange(1),
    help="Images at a time.  [default: 64, as the run was tested; another may change the last bits]",
)
@click.option("--weights", metavar="NAME|FILE", help="Where the base weights lie now, if moved.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N, mps.")
@click.option(
    "--threads",
    type=click.IntRange(1, 1024),
    help="CPU threads.  [default: as many as the run had, for the same bits]",
)
@click.option("--workers", type=click.IntRange(1), help="Threads that decode images; changes no result.")
@click.option("--quiet", is_flag=True, help="No progress.")
def command(
    run: str,
    images: tuple[str, ...],
    runs: Path,
    form: str,
    out: Path | None,
    top: int | None,
    batch_size: int | None,
    weights: str | None,
    device: str,
    threads: int | None,
    workers: int | None,
    quiet: bool,
) -> int:
    """Classify images with the network of a finished run.

    RUN is a folder, a run's name, or the ten digits at its end. PATH is an image, a folder (all images
    below it) or a pattern. An image that can't be decoded is named in a line and the others are
    done (status 1; 3 where not one could be).
    """
    folder = find_run(run, runs)
    from harness import runtime
    from harness.data.find_images import find_images
    from harness.features import BATCH
    from harness.files import write_text
    from harness.predict import predict
    from harness.progress import Progress
    from harness.trained import load_run
    from reports.fields import clean
    from reports.records import load_records
    from reports.responsible import rules

    (record,) = load_records([folder])
    paths = find_images(images)
    trained = load_run(folder, weights=weights, device=runtime.choose_device(device))
    train = trained.spec.train
    runtime.configure(threads or trained.threads, train.precision, train.deterministic)
    workers = workers or runtime.default_threads()
    with Progress(quiet=quiet).task(f"{len(paths)} images", len(paths), "images") as task:
        found = predict(
            trained, paths, batch_size=batch_size or BATCH, workers=workers, progress=task.advance
        )
    assert record.result is not None  # load_run takes none that failed
    say = rules(record.result.data.card)
    text = _FORMATS[form](record.run, found, top, say)
    if out is None:
        click.echo(text, nl=False)
    else:
        write_text(out, text)
        click.echo(f"{len(found.paths)} images: {out}", err=True)
    click.echo(f"what the labels are: {say.labels}", err=True)
    click.echo(f"what this model is not for: {say.not_for}", err=True)
    for path, reason in found.failed.items():
        click.echo(f"left out: {clean(path)}: {clean(reason)}", err=True)
    return 1 if found.failed else 0


def _table(run: str, found: Predictions, top: int | None, say: Rules) -> str:
    """Image, then the most probable classes with their probabilities in per cent."""
    from reports.fields import clean

    rows = [
        (clean(path), *(cell for name, share in best for cell in (clean(name), f"{100 * share:.2f} %")))
        for path, best in found.top(top or 1)
    ]
    pairs = (len(rows[0]) - 1) // 2
    head = ("image", "class", "probability", *("", "") * (pairs - 1))
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = (
        "  ".join(v.ljust(w) for v, w in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)
    )
    return "".join(f"{line}\n" for line in lines)


def _csv(run: str, found: Predictions, top: int | None, say: Rules) -> str:
    """A line an image; probabilities with 17 significant digits lose nothing."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    if top is None:
        writer.writerow(["path", "prediction", *(f"p:{name}" for name in found.class_names)])
        for path, index, row in zip(found.paths, found.classes, found.probabilities, strict=True):
            writer.writerow([_text(path), found.class_names[index], *(repr(float(p)) for p in row)])
        return out.getvalue()
    count = min(top, len(found.class_names))
    writer.writerow(["path", *(f"{name}{i}" for i in range(1, count + 1) for name in ("class", "p"))])
    for path, best in found.top(top):
        writer.writerow([_text(path), *(cell for name, share in best for cell in (name, repr(share)))])
    return out.getvalue()


def _json(run: str, found: Predictions, top: int | None, say: Rules) -> str:
    images: Iterable[Mapping[str, object]] = (
        {"path": _text(path), "prediction": best[0][0], "probabilities": dict(best)}
        for path, best in found.top(top)
    )
    content = {
        "run": run,
        "class_names": list(found.class_names),
        "labels": say.labels,
        "not_for": say.not_for,
        "images": list(images),
        "failed": [{"path": _text(path), "reason": _text(reason)} for path, reason in found.failed.items()],
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _text(name: str) -> str:
    r"""A file's name as Unicode: bytes that aren't UTF-8 as ``\xff``, so that names stay apart."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


_FORMATS: Mapping[str, Callable[[str, Predictions, int | None, Rules], str]] = {
    "table": _table,
    "csv": _csv,
    "json": _json,
}
