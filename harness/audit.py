"""What became of each stage, and whether the training did what its plan says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from harness.backbones.staged import NORM_LAYERS, StagedModel, tensor_digest
from harness.cell import Cell
from harness.contracts import StageInfo
from harness.errors import HarnessError
from harness.freezing import standing_still
from harness.witness import Witness

Tensors = Mapping[str, torch.Tensor]


class FrozenMoved(HarnessError):
    """A tensor that the plan froze has changed: a fault of the harness or of a plugin."""


class NeverTrained(HarnessError):
    """A tensor that the plan trains was in no optimizer or has never had a gradient."""


@dataclass(frozen=True)
class RateSpan:
    """Epochs, the first and the last, and the learning rate in them."""

    epochs: tuple[int, int]
    lr: float


@dataclass(frozen=True)
class NormStatistics:
    """Digests of a stage's running means and variances before and after training."""

    before: str
    after: str


@dataclass(frozen=True)
class StageAudit:
    """What became of one stage.

    Parameters that the plan trains and that were in an optimizer, the lr multiplier in the last segment,
    learning rates, the relative distance ``|w - w0| / |w0|``. ``still`` maps what should train and
    did so in name only to what was seen of it: ``zero lr``, ``zero gradient`` or ``no movement``.
    """

    trained: int
    in_optimizer: int
    lr_scale: float | None
    lr: tuple[RateSpan, ...]
    moved: float
    norm_statistics: NormStatistics | None
    still: Mapping[str, str] = field(default_factory=dict)


def audit(
    cell: Cell, before: Tensors, stages: Sequence[StageInfo], witness: Witness
) -> dict[str, StageAudit]:
    """Compares a trained cell with its tensors ``before`` training and with what ``witness`` saw of it.

    Raises FrozenMoved with the name of a tensor that changed while it was frozen, norm statistics of
    modules with frozen parameters included; NeverTrained with the name of one that should have trained
    in a segment and was in no optimizer, or never had a gradient there.
    """
    now = dict(cell.model.tensors())
    _check_frozen(cell, now, before, witness)
    _check_trained(cell, witness)
    return {stage.name: _stage_audit(cell, stage, now, before, witness) for stage in stages}


def _check_frozen(cell: Cell, now: Tensors, before: Tensors, witness: Witness) -> None:
    still = standing_still(now, cell.assigned)
    for name in (n for n in now if n in still):
        if not torch.equal(now[name].detach().cpu(), before[name].cpu()):
            raise FrozenMoved(f"'{name}' was frozen but changed during training")
    for name, (first, last) in witness.disturbed.items():
        raise FrozenMoved(f"'{name}' was frozen but changed in epochs {first} to {last}")


def _check_trained(cell: Cell, witness: Witness) -> None:
    first = 1
    for index, (segment, assigned) in enumerate(zip(cell.recipe.segments, cell.assigned, strict=True)):
        last = first + segment.epochs - 1
        held, reached = witness.held.get(index, set()), witness.reached.get(index, set())
        for name in (n for n, scale in assigned.items() if scale is not None and segment.epochs):
            if name not in held:
                raise NeverTrained(
                    f"'{name}' should train in epochs {first} to {last} but was in no optimizer"
                )
            if name not in reached:
                raise NeverTrained(
                    f"'{name}' should train in epochs {first} to {last} but never had a gradient: "
                    "the network doesn't use it, or something cuts it off from the loss"
                )
        first = last + 1


def _stage_audit(cell: Cell, stage: StageInfo, now: Tensors, before: Tensors, witness: Witness) -> StageAudit:
    trained = {n for a in cell.assigned for n, scale in a.items() if scale is not None}
    held = {n for names in witness.held.values() for n in names}
    step = origin = 0.0
    still: dict[str, str] = {}
    for p in stage.parameters if any(p.name in trained for p in stage.parameters) else ():
        start, end = (tensors[p.name].detach().cpu() for tensors in (before, now))
        step += float((end.float() - start.float()).square().sum(dtype=torch.float64))
        origin += float(start.float().square().sum(dtype=torch.float64))
        reason = _why_still(p.name, torch.equal(start, end), witness) if p.name in trained else ""
        still |= {p.name: reason} if reason else {}
    scales = [scale for p in stage.parameters if (scale := cell.assigned[-1][p.name]) is not None]
    return StageAudit(
        trained=sum(p.numel for p in stage.parameters if p.name in trained),
        in_optimizer=sum(p.numel for p in stage.parameters if p.name in held),
        lr_scale=max(scales) if scales else None,
        lr=tuple(RateSpan((first, last), lr) for first, last, lr in witness.rates.get(stage.name, ())),
        moved=(step / origin) ** 0.5 if origin else 0.0,
        norm_statistics=_norm_statistics(cell.model, stage.name, now, before),
        still=still,
    )


def _why_still(name: str, unmoved: bool, witness: Witness) -> str:
    """Empty for a parameter that trained as it should."""
    if name not in witness.driven:
        return "zero lr"
    if name not in witness.alive:
        return "zero gradient"
    return "no movement" if unmoved else ""


def _norm_statistics(model: StagedModel, stage: str, now: Tensors, before: Tensors) -> NormStatistics | None:
    names = [
        ".".join(filter(None, (stage, path, name)))
        for path, module in model.parts[stage].named_modules()
        if isinstance(module, NORM_LAYERS)
        for name, _ in module.named_buffers(recurse=False)
    ]
    names = [name for name in names if name in now and name in before]
    if not names:
        return None
    return NormStatistics(*(tensor_digest((n, tensors[n]) for n in names) for tensors in (before, now)))
