"""``harness data audit``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.commands.data_options import asked_data, data_options
from harness.errors import DataError, UsageError

if TYPE_CHECKING:
    from harness.data.audit import DataAudit


@click.group("data", epilog="Example: harness data audit --data folder=PATH")
def command() -> None:
    """Look into images, labels and splits."""


@command.command(
    "audit", epilog="Example: harness data audit --data folder=PATH --json audit.json --runs runs"
)
@click.option("--suite", metavar="NAME|FILE", help="The data of a suite; other options override them.")
@data_options
@click.option(
    "--runs",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Run folders, or folders that hold some: note in those of this split what training has seen.",
)
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write all of it.")
@click.option(
    "--list",
    "list_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the ids of images that could go so that no picture is there twice, one a line.",
)
@click.option(
    "--show", type=click.IntRange(0), default=5, show_default=True, help="Findings of each kind to name."
)
@click.option(
    "--strict", is_flag=True, help="Exit with 3 where test images have copies or groups in training."
)
@click.option("--workers", type=click.IntRange(1), help="Threads that decode images.")
@click.option("--quiet", is_flag=True, help="No progress.")
def audit(
    suite: str | None,
    runs: tuple[Path, ...],
    json_file: Path | None,
    list_file: Path | None,
    show: int,
    strict: bool,
    workers: int | None,
    quiet: bool,
    **given: Any,
) -> int:
    """Find duplicates, leakage between the parts of a split, and images that can't be used.

    The data and the split are those that `harness run` with the same options would use. Each image is
    decoded once and remembered. Exits with 3 where images can't be read: a run would stop at them.
    """
    from harness.commands.report import finished
    from harness.data.audit import audit_data
    from harness.data.audit_views import as_json, lines, redundant
    from harness.data.prepare import prepare_data
    from harness.files import to_json, write_text
    from harness.progress import Progress
    from harness.spec import DataSpec
    from harness.suites import load_suite
    from harness.suites.grid import suite_grid

    folders = finished(runs) if runs else ()
    path, spec = asked_data(given, suite_grid(load_suite(suite)).data if suite else DataSpec())
    threads = workers or os.cpu_count() or 1
    found = audit_data(prepare_data(spec, path, threads), threads, Progress(quiet=quiet))
    click.echo("\n".join(lines(found, show)))
    if json_file is not None:
        write_text(json_file, to_json(as_json(found)))
    if list_file is not None:
        ids = found.data.table.ids
        write_text(list_file, "".join(f"{ids[row]}\n" for row in redundant(found)))
    if runs:
        click.echo("")
        click.echo(_tell(found, folders))
    if found.looks.unreadable:
        raise DataError(f"{len(found.looks.unreadable)} images can't be read: a run would stop at them")
    leakage = found.leakage
    if strict and (leakage.exact or leakage.near or leakage.groups):
        raise DataError("test images have copies or groups in training (--strict)")
    return 0


def _tell(found: DataAudit, folders: tuple[Path, ...]) -> str:
    """Writes what was found into the run folders of this split; says into how many."""
    from harness.leakage import belonging, write_leakage
    from harness.store import RunFolder

    told = 0
    for folder in folders:
        record = RunFolder(folder).result()
        if belonging(record.get("digests", {})) == found.leakage.digests:
            write_leakage(folder, found.leakage)
            told += 1
    if not told:
        raise UsageError(
            "none of the runs was trained on these data and this split: use the run's own options"
        )
    others = len(folders) - told
    return (
        f"{told} run {'folder now holds' if told == 1 else 'folders now hold'} what training has seen of the "
        f"test images{f'; {others} of other data or another split left alone' if others else ''}"
    )
