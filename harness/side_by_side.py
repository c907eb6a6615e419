"""Which cells train at the same time."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import TypeVar

import torch

from harness.backbones.staged import StagedModel
from harness.placement import free_memory

T = TypeVar("T")


def packed(cells: Iterable[T], company: Callable[[T], tuple[Hashable, int]]) -> list[list[T]]:
    """Batches of cells of one ``company``, in their order: its key, and how many of such a cell fit at once.

    A cell takes one part in so many of a batch, whatever those beside it take.
    """
    found: dict[Hashable, list[list[T]]] = {}
    filled: dict[Hashable, float] = {}
    for cell in cells:
        key, room = company(cell)
        batches = found.setdefault(key, [])
        if not batches or filled[key] + 1 / room > 1 + 1e-9:
            batches.append([])
            filled[key] = 0.0
        batches[-1].append(cell)
        filled[key] += 1 / room
    return [batch for batches in found.values() for batch in batches]


def cells_at_once(model: StagedModel, cut: int, device: torch.device) -> int:
    """How many cells fit in half of the free memory: a copy of the network, gradients, Adam's state."""
    late = set(model.stage_names[cut:])
    whole = sum(t.nbytes for _, t in model.tensors())
    suffix = sum(t.nbytes for n, t in model.tensors() if n.split(".", 1)[0] in late)
    return max(1, int(free_memory(device) * 0.5 / (whole + 3 * suffix)))
