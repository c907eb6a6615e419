"""What a strategy means for a backbone: each stage, epoch by epoch. Descriptions only, no tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from harness.contracts import Recipe, Role, StageInfo

Assignment = Mapping[str, float | None]


class RateSpan(NamedTuple):
    """Epochs, first and last, in which a stage trains at one learning rate."""

    first: int
    last: int
    lr: float


@dataclass(frozen=True)
class StagePlan:
    """One stage under a strategy.

    ``trained`` counts the parameters that train in some epoch. ``lr`` is before the schedule's factor, the
    largest where parameters differ; epochs in which the stage is frozen are left out. In the epochs up to
    ``prefix`` it belongs to the frozen prefix (0: never). ``flops`` are of one image's forward pass, None
    where the network isn't known in stages.
    """

    name: str
    role: Role
    parameters: int
    trained: int
    lr: tuple[RateSpan, ...]
    prefix: int
    flops: int | None


def stage_plans(
    recipe: Recipe,
    assigned: Sequence[Assignment],
    cuts: Sequence[int],
    stages: Sequence[StageInfo],
    lr: float,
    flops: Sequence[int] | None,
) -> tuple[StagePlan, ...]:
    """The plan of every stage. ``cuts[i]`` stages are the frozen prefix of segment i."""
    trained = {name for a in assigned for name, scale in a.items() if scale is not None}
    return tuple(
        StagePlan(
            name=stage.name,
            role=stage.role,
            parameters=stage.numel,
            trained=sum(p.numel for p in stage.parameters if p.name in trained),
            lr=_rates(recipe, assigned, stage, lr),
            # Cuts never rise from segment to segment.
            prefix=sum(s.epochs for s, cut in zip(recipe.segments, cuts, strict=True) if index < cut),
            flops=flops[index] if flops else None,
        )
        for index, stage in enumerate(stages)
    )


def _rates(
    recipe: Recipe, assigned: Sequence[Assignment], stage: StageInfo, lr: float
) -> tuple[RateSpan, ...]:
    spans: list[RateSpan] = []
    last = 0
    for segment, scales in zip(recipe.segments, assigned, strict=True):
        first, last = last + 1, last + segment.epochs
        live = [scale for p in stage.parameters if (scale := scales[p.name]) is not None]
        if not live or not segment.epochs:
            continue
        rate = (segment.lr or lr) * max(live)
        if spans and spans[-1].last == first - 1 and spans[-1].lr == rate:
            spans[-1] = spans[-1]._replace(last=last)
        else:
            spans.append(RateSpan(first, last, rate))
    return tuple(spans)
