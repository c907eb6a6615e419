"""Test images that training has seen, and what the cells reach without them.

Reads ``leakage.json`` of run folders. The cells of an experiment share data and split, so what one of
them knows holds for all; an audit that looked for near copies is preferred.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from harness.leakage import Leakage, read_leakage
from harness.resampling import accuracy_interval
from harness.stats import wilson
from reports.formats import count, percent, plural, points
from reports.model import Cell, LeakRow, Leaks, Subset
from reports.predictions import read_predictions

FEW = 30  # images that say little


def find_leaks(cells: Sequence[Cell]) -> Leaks | None:
    """What training has seen of the test images of cells that share data and split.

    ``None`` where no run folder says it. Raises :class:`~harness.errors.RecordError` for one that can't
    be read.
    """
    known = [read_leakage(c.record.folder, c.result.digests) for c in cells]
    found = max((k for k in known if k is not None), key=lambda k: k.near is not None, default=None)
    if found is None:
        return None
    ids: dict[str, tuple[str, ...]] = {}
    for cell in cells:
        if cell.images not in ids:
            ids[cell.images] = read_predictions(cell.record).ids
    leaks = _leaks(cells, found, ids)
    return replace(leaks, reading=tuple(_reading(leaks)))


def _leaks(cells: Sequence[Cell], found: Leakage, ids: Mapping[str, Sequence[str]]) -> Leaks:
    near = found.near or {}
    copies = {k: np.array([i in found.exact or i in near for i in names]) for k, names in ids.items()}
    shared = set(found.groups or ())
    known = {k: np.array([i in shared for i in names]) for k, names in ids.items()}
    rows = tuple(
        LeakRow(
            cell=cell,
            copies=_subset(cell, copies[cell.images]),
            without_copies=_subset(cell, ~copies[cell.images]),
            new_groups=None if found.groups is None else _subset(cell, ~known[cell.images]),
        )
        for cell in cells
    )
    first = ids[cells[0].images]
    exact = sum(name in found.exact for name in first)
    return Leaks(
        n=len(first),
        exact=exact,
        near=None if found.near is None else rows[0].copies.n - exact,
        copies=rows[0].copies.n,
        groups=None if found.groups is None else int(known[cells[0].images].sum()),
        method=found.method,
        clustered=cells[0].groups is not None,
        rows=rows,
        reading=(),
    )


def _subset(cell: Cell, chosen: np.ndarray) -> Subset:
    n, right = int(chosen.sum()), int(cell.correct[chosen].sum())
    if not n:
        return Subset(0, 0, None)
    if cell.groups is None:
        return Subset(n, right, wilson(right, n))
    return Subset(n, right, accuracy_interval(cell.correct[chosen], cell.groups[chosen]))


def _reading(leaks: Leaks) -> Iterator[str]:
    yield from _copies(leaks)
    yield from _without_copies(leaks)
    yield from _groups(leaks)


def _copies(leaks: Leaks) -> Iterator[str]:
    of = f"Of {plural(leaks.n, 'test image')}"
    if leaks.near is None:
        bytes_ = (
            f"{count(leaks.exact)} {'has' if leaks.exact == 1 else 'have'}" if leaks.exact else "none has"
        )
        yield (
            f"{of} {bytes_} the bytes of a training image. Near copies (recompressed, recoloured, mirrored) "
            "were not looked for; harness data audit --runs does."
        )
    elif leaks.copies:
        shows = "shows a picture" if leaks.copies == 1 else "show pictures"
        yield (
            f"{of} {count(leaks.copies)} {shows} that training has too: {count(leaks.exact)} in the same "
            f"bytes, {count(leaks.near)} recompressed, recoloured or mirrored."
        )
    else:
        yield f"{of} none shows a picture that training has too, as far as an audit could see."


def _without_copies(leaks: Leaks) -> Iterator[str]:
    if not leaks.copies:
        return
    left = leaks.n - leaks.copies
    if not left:
        yield "Without them no test image is left: these accuracies say nothing of new pictures."
        return
    changes = [
        row.without_copies.accuracy - row.cell.test.accuracy
        for row in leaks.rows
        if row.without_copies.accuracy is not None
    ]
    least, most = points(min(changes)), points(max(changes))
    span = f"by {most}" if least == most else f"by {least} to {most}"
    cells = "the accuracy changes" if len(leaks.rows) == 1 else "accuracies change"
    yield f"Without them {cells} {span} points{_few(left)}."


def _groups(leaks: Leaks) -> Iterator[str]:
    if leaks.groups is None:
        yield "The data hold no groups: whether training has seen the same people can't be told."
        return
    left = leaks.n - leaks.groups
    if not leaks.groups:
        yield "No test image is of a group (a person, say) that training has images of."
    elif not left:
        yield (
            "Every test image is of a group (a person, say) that training has images of. The figures hold "
            "for new images of known groups; of new ones they say nothing. To find out: --group identity."
        )
    else:
        reached = [r.new_groups.right / left for r in leaks.rows if r.new_groups]
        low, high = percent(min(reached)), percent(max(reached))
        yield (
            f"{count(leaks.groups)} {'is' if leaks.groups == 1 else 'are'} of a group (a person, say) that "
            f"training has images of. On the other {count(left)} the cells reach "
            f"{low if low == high else f'{low} to {high}'}{_few(left)}. To test on new groups alone: "
            "--group identity."
        )


def _few(n: int) -> str:
    return f"; {plural(n, 'image')} {'says' if n == 1 else 'say'} little" if n < FEW else ""
