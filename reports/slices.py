"""Accuracy by attribute and by group: on which test images the best cell is weak, beyond chance."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from harness.errors import UnknownName
from harness.resampling import group_correlation, mean_group_size
from harness.stats import ALPHA, fisher_exact_p, holm, wilson_effective
from reports.findings import Slice, Slices
from reports.model import Cell, Experiment
from reports.predictions import read_predictions
from reports.record_types import Predictions

GROUP = "group"
SMALL = 30  # with fewer independent images an interval is some thirty points wide
# Without being asked groups are looked at only where they hold so many images on average.
GROUP_SIZE = 10


class _Part(NamedTuple):
    """A slice by name and value, which images it holds, and the number of the comparison it is part of."""

    name: str
    value: str
    inside: np.ndarray
    test: int


def find_slices(cell: Cell, wanted: Sequence[str] = ()) -> Slices | None:
    """The slices of ``cell``'s test images, worst first; ``None`` where there are none.

    ``wanted`` names attributes, in any case, or ``group``; without, it is all attributes, and groups
    where they are large. A slice is compared with the other images by Fisher's exact test. Where images
    come in groups, numbers are divided by the design effect of the slice's own groups (Rao and Scott,
    Biometrics 48, 1992), for the interval and the test alike; a slice that is a group itself is taken image
    by image.
    """
    p = read_predictions(cell.record, attributes=True)
    parts = list(_parts(p, {name.lower() for name in wanted}))
    if not parts:
        return None
    correlation = None if cell.groups is None else group_correlation(cell.correct, cell.groups)
    rows = [_slice(part, cell, correlation) for part in parts]
    tests = {part.test: row.p for part, row in zip(parts, rows, strict=True)}
    adjusted = dict(zip(tests, holm(list(tests.values())), strict=True))
    corrected = [
        replace(row, adjusted=adjusted[part.test], differs=adjusted[part.test] < ALPHA)
        for part, row in zip(parts, rows, strict=True)
    ]
    corrected.sort(key=lambda row: (row.accuracy, -row.n, row.label))
    return Slices(cell, tuple(corrected), len(tests), correlation)


def check_slices(wanted: Iterable[str], experiments: Iterable[Experiment]) -> None:
    """Raises UnknownName for a name in ``wanted`` that no experiment's test images have."""
    known: set[str] = set()
    for e in experiments:
        p = read_predictions(e.examples.cell.record, attributes=True)
        known |= {*p.attributes, *([GROUP] if any(p.groups) else [])}
    for name in wanted:
        if name.lower() not in {k.lower() for k in known}:
            raise UnknownName("attribute to slice by", name, known)


def _parts(p: Predictions, wanted: set[str]) -> Iterator[_Part]:
    """Attributes that all or no images have make no slice."""
    test = 0
    for name, values in p.attributes.items():
        has = values == 1
        if (not wanted or name.lower() in wanted) and has.any() and not has.all():
            yield _Part(name, "yes", has, test)
            yield _Part(name, "no", ~has, test)
            test += 1
    groups = np.array(p.groups)
    names = [g for g in np.unique(groups) if g] if GROUP in wanted or not wanted else []
    if len(names) > 1 and (GROUP in wanted or np.mean(groups != "") * len(groups) / len(names) >= GROUP_SIZE):
        for name in names:
            yield _Part(GROUP, str(name), groups == name, test)
            test += 1


def _slice(part: _Part, cell: Cell, correlation: float | None) -> Slice:
    inside, correct = part.inside, cell.correct
    groups = None if part.name == GROUP else cell.groups
    n, right = int(inside.sum()), int(correct[inside].sum())
    others, others_right = len(correct) - n, int(correct.sum()) - right
    effect = _design_effect(inside, groups, correlation)
    effect_of_others = _design_effect(~inside, groups, correlation)
    p = fisher_exact_p(right / effect, n / effect, others_right / effect_of_others, others / effect_of_others)
    return Slice(
        name=part.name,
        value=part.value,
        n=n,
        right=right,
        interval=wilson_effective(right / n, n / effect),
        rest=others_right / others,
        p=p,
        adjusted=p,
        differs=False,
        small=n / effect < SMALL,
    )


def _design_effect(inside: np.ndarray, groups: np.ndarray | None, correlation: float | None) -> float:
    """How many times fewer independent images there are than images (Kish 1965)."""
    if groups is None or not correlation:
        return 1.0
    return 1 + (mean_group_size(groups[inside]) - 1) * correlation
