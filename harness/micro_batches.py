"""A batch in pieces: micro-batches whose gradients add up to the batch's own.

Each piece's loss counts by its share of the weight of the whole batch, so the gradients of the pieces
are added, never averaged, however unequal the pieces are, one after the other or in several processes
(``world.py``). The optimizer steps once a batch. What differs from the whole batch is the rounding of
sums and what dropout draws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

import torch
from torch import nn

from harness.errors import HarnessError
from harness.runtime import OutOfMemory, let_go
from harness.world import ALONE, World

KEY = "micro_batches"  # of a row of the history and of a record
Found = TypeVar("Found")
Rows = tuple[int, int]  # of a batch, the second one excluded


class Change(NamedTuple):
    """From this epoch (1, 2, ...) and step (0, 1, ...) on, a batch is computed in so many pieces."""

    epoch: int
    step: int
    pieces: int


class NeedsWholeBatches(HarnessError):
    """A network whose result depends on which rows are computed together."""


@dataclass
class MicroBatches:
    """In how many pieces the batches of one cell are computed, and since when.

    ``asked`` are the pieces that it must come to; a ``fixed`` one doesn't make more of its own when memory
    runs out. Pieces only ever get more. Each process of ``world`` computes its share of them.
    """

    asked: Sequence[Change] = ()
    fixed: bool = False
    changes: list[Change] = field(default_factory=list)
    world: World = ALONE

    @property
    def count(self) -> int:
        return self.changes[-1].pieces if self.changes else 1

    def reach(self, epoch: int, step: int, module: nn.Module) -> None:
        """Before a step of ``module``: what is asked from here on.

        Raises NeedsWholeBatches where that would be another training.
        """
        due = (change.pieces for change in self.asked if change[:2] <= (epoch, step))
        self._grow(Change(epoch, step, max(due, default=1)))
        layer = batch_statistics(module) if self.count > 1 else None
        if layer:
            raise NeedsWholeBatches(
                f"its batches can't be computed in {self.count} pieces, as processes or --micro-batches ask "
                f"for: '{layer}' takes statistics of the whole batch; use one process without pieces, or a "
                "strategy that freezes its norm layers"
            )

    def attempt(
        self,
        at: tuple[int, int],
        rows: int,
        module: nn.Module,
        compute: Callable[[Sequence[Rows]], Found],
        device: torch.device,
    ) -> Found:
        """``compute`` of this process's share of a batch of ``rows``.

        It is begun again, in twice as many pieces, while memory runs out in any process. ``at`` is the
        epoch and the step. Raises OutOfMemory where more pieces are no help, or no option.
        """
        self.reach(*at, module)
        while True:
            found = None
            try:
                found = compute(self.world.share(self.pieces(rows)))
            except torch.OutOfMemoryError as error:
                if self.fixed:
                    raise
                let_go(error)
            if not self.world.any(found is None, device):
                assert found is not None
                return found
            del found
            self._halve(at, rows, module)

    def pieces(self, rows: int) -> list[Rows]:
        """The pieces of a batch of ``rows``, of nearly equal size; none is empty."""
        edges = [rows * k // self.count for k in range(self.count + 1)]
        return [piece for piece in pairwise(edges) if piece[0] < piece[1]]

    def row(self, epoch: int) -> dict[str, Any]:
        """What a history's row says of ``epoch``; nothing where its batches were whole."""
        before = [change.pieces for change in self.changes if change[:2] <= (epoch, 0)]
        found = [[0, before[-1] if before else 1]]
        found += [[c.step, c.pieces] for c in self.changes if c.epoch == epoch and c.step > 0]
        return {KEY: found} if found[-1][1] > 1 else {}

    def _halve(self, at: tuple[int, int], rows: int, module: nn.Module) -> None:
        largest = max(stop - start for start, stop in self.pieces(rows))
        layer = batch_statistics(module)
        if largest == 1:
            raise OutOfMemory(
                "out of memory with one image at a time: use a smaller network, or --precision bf16"
            )
        if layer:
            raise OutOfMemory(
                f"out of memory with {largest} images at a time, and in smaller micro-batches '{layer}' "
                "would take other statistics: use a smaller --batch-size, or a strategy that freezes its "
                "norm layers"
            )
        self._grow(Change(*at, 2 * self.count))

    def _grow(self, change: Change) -> None:
        if change.pieces > self.count:
            self.changes = [c for c in self.changes if c[:2] != change[:2]] + [change]


def changes(history: Iterable[Mapping[str, Any]]) -> list[Change]:
    """The changes that the rows of a history tell of, in their order."""
    found: list[Change] = []
    for row in history:
        for step, pieces in row.get(KEY, [[0, 1]]):
            if pieces != (found[-1].pieces if found else 1):
                found.append(Change(int(row["epoch"]), int(step), int(pieces)))
    return found


def batch_statistics(module: nn.Module) -> str | None:
    """The first layer that, as it stands, computes over all rows of a batch or keeps statistics of them."""
    for name, layer in module.named_modules():
        keeps = any(n.startswith("running_") and b is not None for n, b in layer._buffers.items())
        blind = isinstance(layer, nn.modules.batchnorm._BatchNorm) and not keeps  # even in eval mode
        if blind or (keeps and layer.training):
            return name
    return None
