"""``harness show plan``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.commands.options import PluginName
from harness.errors import UsageError
from harness.files import write_text
from harness.plugins import BACKBONES, SHORT_NAMES, STRATEGIES
from harness.stage_plan import StagePlan, stage_plans

if TYPE_CHECKING:
    from harness.backbones.staged import StagedModel

_FLOPS_PER_GMAC = 2e9


@dataclass(frozen=True)
class _Plan:
    strategy: str
    stages: tuple[StagePlan, ...]
    flops: int
    cuttable: bool
    own_schedule: bool
    adaptive: bool
    frozen_random: tuple[str, ...]


@click.command(
    "show plan",
    context_settings={"auto_envvar_prefix": "HARNESS_SHOW_PLAN"},
    epilog="Example: harness show plan --backbone vgg16 --strategy last_block --figure plan.svg",
)
@click.option(
    "--backbone",
    type=PluginName(BACKBONES, tuple(SHORT_NAMES)),
    default="vgg_tiny",
    show_default=True,
    help="vgg_tiny, vgg16, torchvision:NAME, timm:NAME.",
)
@click.option(
    "--strategy",
    type=PluginName(STRATEGIES),
    default="head_only",
    show_default=True,
    help="What trains, e.g. head_only or last_k[k=2].",
)
@click.option(
    "--weights",
    metavar="NAME|FILE",
    default="none",
    show_default=True,
    help="imagenet, a tag, a file or none; a plan doesn't need any.",
)
@click.option("--head", default="own", show_default=True, help="own, linear or mlp[512,256].")
@click.option("--epochs", type=click.IntRange(1), default=10, show_default=True)
@click.option("--lr", default="1e-3", show_default=True, help="Learning rate.")
@click.option("--classes", type=click.IntRange(2), default=2, show_default=True)
@click.option(
    "--figure", type=click.Path(path_type=Path, dir_okay=False), help="Draw it as well, into this SVG file."
)
def command(
    backbone: str,
    strategy: str,
    weights: str,
    head: str,
    epochs: int,
    lr: str,
    classes: int,
    figure: Path | None,
) -> None:
    """Show what a strategy does with a backbone: what trains, in which epochs, at which rate.

    Nothing is trained and no image is read. Rates are before the schedule's factor.
    """
    from harness.spec import parse_lr

    if figure and figure.suffix.lower() != ".svg":
        raise UsageError(f"--figure '{figure}' should end in .svg")
    rates = parse_lr(lr)
    if len(rates) != 1:
        raise UsageError(f"bad --lr '{lr}': one learning rate")
    from harness.backbones.heads import check_head

    model = _network(backbone, weights, check_head(head), classes)
    plan = _plan(model, strategy, epochs, rates[0], classes, complete=weights == "none")
    click.echo(_text(plan, epochs, complete=weights == "none"))
    if figure:
        from reports.plan_figure import draw_plan

        title = f"{plan.strategy} on {backbone}"
        figure.parent.mkdir(parents=True, exist_ok=True)
        write_text(figure, draw_plan(title, plan.stages, epochs).file)
        click.echo(f"figure: {figure}")


def _network(backbone: str, weights: str, head: str, classes: int) -> StagedModel:
    import torch

    from harness.plugins import load_backbone

    # Without weights shapes are enough, and tensors on this device have nothing else.
    with torch.device("meta" if weights == "none" else "cpu"):
        return load_backbone(backbone).build(weights, classes, head)


def _plan(model: StagedModel, text: str, epochs: int, lr: float, classes: int, *, complete: bool) -> _Plan:
    """``complete``: the prefix is as it would be with weights that cover all but the head."""
    from harness.backbones.transforms import transformed
    from harness.costs import CostModel
    from harness.freezing import frozen_random, prefix_stages
    from harness.planner import plan_cell, tapped_cuts
    from harness.plugins import blamed, load_strategy

    strategy, plugin, name = load_strategy(text)
    with blamed(STRATEGIES, plugin, f"strategy '{plugin}'", "can't be planned"):
        recipe = strategy.recipe(model.describe(), epochs)
    model = transformed(model, recipe.taps, recipe.adapters, classes)
    stages = model.describe()
    plan = plan_cell(
        recipe,
        stages,
        epochs=epochs,
        strategy=name,
        cuttable=model.cuttable,
        allow_random_frozen=True,
    )
    cuts = plan.cuts
    if complete and model.cuttable:
        whole = tuple(prefix_stages(plan.assigned[: i + 1], stages) for i in range(len(cuts)))
        cuts = tapped_cuts(recipe, whole, stages)
    flops = CostModel(model).stages
    return _Plan(
        strategy=name,
        stages=stage_plans(plan.recipe, plan.assigned, cuts, stages, lr, flops if model.cuttable else None),
        flops=sum(flops),
        cuttable=model.cuttable,
        own_schedule=any((plan.recipe.schedule, *(s.schedule for s in plan.recipe.segments))),
        adaptive=any(s.adapt for s in plan.recipe.segments),
        frozen_random=() if plan.recipe.init == "random" else frozen_random(plan.assigned, stages),
    )


def _text(plan: _Plan, epochs: int, *, complete: bool) -> str:
    from reports.formats import rates

    rows = [("stage", "role", "parameters", "trained", "lr by epoch", "frozen prefix", "GMAC")]
    for stage in plan.stages:
        rows.append(
            (
                stage.name,
                stage.role,
                f"{stage.parameters:,}",
                f"{stage.trained:,}",
                rates(stage.lr, epochs) if stage.parameters else "",
                _prefix(stage.prefix, epochs),
                "" if stage.flops is None else f"{stage.flops / _FLOPS_PER_GMAC:.3f}",
            )
        )
    total, trained = (sum(getattr(s, key) for s in plan.stages) for key in ("parameters", "trained"))
    rows.append(("all", "", f"{total:,}", f"{trained:,}", "", "", f"{plan.flops / _FLOPS_PER_GMAC:.3f}"))
    return "\n".join([f"{plan.strategy}, {epochs} epochs", *_columns(rows), *_notes(plan, complete)])


def _prefix(last: int, epochs: int) -> str:
    return "" if not last else "yes" if last == epochs else f"epochs 1-{last}" if last > 1 else "epoch 1"


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Aligned: figures to the right, words to the left."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(width) if i in (2, 3, 6) else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _notes(plan: _Plan, complete: bool) -> list[str]:
    notes = ["GMAC: 10^9 multiply-accumulates of one image's forward pass"]
    if plan.own_schedule:
        notes.append("rates rise and fall by a schedule of the strategy's own")
    if plan.adaptive:
        notes.append("rates are at most these: before each epoch the strategy sets them by the gradients")
    if not plan.cuttable:
        notes.append("this network isn't known in stages: no frozen prefix is shared")
    if complete:
        notes.append("the frozen prefix is that of a network whose weights cover all but the head")
    elif plan.frozen_random:
        notes.append(f"frozen at random initialisation (not in the weights): {', '.join(plan.frozen_random)}")
    return notes
