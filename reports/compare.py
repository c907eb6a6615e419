"""Which settings are better than which: ranked by validation, tested on the same test images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Literal

import numpy as np

from harness.resampling import over_seeds
from harness.stats import ALPHA, holm, spread, wilson
from reports.outcomes import BestWorst, Comparison, OutcomeT, Setting
from reports.pairwise import compare_pair

# All pairs are compared up to this many; beyond, the first and the last of the ranking against each other
# one, since a correction over thousands of comparisons that nobody reads would hide the few that matter.
MOST_PAIRS = 15

Relation = Literal["first", "second", "neither", "unknown"]


def settings_of(
    cells: Iterable[OutcomeT],
) -> tuple[tuple[Setting[OutcomeT], ...], Literal["validation", "test"]]:
    """The cells gathered over their seeds, best first, and what they are ranked on.

    Validation accuracy ranks; where a cell has none, test accuracy does for all of them.
    """
    by_name: dict[str, list[OutcomeT]] = {}
    for cell in cells:
        by_name.setdefault(cell.setting, []).append(cell)
    settings = [_setting(name, tuple(group)) for name, group in by_name.items()]
    on_validation = all(s.val_accuracy for s in settings)

    def rank(s: Setting[OutcomeT]) -> tuple[float, str]:
        return (-(s.val_accuracy.mean if on_validation and s.val_accuracy else s.accuracy.mean), s.name)

    return tuple(sorted(settings, key=rank)), "validation" if on_validation else "test"


def best_cell(setting: Setting[OutcomeT], ranked_on: str) -> OutcomeT:
    """The setting's cell that ranks first over its seeds."""

    def rank(cell: OutcomeT) -> float:
        if ranked_on == "validation" and cell.val_accuracy is not None:
            return cell.val_accuracy
        return cell.test.accuracy

    return max(setting.cells, key=rank)


def _setting(name: str, cells: tuple[OutcomeT, ...]) -> Setting[OutcomeT]:
    val = [c.val_accuracy for c in cells if c.val_accuracy is not None]
    correct = [c.correct for c in cells if c.correct is not None and c.images == cells[0].images]
    return Setting(
        name=name,
        cells=cells,
        accuracy=spread([c.test.accuracy for c in cells]),
        macro_f1=spread([c.test.macro_f1 for c in cells]),
        val_accuracy=spread(val) if len(val) == len(cells) else None,
        over_seeds=over_seeds(np.stack(correct), cells[0].groups) if len(correct) == len(cells) > 1 else None,
        collapse_interval=wilson(sum(c.verdict.kind == "collapsed" for c in cells), len(cells)),
    )


def compare(settings: Sequence[Setting]) -> tuple[Comparison, ...]:
    """The tests between settings (best first), corrected by Holm for their number.

    Two settings that weren't tested on the same images are left out.
    """
    pairs = list(combinations(settings, 2))
    if len(pairs) > MOST_PAIRS:
        first, *between, last = settings
        pairs = [(first, other) for other in settings[1:]] + [(other, last) for other in between]
    # The smallest difference that could be found is that of Holm's first and strictest step.
    found = [compare_pair(a, b, ALPHA / len(pairs)) for a, b in pairs]
    rows = [row for row in found if row is not None]
    return tuple(
        replace(row, adjusted=adjusted, supported=adjusted < ALPHA, compared=len(rows))
        for row, adjusted in zip(rows, holm([row.p for row in rows]), strict=True)
    )


def relation(comparisons: Iterable[Comparison], a: Setting, b: Setting) -> Relation:
    """Which of two settings is better, as far as the test supports it."""
    for c in comparisons:
        if {c.first.name, c.second.name} == {a.name, b.name}:
            if not c.supported:
                return "neither"
            return "first" if (c.difference > 0) == (c.first.name == a.name) else "second"
    return "unknown"


def best_and_worst(settings: Sequence[Setting], comparisons: Sequence[Comparison]) -> BestWorst:
    """The settings that the test can't tell from the one that ranks first, and from the one that ranks last.

    One that it tells from neither is in both.
    """
    if len(settings) < 2:
        return BestWorst(tuple(s.name for s in settings), ())
    first, *others = settings
    last = settings[-1]
    to_first = {s.name: relation(comparisons, first, s) for s in others}
    best = (first.name, *(name for name, found in to_first.items() if found == "neither"))
    beside_last = [s.name for s in others[:-1] if relation(comparisons, s, last) == "neither"]
    return BestWorst(
        best=() if "second" in to_first.values() else best,
        worst=(*beside_last, last.name) if to_first[last.name] == "first" else (),
    )
