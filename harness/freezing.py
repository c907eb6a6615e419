"""A plan becomes effect: which parameters train, which modules run in eval mode, what must stand still."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from harness.backbones.staged import NORM_LAYERS, StagedModel
from harness.contracts import Recipe, Segment, StageInfo
from harness.errors import UsageError

Assignment = Mapping[str, float | None]  # parameter name -> multiplier of the lr, None where frozen


def assignments(recipe: Recipe, stages: Sequence[StageInfo]) -> tuple[Assignment, ...]:
    """What each segment of ``recipe`` does with each parameter."""
    found = tuple(segment.plan.assign(stages) for segment in recipe.segments)
    if not all(any(scale is not None for scale in a.values()) for a in found):
        raise UsageError("the strategy trains nothing in one of its segments")
    return found


def prefix_stages(found: Sequence[Assignment], stages: Sequence[StageInfo]) -> int:
    """How many leading stages never train in any of these segments: the frozen prefix."""
    for index, stage in enumerate(stages):
        if any(a[p.name] is not None for a in found for p in stage.parameters):
            return index
    return len(stages)


def shared_cuts(found: Sequence[Assignment], stages: Sequence[StageInfo]) -> tuple[int, ...]:
    """The cut of each segment: what is frozen in it and in every earlier one, and is not random.

    Randomly initialised stages differ from seed to seed; only what stands before them is shared.
    """
    known = next(
        (i for i, s in enumerate(stages) if any(not p.pretrained for p in s.parameters)), len(stages)
    )
    return tuple(min(known, prefix_stages(found[: i + 1], stages)) for i in range(len(found)))


def frozen_random(found: Sequence[Assignment], stages: Sequence[StageInfo]) -> tuple[str, ...]:
    """Stages with a parameter that is at its random initialisation and never trains."""
    return tuple(
        stage.name
        for stage in stages
        if any(not p.pretrained and all(a[p.name] is None for a in found) for p in stage.parameters)
    )


def apply_segment(model: StagedModel, segment: Segment, assignment: Assignment) -> None:
    """Sets ``requires_grad`` and the mode of every module for a segment."""
    for name, parameter in model.parts.named_parameters():
        parameter.requires_grad_(assignment[name] is not None)
    model.eval()
    if segment.mode == "eval":
        return
    trains = False
    for stage in model.parts.values():
        flags = [p.requires_grad for p in stage.parameters()]
        trains = any(flags) if flags else trains  # what has no parameters follows the stage before it
        stage.train(trains)
    for module in model.parts.modules():
        own = list(module.parameters(recurse=False))
        if isinstance(module, NORM_LAYERS) and own and not any(p.requires_grad for p in own):
            module.eval()


def standing_still(names: Iterable[str], found: Sequence[Assignment]) -> frozenset[str]:
    """Which of a model's tensors nothing may change while these segments train.

    Parameters that are frozen in all of them, and the statistics of norm layers whose own parameters
    are; a norm layer without parameters follows its stage.
    """
    names = tuple(names)
    parameters = {name for a in found for name in a}
    trained = {name for a in found for name, scale in a.items() if scale is not None}
    live, stages = {_owner(name) for name in trained}, {_stage(name) for name in trained}
    bare = {_owner(n) for n in names} - {_owner(p) for p in parameters}
    live |= {owner for owner in bare if _stage(owner) in stages}
    return frozenset(n for n in names if n not in trained and (n in parameters or _owner(n) not in live))


def _owner(tensor_name: str) -> str:
    return tensor_name.rsplit(".", 1)[0]


def _stage(tensor_name: str) -> str:
    return tensor_name.split(".", 1)[0]
