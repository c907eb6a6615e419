"""Plans a grid before it runs: which cells share which frozen prefix."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from harness.contracts import GroupLasso, Recipe, StageInfo
from harness.errors import PluginError, UsageError
from harness.freezing import Assignment, assignments, frozen_random, shared_cuts

T = TypeVar("T")


@dataclass(frozen=True)
class CellPlan:
    """What one cell does with a backbone.

    ``cuts[i]`` stages are the frozen prefix of segment i; cuts never rise from segment to segment.
    """

    recipe: Recipe
    assigned: tuple[Assignment, ...]
    cuts: tuple[int, ...]

    @property
    def cut(self) -> int:
        """Stages that never train: the prefix of the last segment."""
        return self.cuts[-1]


def plan_cell(
    recipe: Recipe,
    stages: Sequence[StageInfo],
    *,
    epochs: int,
    strategy: str,
    cuttable: bool,
    allow_random_frozen: bool,
) -> CellPlan:
    """Checks a recipe against a backbone and finds the cut of each segment.

    Raises UsageError where the recipe would freeze randomly initialised layers (unless allowed), PluginError
    where it doesn't last as long as the training.
    """
    if recipe.epochs != epochs:
        raise PluginError(f"strategy {strategy} plans {recipe.epochs} epochs, but {epochs} were asked for")
    _check_taps(recipe, strategy)
    assigned = assignments(recipe, stages)
    scales = {scale for segment in assigned for scale in segment.values() if scale is not None}
    if odd := [scale for scale in scales if not 0 <= scale < math.inf]:
        raise PluginError(f"strategy {strategy} multiplies the learning rate by {odd[0]}")
    random = frozen_random(assigned, stages)
    if random and recipe.init == "pretrained" and not allow_random_frozen:
        raise UsageError(
            f"strategy {strategy} would freeze layers that the weights don't cover and that are random: "
            f"{', '.join(random)}; use complete weights, another strategy, --head linear, "
            "or --allow-random-frozen"
        )
    if not cuttable:
        return CellPlan(recipe, assigned, (0,) * len(assigned))
    return CellPlan(recipe, assigned, tapped_cuts(recipe, shared_cuts(assigned, stages), stages))


def _check_taps(recipe: Recipe, strategy: str) -> None:
    untapped = () if recipe.taps else recipe.segments
    if any(s.keep is not None for s in (*recipe.segments[:1], *untapped)):
        raise UsageError(
            f"strategy {strategy} selects inputs of a head that has no taps or hasn't trained yet"
        )
    if any(isinstance(s.penalty, GroupLasso) for s in untapped):
        raise UsageError(f"strategy {strategy} has a group lasso, which is for a head on taps")


def tapped_cuts(recipe: Recipe, cuts: tuple[int, ...], stages: Sequence[StageInfo]) -> tuple[int, ...]:
    """``cuts`` for the network that ``recipe`` asks for: with taps only the one before the head, or none."""
    if recipe.taps is None:
        return cuts
    return tuple(cut if cut == len(stages) - 1 else 0 for cut in cuts)


@dataclass(frozen=True)
class Group(Generic[T]):
    """Cells of one network: they share one pass over the images."""

    key: Hashable
    cells: tuple[T, ...]


def group_cells(cells: Iterable[tuple[T, Hashable]]) -> tuple[Group[T], ...]:
    """Groups (cell, key of its network) by key, in order of first appearance."""
    found: dict[Hashable, list[T]] = {}
    for cell, key in cells:
        found.setdefault(key, []).append(cell)
    return tuple(Group(key, tuple(members)) for key, members in found.items())
