"""``harness show``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from harness.errors import UsageError


@click.command("show", epilog="Example: harness show runs/RUN; harness show 3f2a9c01de --json")
@click.argument("run")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("runs"),
    show_default=True,
    help="Where run folders lie.",
)
@click.option("--json", "as_json", is_flag=True, help="The whole record.")
def command(run: str, out: Path, as_json: bool) -> None:
    """Show one run: what was asked, what trained, what came out.

    RUN is a folder, a run's name, or the ten digits at its end. `harness show plan` shows what a
    strategy would train.
    """
    from harness.store import RunFolder

    folder = RunFolder(find_run(run, out))
    record = folder.result()
    if as_json:
        click.echo(json.dumps(record, indent=2, ensure_ascii=False))
        return
    for line in _lines(record):
        click.echo(line)


def find_run(run: str, out: Path) -> Path:
    """The folder of a finished run, by its path, its name or the digits at its end; else UsageError."""
    if (Path(run) / "result.json").exists():
        return Path(run)
    matches = [
        p.parent
        for place in (out, Path())
        for p in place.glob("*/result.json")
        if p.parent.name == run or p.parent.name.endswith(f"_{run}")
    ]
    if not matches:
        raise UsageError(f"no finished run '{run}' here or in '{out}'; harness runs ls FOLDER lists them")
    return matches[0]


def _lines(record: dict[str, Any]) -> list[str]:
    spec, test = record["spec"], record["test"]
    lines = [
        record["run"],
        f"  {spec['backbone']} ({spec['weights']}), {spec['strategy']}, "
        f"lr {spec['lr']:g}, seed {spec['seed']}",
        f"  data      {record['data']['card']['title']}, target {spec['data']['target']}, "
        f"{record['data']['split']}",
    ]
    if test is None:
        return [*lines, f"  failed    {record['error']}"]
    low, high = test["accuracy_interval"]
    lines += [
        f"  test      {100 * test['accuracy']:.2f} % [{100 * low:.2f}, {100 * high:.2f}] of {test['n']}, "
        f"macro F1 {test['macro_f1']:.4f}, loss {test['loss']:.4f}, epoch {record['selected_epoch']}",
        *(
            f"            {c['name']}: precision {c['precision']:.4f}, recall {c['recall']:.4f}, "
            f"F1 {c['f1']:.4f}, {c['right']} right, {c['wrong']} wrong"
            for c in test["per_class"]
        ),
        "  stages    trained / parameters, lr multiplier, distance moved",
    ]
    for stage in record["backbone"]["stages"]:
        scale = "frozen" if stage["lr_scale"] is None else f"x{stage['lr_scale']:g}"
        notes = ", ".join(
            n for n, on in (("prefix", stage["prefix"]), ("started random", stage["random"])) if on
        )
        lines.append(
            f"            {stage['name']:<10} {stage['trained']:>11,} / {stage['parameters']:>11,}  "
            f"{scale:<7} {stage['moved']:.2e}  {notes}".rstrip()
        )
        # A record from before runs were audited has no such key.
        lines += [f"              {name}: {why}" for name, why in stage.get("still", {}).items()]
    # An earlier record has no such key.
    for change in record.get("micro_batches") or ():
        lines.append(
            f"  batches   in {change['pieces']} micro-batches each, gradients added, from epoch "
            f"{change['epoch']}, step {change['step']}"
        )
    environment = record["environment"]
    return [
        *lines,
        f"  made on   {environment['device_name']} ({environment['device']}, "
        f"{environment['threads']} threads), torch {environment['torch']}, "
        f"{record['timing']['total_s']:.1f} s",
        f"  again     {record['command']}",
    ]
