"""``harness track``."""

from __future__ import annotations

from pathlib import Path

import click

from harness.commands.options import PluginName
from harness.errors import RecordError, UsageError
from harness.plugins import TRACKERS, load_tracker


@click.command("track", epilog="Example: harness track runs --tracker tensorboard --tracker mlflow")
@click.argument("places", nargs=-1, metavar="[RUN|FOLDER]...", type=click.Path(path_type=Path))
@click.option(
    "--tracker",
    "trackers",
    multiple=True,
    required=True,
    type=PluginName(TRACKERS),
    help="tensorboard, mlflow or wandb, with options: 'mlflow[uri=sqlite:///mlflow.db]'; repeat.",
)
@click.option("--quiet", is_flag=True, help="Only the count.")
def command(places: tuple[Path, ...], trackers: tuple[str, ...], quiet: bool) -> int:
    """Export runs to TensorBoard, MLflow or Weights & Biases (offline).

    A place is a run's folder, or a folder of runs; by default 'runs'. What a tracker has already isn't
    written again, so the command may be repeated, also while runs train.
    """
    from harness.progress import Progress
    from harness.trackers.export import Destination, TrackingFailed, export

    to = [Destination(text, load_tracker(text)) for text in trackers]
    folders = [folder for place in places or (Path("runs"),) for folder in _folders(place)]
    written = failed = 0
    progress = Progress(quiet=quiet)
    with progress.task("tracking", len(folders), "runs") as task:
        for folder in folders:
            for destination in tuple(to):
                try:
                    written += export(destination, folder)
                except (TrackingFailed, RecordError) as error:
                    click.echo(f"{error}", err=True)
                    failed += 1
            task.advance(1)
    click.echo(f"{len(folders)} runs, {len(to)} trackers: {written} entries written, {failed} failed")
    return 1 if failed else 0


def _folders(place: Path) -> list[Path]:
    if (place / "spec.json").exists():
        return [place]
    found = sorted(p.parent for p in place.glob("*/spec.json"))
    if not found:
        raise UsageError(f"no run in '{place}'")
    return found
