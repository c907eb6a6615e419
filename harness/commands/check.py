"""``harness check``."""

from __future__ import annotations

import json
import shlex
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.commands.data_paths import data_path, weights_variable
from harness.commands.options import name_and_path
from harness.commands.suite_options import suite_options
from harness.errors import UsageError
from harness.stopping import Terminated

if TYPE_CHECKING:
    from harness.progress import Progress
    from harness.spec import Grid
    from harness.suites import Suite
    from harness.suites.claims import Finding

OUTSIDE = 5


@click.command(
    "check",
    epilog="Example: harness check faces; harness check mine.suite.toml --match last_block --out checked",
)
@click.argument("suite", metavar="SUITE")
@click.option("--match", metavar="TEXT", help="Only expectations whose name contains this.")
@suite_options
@click.option("--seed", multiple=True, type=click.IntRange(0), help="Seeds instead of the suite's; repeat.")
@click.option("--limit", type=click.IntRange(1), help="A look at fewer images: nothing applies then.")
@click.option("--epochs", type=click.IntRange(1), help="A look at fewer epochs: nothing applies then.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option("--quiet", is_flag=True, help="Only the table.")
def command(suite: str, **given: Any) -> int:
    """Train what a suite's expectations are about, in a fresh folder, and hold each against its band.

    Exits with 5 where one is outside, where one doesn't apply although nothing was overridden, and
    where none applies.
    """
    from harness.suites.claims import claims
    from harness.suites.grid import overridden

    loaded, path, grid = suite_and_grid(suite, given)
    asked = given["match"] or ""
    wanted = [c for c in claims(loaded, grid) if asked in c.name or asked in c.title]
    if not wanted:
        what = f"matches --match '{given['match']}'" if given["match"] else "stands in it ([[expect]])"
        raise UsageError(f"suite '{loaded.name}': no expectation {what}")
    from harness.check import check_claims
    from harness.progress import Progress
    from harness.run_options import RunOptions

    progress = Progress(quiet=given["quiet"])
    with run_folders(given, progress) as out:
        options = RunOptions(out=out, data_path=path, device=given["device"], threads=given["threads"])
        findings = check_claims(wanted, grid, options, progress, overridden(grid, loaded))
    click.echo(_json(findings) if given["as_json"] else table(findings))
    return status(findings, bool(overridden(grid, loaded)))


@contextmanager
def run_folders(given: Mapping[str, Any], progress: Progress) -> Iterator[Path]:
    """A fresh folder with what ``--reuse`` takes into it: ``--out``, else one that goes afterwards."""
    with tempfile.TemporaryDirectory(prefix="harness-") as scratch:
        out = _fresh_folder(given["out"]) if given["out"] else Path(scratch)
        _take_finished(given, out, progress)
        try:
            yield out
        except (KeyboardInterrupt, Terminated):
            kept = f"'{out}' keeps what is done: --reuse {shlex.quote(str(out))} takes it, with another --out"
            progress.say(kept if given["out"] else "nothing of it is kept (--out FOLDER keeps what is done)")
            raise


def _fresh_folder(out: Path) -> Path:
    """``out``; UsageError where it holds anything."""
    if out.exists() and any(out.iterdir()):
        raise UsageError(
            f"--out '{out}' isn't empty: a check trains in a fresh folder (--reuse takes old runs)"
        )
    return out


def suite_and_grid(name: str, given: Mapping[str, Any]) -> tuple[Suite, Path | None, Grid]:
    """A suite, where its data lie, and its grid with what the options change of it."""
    from harness.jobs import check_names
    from harness.suites import load_suite
    from harness.suites.grid import suite_grid

    suite = load_suite(name)
    grid = suite_grid(suite)
    data, path = name_and_path(given["data"]) if given["data"] else (grid.data.name, None)
    if data != grid.data.name:
        raise UsageError(f"--data '{data}': suite '{suite.name}' is about {grid.data.name}")
    weights = dict(grid.weights)
    for backbone in grid.backbones:
        found = given["weights"] or weights_variable(backbone)[1]
        weights |= {backbone: found} if found else {}
    grid = replace(
        grid,
        data=replace(grid.data, limit=given.get("limit") or grid.data.limit),
        weights=weights,
        seeds=given.get("seed") or grid.seeds,
        train=replace(grid.train, epochs=given.get("epochs") or grid.train.epochs),
    )
    try:
        check_names(grid)
    except UsageError as error:
        raise UsageError(f"suite '{suite.file or suite.name}': {error}") from error
    return suite, data_path(data, path), grid


def _take_finished(given: Mapping[str, Any], out: Path, progress: Progress) -> None:
    """What ``--reuse`` asks for."""
    from harness.check import reuse

    if given["reuse"]:
        taken, left = reuse(given["reuse"], out, given["device"], given["threads"])
        progress.say(f"{taken} runs reused from '{given['reuse']}'")
        for reason in left:
            progress.say(f"not reused: {reason}")


def status(findings: Sequence[Finding], overridden: bool) -> int:
    """0, or 5: what can't be judged never passes silently."""
    found = [f.verdict for f in findings]
    untold = "not applicable" in found and not overridden
    return OUTSIDE if "outside" in found or untold or "inside" not in found else 0


def table(findings: Sequence[Finding]) -> str:
    """A line an expectation, the reasons below it, then the sources and the sum."""
    rows = [("expectation", "value", "expected", "source", "verdict")]
    rows += [
        (f.claim.title, _cut(f.value), _cut(f.claim.expected), f.claim.source, f.verdict) for f in findings
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(v.ljust(w) for v, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    for number, finding in enumerate(findings, 1):
        if finding.verdict != "inside":
            lines[number] = "\n".join([lines[number], *(f"    {text}" for text in finding.details)])
    sources = {f.claim.source: f.claim.row.source.text for f in findings if f.claim.row.source}
    lines += ["", *(f"{name}: {text}" for name, text in sorted(sources.items()))]
    counts = [sum(f.verdict == v for f in findings) for v in ("inside", "outside", "not applicable")]
    return "\n".join([*lines, "{} inside, {} outside, {} not applicable".format(*counts)])


def _cut(text: str, width: int = 60) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."


def _json(findings: Sequence[Finding]) -> str:
    rows = [
        {
            "expectation": f.claim.title,
            "value": f.value,
            "expected": f.claim.expected,
            "source": f.claim.source,
            "verdict": f.verdict,
            "reason": f.reason,
        }
        for f in findings
    ]
    return json.dumps(rows, indent=2, ensure_ascii=False)
