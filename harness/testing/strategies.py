"""What a strategy must keep to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from harness.contracts import Adaptation, GradientStatistics, Recipe, Segment, StageInfo, Strategy
from harness.errors import UsageError
from harness.freezing import Assignment
from harness.probe import asked_shares
from harness.testing.claims import attempt, require, require_words
from harness.testing.networks import SHAPES, Shape, probe_network
from harness.testing.steps import check_step

EPOCHS = (1, 2, 3, 10)


def check_strategy(strategy: Strategy) -> None:
    """Tries ``strategy`` on small networks of several shapes, for 1, 2, 3 and 10 epochs.

    A recipe lasts as long as asked, in segments of an epoch or more; the same question gets the same
    recipe; each segment's plan names every parameter and trains something; learning rates that are
    adapted are numbers whatever the gradients are; one step of training moves what the plan trains and
    nothing else, statistics of norm layers included. A strategy may
    refuse a network with a UsageError that says why, but not all of them. AssertionError where not.
    """
    require_words(strategy, "source")
    require_words(strategy, "summary")
    who = type(strategy).__name__
    refusals: list[str] = []
    for name, shape in SHAPES.items():
        refusals += _check_on(strategy, who, name, shape)
    require(
        len(refusals) < len(SHAPES) * len(EPOCHS),
        f"{who} refuses every network it was tried on: {refusals[-1] if refusals else ''}",
    )


def _check_on(strategy: Strategy, who: str, name: str, shape: Shape) -> list[str]:
    """The reasons why it refuses this network, one for each number of epochs that it refuses."""
    stages = probe_network(shape).describe()
    refusals: list[str] = []
    tried: list[Segment] = []
    for epochs in EPOCHS:
        where = f"{who} on {name} for {epochs} epochs"
        recipe = _recipe(strategy, stages, epochs, where)
        if isinstance(recipe, str):
            refusals.append(recipe)
            continue
        _check_spans(recipe, epochs, where)
        for number, segment in enumerate(recipe.segments, 1):
            here = f"{where}, segment {number}"
            assigned = _assigned(segment, probe_network(shape, recipe).describe(), here)
            if segment.adapt is not None:
                _check_adaptation(segment.adapt, assigned, here)
            # At a learning rate that moves things in one step; equal plans needn't be stepped twice.
            once = replace(segment, epochs=1, lr=None, schedule=None)
            if once not in tried:
                check_step(shape, replace(recipe, segments=(once,), schedule=None), assigned, here)
                tried.append(once)
    return refusals


def _recipe(strategy: Strategy, stages: Sequence[StageInfo], epochs: int, where: str) -> Recipe | str:
    """The recipe, or the reason why there is none."""
    try:
        recipe = strategy.recipe(stages, epochs)
    except UsageError as error:
        require(bool(str(error).strip()), f"{where}: refused without a reason")
        return str(error)
    except Exception as error:
        raise AssertionError(
            f"{where}: recipe() raised {type(error).__name__}: {error}; a network that doesn't suit is a "
            "UsageError"
        ) from error
    require(isinstance(recipe, Recipe), f"{where}: recipe() gave a {type(recipe).__name__}, not a Recipe")
    again = attempt(f"{where}: recipe(), called again,", lambda: strategy.recipe(stages, epochs))
    require(recipe == again, f"{where}: recipe(), called again, gave another recipe")
    return recipe


def _check_spans(recipe: Recipe, epochs: int, where: str) -> None:
    require(recipe.init in ("pretrained", "random"), f"{where}: init is {recipe.init!r}")
    for number, segment in enumerate(recipe.segments, 1):
        require(segment.epochs >= 1, f"{where}: segment {number} lasts {segment.epochs} epochs")
        require(
            segment.lr is None or (math.isfinite(segment.lr) and segment.lr > 0),
            f"{where}: segment {number} has the learning rate {segment.lr}",
        )
    require(recipe.epochs == epochs, f"{where}: the recipe lasts {recipe.epochs} epochs")


def _assigned(segment: Segment, stages: Sequence[StageInfo], where: str) -> Assignment:
    """What the segment does with each parameter."""
    found = attempt(f"{where}: its plan", lambda: segment.plan.assign(stages))
    for name, scale in found.items():
        require(
            scale is None or (math.isfinite(scale) and scale > 0),
            f"{where}: the multiplier of '{name}' is {scale}; a positive number trains it, None freezes it",
        )
    require(any(scale is not None for scale in found.values()), f"{where}: nothing trains")
    return found


def _check_adaptation(adapt: Adaptation, assigned: Assignment, where: str) -> None:
    require(adapt.batches >= 1, f"{where}: it looks at the gradients of {adapt.batches} batches")
    names = [name for name, scale in assigned.items() if scale is not None]
    ordinary = {n: GradientStatistics(0.1 * i, 1.0, 0.4 + i) for i, n in enumerate(names, 1)}
    cases = {
        "as usual": ordinary,
        "all zero": dict.fromkeys(names, GradientStatistics(0.0, 1.0, 0.0)),
        "of a tensor that is zero": ordinary | {names[0]: GradientStatistics(0.1, 0.0, 0.5)},
    }
    for case, seen in cases.items():
        what = f"{where}: with gradients {case}, shares()"
        found = attempt(what, lambda seen=seen: asked_shares(adapt, seen))  # type: ignore[misc]
        require(found == adapt.shares(seen), f"{what}, called again, gave others")
