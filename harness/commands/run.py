"""``harness run``."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import click

from harness.commands.asked_run import asked_run, check_plan, engine_of_one
from harness.commands.data_options import data_options
from harness.commands.options import FiniteRange, PluginName
from harness.plugins import BACKBONES, ENGINES, SHORT_NAMES, STRATEGIES, TRACKERS
from harness.spec import AUGMENTATIONS, CHOICES

if TYPE_CHECKING:
    from harness.run_grid import Outcome
    from harness.world import World

_EXAMPLES = """\b
Examples:
  harness run --strategy head_only --lr 1e-3
  harness run --strategy head_only --strategy last_block --lr 1e-5:1e-2:7 --seed 0 --seed 1
  harness run --data celeba=PATH --target Smiling --backbone vgg16 --strategy last_block --lr 1e-4
  harness run --suite celeba30k --data celeba30k=PATH
"""
_REASON = 60  # characters of a failure's reason that the table at the end shows


@click.command("run", epilog=_EXAMPLES)
@click.option("--suite", metavar="NAME|FILE", help="A grid that is written down; other options override it.")
@click.option(
    "--strategy",
    multiple=True,
    type=PluginName(STRATEGIES),
    help="What trains, e.g. head_only or last_k[k=2]; repeat for a grid.  [default: head_only]",
)
@click.option(
    "--lr", multiple=True, help="Learning rate, or a range LOW:HIGH:COUNT; repeat.  [default: 1e-3]"
)
@click.option("--seed", multiple=True, type=click.IntRange(0), help="Seed of a run; repeat.  [default: 0]")
@click.option(
    "--backbone",
    multiple=True,
    type=PluginName(BACKBONES, tuple(SHORT_NAMES)),
    help="vgg_tiny, vgg16, torchvision:NAME, timm:NAME; repeat.  [default: vgg_tiny; vgg16 on other data]",
)
@click.option(
    "--weights",
    multiple=True,
    metavar="[BACKBONE=]NAME|FILE",
    help="imagenet, a tag, a file or none; with BACKBONE= for one of several.  [default: the backbone's]",
)
@click.option("--head", multiple=True, help="own, linear or mlp[512,256]; repeat.  [default: own]")
@data_options
@click.option("--epochs", type=click.IntRange(1), help="[default: 10]")
@click.option("--batch-size", type=click.IntRange(1), help="[default: 64]")
@click.option("--optimizer", type=click.Choice(CHOICES["optimizer"]), help="[default: adam]")
@click.option("--weight-decay", type=FiniteRange(0), help="[default: 0]")
@click.option(
    "--schedule",
    type=click.Choice(CHOICES["schedule"]),
    help="Of the lr.  [default: constant]",
)
@click.option(
    "--class-weights",
    type=click.Choice(CHOICES["class_weights"]),
    help="In the training loss.  [default: none]",
)
@click.option("--flip/--no-flip", default=None, help="Random horizontal flips while training.  [default: no]")
@click.option(
    "--augment",
    metavar="NAME,...",
    help=f"Random augmentation while training: {', '.join(AUGMENTATIONS)}.  [default: none]",
)
@click.option("--precision", type=click.Choice(CHOICES["precision"]), help="[default: fp32]")
@click.option(
    "--select",
    type=click.Choice(CHOICES["select"]),
    help="Epoch that is tested: last, or best on validation.",
)
@click.option("--fast", is_flag=True, help="Allow algorithms that may differ from run to run (recorded).")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N, mps.")
@click.option(
    "--threads", type=click.IntRange(1, 1024), help="CPU threads; part of what makes a result repeatable."
)
@click.option(
    "--micro-batches",
    type=click.IntRange(1),
    default=1,
    help="Compute each batch in so many pieces and add their gradients: less memory, the same batch size. "
    "Done by itself where a GPU's memory runs out.",
)
@click.option(
    "--processes",
    type=click.IntRange(1, 1024),
    default=1,
    help="Train each cell in so many processes of this machine, on a GPU each: a share of every batch.",
)
@click.option("--workers", type=click.IntRange(1), help="Threads that decode images; changes no result.")
@click.option(
    "--cache-budget",
    metavar="SIZE",
    help="Memory for activations, e.g. 8G; the rest lies in a mapped file.  [default: half of the free]",
)
@click.option(
    "--keep-features",
    is_flag=True,
    help="Keep the activations of frozen prefixes for later commands (harness cache ls).",
)
@click.option(
    "--allow-random-frozen", is_flag=True, help="Allow strategies that freeze randomly initialised layers."
)
@click.option(
    "--no-wait", is_flag=True, help="Exit with 4 instead of waiting for cells that another process trains."
)
@click.option(
    "--engine",
    default="local",
    show_default=True,
    type=PluginName(ENGINES),
    help="Where cells train: local, local[workers=N], ray, slurm[partition=NAME] (harness list engines).",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("runs"),
    show_default=True,
    help="Where run folders go.",
)
@click.option(
    "--tracker",
    multiple=True,
    type=PluginName(TRACKERS),
    help="Export the runs while they train: tensorboard, mlflow or wandb (offline), with options: "
    "'mlflow[uri=sqlite:///mlflow.db]'; repeat.  See harness track for runs that are done.",
)
@click.option("--plan", is_flag=True, help="Show what would share what, and what that saves; train nothing.")
@click.option(
    "--gpus",
    type=click.IntRange(1, 100_000),
    help="With --plan: how long it takes on so many GPUs, what it costs, which groups are split.",
)
@click.option(
    "--tflops",
    type=FiniteRange(0, min_open=True),
    help="With --gpus: TFLOP/s that one reaches on this work.  [default: measured here, on --device]",
)
@click.option("--price", type=FiniteRange(0), help="With --gpus: of an hour of one GPU.")
@click.option("--quiet", is_flag=True, help="Only the final table.")
@click.pass_context
def command(ctx: click.Context, **given: Any) -> int:
    """Train every combination of strategy, learning rate, seed, backbone and head.

    Cells that share a frozen prefix share one pass over the images. The same command again does
    only what is missing.
    """
    argv = ctx.find_root().obj or ()
    check_plan(given)
    if given["gpus"]:
        from harness.plan_workers import plan_workers, workers_text

        plan = plan_workers(*asked_run(given, argv), given["gpus"], given["tflops"])
        click.echo(workers_text(plan, given["price"]))
        return 1 if plan.faults else 0
    if given["plan"]:
        from harness.plan_grid import plan_grid, plan_text

        groups = plan_grid(*asked_run(given, argv))
        click.echo(plan_text(groups))
        return 1 if any(group.faults for group in groups) else 0
    from harness.launch import launch, launched

    if given["processes"] > 1 and not launched():
        return launch(given["processes"], argv)
    from harness.world import joined

    with joined(given["device"]) as world:
        outcomes = train(given, argv, world)
    if world.rank:
        return 0
    click.echo(_table(outcomes))
    click.echo(f"\nruns are in '{given['out']}'; for the report: harness report{_where(given['out'])}")
    if any(o.record["data"]["card"]["embedded"] for o in outcomes):
        click.echo(
            "this is the embedded sample of drawn faces; the real experiment: "
            "harness run --suite celeba30k --data celeba30k=PATH"
        )
    return 1 if any(o.record["status"] != "done" for o in outcomes) else 0


def train(given: dict[str, Any], argv: tuple[str, ...], world: World | None = None) -> list[Outcome]:
    """Trains what the options ask for, all of them ``given`` by name; ``argv`` is quoted in the records.

    Other processes of ``world`` train the same cells; those that aren't its rank 0 are told what.
    """
    from harness.progress import Progress
    from harness.run_grid import run_grid
    from harness.trackers.follow import Following

    grid, options, progress = asked_run(given, argv)
    if world is not None and not world.alone:
        engine = engine_of_one(given["engine"])
        options = replace(options, world=world, engine=engine, processes=world.local_size)
        if world.rank:
            return run_grid(grid, options, Progress(quiet=True))
    with Following(given["tracker"], progress) as following:
        return run_grid(grid, options, progress, following.follow)


def _where(out: Path) -> str:
    return "" if out == Path("runs") else f" {shlex.quote(str(out))}"


def _table(outcomes: Sequence[Outcome]) -> str:
    """Cell, accuracy with its interval, macro F1, seconds, folder."""
    rows: list[tuple[str, ...]] = [("cell", "test accuracy [95 %]", "macro F1", "seconds", "folder")]
    rows += [_row(o) for o in outcomes]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(v.ljust(w) for v, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def _row(outcome: Outcome) -> tuple[str, ...]:
    record = outcome.record
    spec = record["spec"]
    cell = f"{spec['backbone'].split(':')[-1]} {spec['strategy']} lr={spec['lr']:g} seed={spec['seed']}"
    if record["status"] != "done":
        return (cell, shorten(record["error"], _REASON, placeholder=" ..."), "-", "-", outcome.folder.name)
    test = record["test"]
    low, high = test["accuracy_interval"]
    accuracy = f"{100 * test['accuracy']:.2f} % [{100 * low:.2f}, {100 * high:.2f}]"
    seconds = f"{record['timing']['train_s']:.1f}" if outcome.trained else "done before"
    return (cell, accuracy, f"{test['macro_f1']:.4f}", seconds, outcome.folder.name)
