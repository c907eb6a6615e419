"""The test between two settings: within a seed, over seeds, or between two published counts."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from harness.resampling import difference_over_seeds, paired_interval
from harness.stats import (
    ALPHA,
    mcnemar_exact,
    newcombe_difference,
    sign_flip_exact,
    smallest_difference,
    unpaired_z,
)
from reports.outcomes import Comparison, Outcome, Setting


def compare_pair(a: Setting, b: Setting, alpha: float = ALPHA) -> Comparison | None:
    """The comparison of two settings, alone; ``None`` where they weren't tested on the same images.

    Where each has several seeds, images and seeds are resampled; where one has a single seed, the two
    are compared within a seed that they share, else by their first cells. Two settings of which only
    counts are known are compared as if the images were others. ``alpha`` is that of ``resolvable``.
    """
    cells = (*a.cells, *b.cells)
    if all(c.correct is None for c in cells):
        return _unpaired(a, b, alpha)
    if any(c.correct is None for c in cells) or len({c.images for c in cells}) > 1:
        return None
    if min(len(a.cells), len(b.cells)) > 1:
        return _over_seeds(a, b, alpha)
    return _within_seed(a, b, alpha)


def _within_seed(a: Setting, b: Setting, alpha: float) -> Comparison:
    x, y = _one_seed(a, b)
    right_x, right_y, groups = _answers([x])[0], _answers([y])[0], x.groups
    only_x, only_y = int(np.sum(right_x & ~right_y)), int(np.sum(right_y & ~right_x))
    n = len(right_x)
    if groups is None:
        p, squares = mcnemar_exact(only_x, only_y), only_x + only_y
    else:
        _, codes = np.unique(groups, return_inverse=True)
        by_group = np.bincount(codes, right_x.astype(int) - right_y.astype(int)).astype(int)
        p, squares = sign_flip_exact(by_group), int((by_group**2).sum())
    return Comparison(
        first=a, second=b, n=n, groups=_count(groups), seeds=(1, 1), seed=x.seed,
        method="exact McNemar" if groups is None else "exact sign flips by group",
        difference=(only_x - only_y) / n, interval=paired_interval(right_x, right_y, groups),
        only_first=only_x, only_second=only_y, z=None, p=p, adjusted=p, supported=p < ALPHA,
        resolvable=smallest_difference(squares**0.5 / n, n, alpha), compared=1,
    )  # fmt: skip


def _over_seeds(a: Setting, b: Setting, alpha: float) -> Comparison:
    first, second = (sorted(s.cells, key=lambda c: c.seed) for s in (a, b))
    same = [c.seed for c in first] == [c.seed for c in second]
    groups = first[0].groups
    found = difference_over_seeds(_answers(first), _answers(second), same_seeds=same, groups=groups)
    return Comparison(
        first=a, second=b, n=first[0].test.n, groups=_count(groups), seeds=(len(first), len(second)),
        seed=None, method="bootstrap of images and seeds", difference=found.value, interval=found.interval,
        only_first=None, only_second=None, z=None, p=found.p, adjusted=found.p, supported=found.p < ALPHA,
        resolvable=found.smallest(alpha), compared=1,
    )  # fmt: skip


def _unpaired(a: Setting, b: Setting, alpha: float) -> Comparison:
    x, y = a.cells[0].test, b.cells[0].test
    found = unpaired_z(x.accuracy, x.n, y.accuracy, y.n)
    return Comparison(
        first=a, second=b, n=min(x.n, y.n), groups=None, seeds=(1, 1), seed=None, method="unpaired z",
        difference=x.accuracy - y.accuracy, interval=newcombe_difference(x.right, x.n, y.right, y.n),
        only_first=None, only_second=None, z=found.z, p=found.p, adjusted=found.p,
        supported=found.p < ALPHA, resolvable=smallest_difference(found.se, min(x.n, y.n), alpha), compared=1,
    )  # fmt: skip


def _one_seed(a: Setting, b: Setting) -> tuple[Outcome, Outcome]:
    of_b = {cell.seed: cell for cell in b.cells}
    shared = [(cell, of_b[cell.seed]) for cell in a.cells if cell.seed in of_b]
    return shared[0] if shared else (a.cells[0], b.cells[0])


def _answers(cells: Iterable[Outcome]) -> np.ndarray:
    """Bool ``[cells, images]``; only for cells with predictions."""
    return np.stack([c.correct for c in cells if c.correct is not None])


def _count(groups: np.ndarray | None) -> int | None:
    return None if groups is None else len(np.unique(groups))
