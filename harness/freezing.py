"""A plan becomes effect: which parameters train, which modules run in eval mode, what has moved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from harness.backbones.staged import NORM_LAYERS, StagedModel
from harness.contracts import Recipe, Segment, StageInfo
from harness.errors import HarnessError, UsageError

Assignment = Mapping[str, float | None]  # parameter name -> multiplier of the lr, None where frozen


class FrozenMoved(HarnessError):
    """A tensor that the plan froze has changed: a fault of the harness or of a plugin."""


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


@dataclass(frozen=True)
class StageAudit:
    """What became of one stage: parameters trained, their lr multiplier, relative distance moved."""

    trained: int
    lr_scale: float | None
    moved: float


def audit(
    model: StagedModel,
    before: Mapping[str, torch.Tensor],
    found: Sequence[Assignment],
    stages: Sequence[StageInfo],
) -> dict[str, StageAudit]:
    """Compares the model's tensors with those ``before`` training.

    Raises FrozenMoved with the name of a tensor that was frozen in every segment and changed, norm
    statistics of modules with frozen parameters included. ``moved`` is ``|w - w0| / |w0|``.
    """
    now = dict(model.tensors())
    trained = {name for a in found for name, scale in a.items() if scale is not None}
    live = {_owner(name) for name in trained}
    # A norm layer without affine parameters follows its stage.
    bare = {_owner(n) for n in now} - {_owner(p.name) for stage in stages for p in stage.parameters}
    live |= {owner for owner in bare if owner.split(".", 1)[0] in {n.split(".", 1)[0] for n in trained}}
    parameters = {p.name for stage in stages for p in stage.parameters}
    for name, tensor in now.items():
        if name in trained or (name not in parameters and _owner(name) in live):
            continue
        if not torch.equal(tensor.detach().cpu(), before[name].cpu()):
            raise FrozenMoved(f"'{name}' was frozen but changed during training")
    return {stage.name: _stage_audit(stage, now, before, found, trained) for stage in stages}


def _owner(tensor_name: str) -> str:
    return tensor_name.rsplit(".", 1)[0]


def _stage_audit(
    stage: StageInfo,
    now: Mapping[str, torch.Tensor],
    before: Mapping[str, torch.Tensor],
    found: Sequence[Assignment],
    trained: set[str],
) -> StageAudit:
    if not any(p.name in trained for p in stage.parameters):
        return StageAudit(0, None, 0.0)  # already known to be what it was
    step = origin = 0.0
    for p in stage.parameters:
        start = before[p.name].detach().float().cpu()
        step += float((now[p.name].detach().float().cpu() - start).square().sum(dtype=torch.float64))
        origin += float(start.square().sum(dtype=torch.float64))
    scales = [scale for p in stage.parameters if (scale := found[-1][p.name]) is not None]
    return StageAudit(
        trained=sum(p.numel for p in stage.parameters if p.name in trained),
        lr_scale=max(scales) if scales else None,
        moved=(step / origin) ** 0.5 if origin else 0.0,
    )
