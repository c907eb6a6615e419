"""What training really touched, noted while it runs: optimizers, gradients, tensors that must stand still.

A plan says what should happen. This is taken from the optimizers and the tensors themselves, so that
``audit.py`` can hold the two side by side. It costs a look at the first step of each segment, one pass
over the gradients of an epoch, and two over whatever one segment freezes and another trains; nothing
waits for the device inside an epoch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils.hooks import RemovableHandle

from harness.cell import Cell
from harness.freezing import standing_still

_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass
class Witness:
    """Evidence about one cell, by parameter name; what a segment did stands under the segment's index.

    ``held``: was in the optimizer; ``reached``: was stepped with a gradient; ``alive``: had a gradient
    that isn't zero at the end of an epoch; ``driven``: had a learning rate above zero. ``rates`` holds
    ``[first epoch, last epoch, lr]`` of each stage, the largest lr of its parameters before the schedule.
    ``disturbed`` names what changed while it was frozen, with the epochs.
    """

    held: dict[int, set[str]] = field(default_factory=dict)
    reached: dict[int, set[str]] = field(default_factory=dict)
    alive: set[str] = field(default_factory=set)
    driven: set[str] = field(default_factory=set)
    rates: dict[str, list[tuple[int, int, float]]] = field(default_factory=dict)
    disturbed: dict[str, tuple[int, int]] = field(default_factory=dict)
    _sums: dict[str, int] = field(default_factory=dict)
    _waiting: list[torch.nn.Parameter] = field(default_factory=list, repr=False)
    _hook: RemovableHandle | None = field(default=None, repr=False)

    def begin(
        self, cell: Cell, segment: int, optimizer: torch.optim.Optimizer, names: Mapping[int, str]
    ) -> None:
        """Before an epoch. ``names`` has the name of each parameter of ``optimizer`` by identity."""
        if segment not in self.held:
            self.held[segment], self.reached[segment] = set(), set()
            self._sums = _sums(_frozen_for_now(cell, segment))
        reached = self.reached[segment]
        self._waiting = [p for p in _parameters(optimizer) if names[id(p)] not in reached]
        if self._waiting:
            # A fused optimizer's state can't tell: it may be taken over from another segment or made up.
            self._hook = optimizer.register_step_post_hook(_strike_off(self._waiting))

    def end(
        self,
        cell: Cell,
        segment: int,
        epoch: int,
        optimizer: torch.optim.Optimizer,
        names: Mapping[int, str],
    ) -> None:
        """After the last step of ``epoch``, while its gradients are still there."""
        if self._hook is not None:
            self._hook.remove()
        held = {names[id(p)]: p for p in _parameters(optimizer)}
        self.held[segment] |= held.keys()
        self.reached[segment] |= held.keys() - {names[id(p)] for p in self._waiting}
        self._hook, self._waiting = None, []
        self.alive |= _not_zero({n: p.grad for n, p in held.items() if n not in self.alive})
        self._note_rates(epoch, optimizer, names)
        first = 1 + cell.recipe.epochs_before(segment)
        if epoch == first - 1 + cell.recipe.segments[segment].epochs:
            now = _sums(_frozen_for_now(cell, segment))
            self.disturbed |= {n: (first, epoch) for n in sorted(now) if now[n] != self._sums[n]}

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON's types, for what goes on from here in another process."""
        return {
            "held": {str(i): sorted(names) for i, names in self.held.items()},
            "reached": {str(i): sorted(names) for i, names in self.reached.items()},
            "alive": sorted(self.alive),
            "driven": sorted(self.driven),
            "rates": {stage: [list(span) for span in spans] for stage, spans in self.rates.items()},
            "disturbed": {name: list(epochs) for name, epochs in self.disturbed.items()},
            "sums": dict(self._sums),
        }

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Witness:
        """What :meth:`as_dict` gave."""
        return cls(
            held={int(i): set(names) for i, names in found["held"].items()},
            reached={int(i): set(names) for i, names in found["reached"].items()},
            alive=set(found["alive"]),
            driven=set(found["driven"]),
            rates={stage: [(a, b, lr) for a, b, lr in spans] for stage, spans in found["rates"].items()},
            disturbed={name: (first, last) for name, (first, last) in found["disturbed"].items()},
            _sums=dict(found["sums"]),
        )

    def _note_rates(self, epoch: int, optimizer: torch.optim.Optimizer, names: Mapping[int, str]) -> None:
        largest: dict[str, float] = {}
        for group in optimizer.param_groups:
            for name in (names[id(p)] for p in group["params"]):
                stage = name.split(".", 1)[0]
                largest[stage] = max(group["base_lr"], largest.get(stage, 0.0))
                if group["base_lr"] > 0:
                    self.driven.add(name)
        for stage, lr in largest.items():
            spans = self.rates.setdefault(stage, [])
            if spans and spans[-1][1:] == (epoch - 1, lr):
                spans[-1] = (spans[-1][0], epoch, lr)
            else:
                spans.append((epoch, epoch, lr))


def _parameters(optimizer: torch.optim.Optimizer) -> list[torch.nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _strike_off(waiting: list[torch.nn.Parameter]) -> Callable[..., None]:
    """A hook after each step that leaves in ``waiting`` what has had no gradient yet."""

    def strike_off(*_: object) -> None:
        if waiting:
            waiting[:] = [p for p in waiting if p.grad is None]

    return strike_off


def _not_zero(gradients: Mapping[str, torch.Tensor | None]) -> set[str]:
    found = {n: torch.linalg.vector_norm(g, math.inf).float() for n, g in gradients.items() if g is not None}
    sizes = torch.stack(list(found.values())).tolist() if found else []
    return {name for name, size in zip(found, sizes, strict=True) if size != 0}


def _frozen_for_now(cell: Cell, segment: int) -> dict[str, torch.Tensor]:
    """What this segment freezes and another trains; what all freeze is compared when training is over."""
    tensors = cell.tensors()
    now, always = standing_still(tensors, [cell.assigned[segment]]), standing_still(tensors, cell.assigned)
    return {name: tensors[name] for name in sorted(now - always)}


def _sums(tensors: Mapping[str, torch.Tensor]) -> dict[str, int]:
    """The sum of each tensor's bits read as whole numbers: it changes whenever a single value does."""
    sums = [t.detach().view(_BITS[t.element_size()]).sum(dtype=torch.int64) for t in tensors.values()]
    return dict(zip(tensors, torch.stack(sums).tolist() if sums else [], strict=True))
