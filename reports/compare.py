"""Which cells are better than which: ranked by validation, tested on the same test images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Literal

import numpy as np

from harness.stats import ALPHA, holm, mcnemar_exact, spread
from reports.model import Cell, Comparison, Setting

# All pairs are compared up to this many; beyond, the best setting against each other one, since a
# correction over hundreds of comparisons that nobody reads would hide the few that matter.
MOST_PAIRS = 15

Relation = Literal["first", "second", "neither", "unknown"]


def settings_of(cells: Iterable[Cell]) -> tuple[tuple[Setting, ...], Literal["validation", "test"]]:
    """The cells gathered over their seeds, best first, and what they are ranked on.

    Validation accuracy ranks; where a cell has none, test accuracy does for all of them.
    """
    by_name: dict[str, list[Cell]] = {}
    for cell in cells:
        by_name.setdefault(cell.setting, []).append(cell)
    settings = [_setting(name, tuple(group)) for name, group in by_name.items()]
    on_validation = all(s.val_accuracy for s in settings)

    def rank(s: Setting) -> tuple[float, str]:
        return (-(s.val_accuracy.mean if on_validation and s.val_accuracy else s.accuracy.mean), s.name)

    return tuple(sorted(settings, key=rank)), "validation" if on_validation else "test"


def _setting(name: str, cells: tuple[Cell, ...]) -> Setting:
    val = [c.result.val.accuracy for c in cells if c.result.val is not None]
    return Setting(
        name=name,
        cells=cells,
        accuracy=spread([c.test.accuracy for c in cells]),
        macro_f1=spread([c.test.macro_f1 for c in cells]),
        val_accuracy=spread(val) if len(val) == len(cells) else None,
    )


def compare(settings: Sequence[Setting]) -> tuple[Comparison, ...]:
    """The paired tests between settings (best first), corrected for their number.

    Two settings are compared seed by seed where they share seeds, else by their first cells;
    cells that weren't tested on the same images are left out.
    """
    pairs = [pair for a, b in combinations(settings, 2) for pair in _pairs(a, b)]
    if len(pairs) > MOST_PAIRS:
        pairs = [pair for other in settings[1:] for pair in _pairs(settings[0], other)]
    counts = [(int(np.sum(a.correct & ~b.correct)), int(np.sum(b.correct & ~a.correct))) for a, b in pairs]
    p_values = [mcnemar_exact(*found) for found in counts]
    rows = zip(pairs, counts, p_values, holm(p_values), strict=True)
    return tuple(
        Comparison(a, b, a.test.n, only_a, only_b, p, adjusted, adjusted < ALPHA)
        for (a, b), (only_a, only_b), p, adjusted in rows
    )


def _pairs(a: Setting, b: Setting) -> list[tuple[Cell, Cell]]:
    seeds = {cell.seed: cell for cell in b.cells}
    shared = [(cell, seeds[cell.seed]) for cell in a.cells if cell.seed in seeds]
    return [(x, y) for x, y in shared or [(a.cells[0], b.cells[0])] if x.images == y.images]


def relation(comparisons: Iterable[Comparison], a: Setting, b: Setting) -> Relation:
    """Which of two settings is better: only where every seed they share supports it."""
    signs = set()
    for c in comparisons:
        if (c.first.setting, c.second.setting) == (a.name, b.name):
            sign = 1
        elif (c.first.setting, c.second.setting) == (b.name, a.name):
            sign = -1
        else:
            continue
        signs.add(int(np.sign(c.difference)) * sign if c.supported else 0)
    if not signs:
        return "unknown"
    return "first" if signs == {1} else "second" if signs == {-1} else "neither"
