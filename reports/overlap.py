"""The mistakes that cells share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reports.findings import Overlap
from reports.model import Cell
from reports.outcomes import Setting

MOST_CELLS = 20


def overlap(settings: Sequence[Setting[Cell]], best: Sequence[Cell]) -> Overlap | None:
    """The shared mistakes of all cells that were tested on the same images, ``None`` with fewer than two.

    Of more than :data:`MOST_CELLS` only ``best`` are taken, the best cell of each setting (best setting
    first), as many as there is room for.
    """
    cells = [c for s in settings for c in s.cells if c.images == best[0].images]
    shown = cells
    if len(cells) > MOST_CELLS:
        shown = [c for c in best if c.images == best[0].images][:MOST_CELLS]
    if len(shown) < 2:
        return None
    wrong = ~np.stack([c.correct for c in shown])
    counted = wrong.astype(np.int64)
    return Overlap(
        cells=tuple(shown),
        n=wrong.shape[1],
        shared=counted @ counted.T,
        everyone=int(wrong.all(axis=0).sum()),
        anyone=int(wrong.any(axis=0).sum()),
        of=len(cells),
    )
