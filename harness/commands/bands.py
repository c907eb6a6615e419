"""``harness bands``."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.commands.check import run_folders, suite_and_grid
from harness.commands.options import FiniteRange
from harness.commands.suite_options import suite_options
from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.spec import Grid
    from harness.suites import Suite
    from harness.suites.evidence import Evidence
    from harness.suites.propose import Proposal

_TOLD = ("harness", "torch", "torchvision", "numpy", "pillow", "platform", "device", "device_name", "threads")


@click.command("bands", epilog="Example: harness bands mine.suite.toml --seeds 10 --write")
@click.argument("suite", metavar="SUITE")
@click.option("--seeds", type=click.IntRange(3), default=10, show_default=True, help="How many seeds.")
@click.option("--first-seed", type=click.IntRange(0), default=0, show_default=True, help="The first of them.")
@click.option(
    "--coverage",
    type=FiniteRange(0.5, 1, max_open=True),
    default=0.95,
    show_default=True,
    help="Probability that one more run of the whole suite stays inside all of its bands.",
)
@suite_options
@click.option("--write", is_flag=True, help="Write them into the suite's file instead of printing them.")
@click.option("--quiet", is_flag=True, help="No progress.")
def command(suite: str, **given: Any) -> None:
    """Measure the bands of a suite: train its grid with several seeds and propose what to expect.

    Printed as TOML; --write puts it into the suite's file, in a part between two comments, and leaves
    everything else there as it is.
    """
    loaded, path, grid = suite_and_grid(suite, given)
    file = _file(loaded) if given["write"] else None
    seeds = tuple(range(given["first_seed"], given["first_seed"] + given["seeds"]))
    from harness.check import measure
    from harness.progress import Progress
    from harness.run_options import RunOptions
    from harness.suites.propose import propose
    from harness.suites.write import section, shared_digests

    progress = Progress(quiet=given["quiet"])
    with run_folders(given, progress) as out:
        options = RunOptions(out=out, data_path=path, device=given["device"], threads=given["threads"])
        measured = measure(replace(grid, seeds=seeds), options, progress)
    runs = [run for found in measured.values() for run in found]
    proposals = propose(measured, given["coverage"])
    shared = shared_digests(runs)
    text = section(proposals, shared, _source(loaded, runs, shared, given), _shown(grid))
    for proposal in proposals:
        for reason in proposal.left_out:
            progress.say(f"{proposal.cell}: no band for {reason}")
    if file is None:
        click.echo(text, nl=False)
    else:
        _write(file, text)
        click.echo(f"{_count(proposals)} bands of {len(proposals)} cells written into '{file}'")


def _count(proposals: Sequence[Proposal]) -> int:
    return sum(len(p.bands) for p in proposals)


def _file(suite: Suite) -> Path:
    from harness.suites import builtin_file

    if suite.file:
        return suite.file
    file = builtin_file(suite.name)
    if not (file.parents[2] / "pyproject.toml").exists():
        raise UsageError(
            f"suite '{suite.name}' is a part of the installed program: copy '{file}' and give the copy's path"
        )
    return file


def _write(file: Path, part: str) -> None:
    from harness.files import write_text
    from harness.suites import parse_suite
    from harness.suites.write import merged

    file = file.resolve()  # what a link leads to, not the link
    before = file.read_bytes().decode("utf-8")
    text = merged(before.replace("\r\n", "\n"), part, str(file))
    parse_suite(text, str(file))  # an error leaves the file as it was
    write_text(file, text.replace("\n", "\r\n") if "\r\n" in before else text)


def _shown(grid: Grid) -> tuple[str, ...]:
    """Selectors that a row needs: always strategy and lr, the others where the grid has several."""
    several = {"backbone": len(grid.backbones) > 1, "head": len(grid.heads) > 1}
    return (*(name for name, needed in several.items() if needed), "strategy", "lr")


def _source(
    suite: Suite, runs: Sequence[Evidence], shared: dict[str, str], given: dict[str, Any]
) -> dict[str, Any]:
    """The table that says what was measured, where and when."""
    from harness.spec import TrainSpec
    from harness.suites.grid import recipe

    record = next(run.record for run in runs if not run.failed)
    first, last = given["first_seed"], given["first_seed"] + given["seeds"] - 1
    command = f"harness bands {suite.file.name if suite.file else suite.name} --seeds {given['seeds']}"
    found: dict[str, Any] = {
        "text": f"{command}: prediction intervals from seeds {first} to {last}",
        "date": datetime.now(UTC).date().isoformat(),
        "seeds": f"{first}-{last}",
        "coverage": given["coverage"],
        **{key: record["environment"][key] for key in _TOLD if record["environment"].get(key) is not None},
        "code": record["digests"]["code"],
    }
    commit = _commit()
    found |= {"commit": commit} if commit else {}
    weights = sorted({run.record["digests"]["weights"] for run in runs if not run.failed})
    recipe_ = recipe(TrainSpec(**record["spec"]["train"]))
    return found | {"data": shared["data"], "split": shared["split"], "weights": weights, "recipe": recipe_}


def _commit() -> str | None:
    """The commit that the program runs from: None outside a git checkout, or where its code was changed."""
    here = Path(__file__).parents[1]

    def git(*words: str) -> str:
        run = subprocess.run(["git", "-C", str(here), *words], capture_output=True, text=True, check=True)
        return run.stdout.strip()

    try:
        return (
            None if git("status", "--porcelain", "--", "*.py", "../strategies") else git("rev-parse", "HEAD")
        )
    except (OSError, subprocess.CalledProcessError):
        return None
