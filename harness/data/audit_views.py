"""A data audit as text for people and as plain values for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from harness.data import phash
from harness.data.audit import PARTS, DataAudit, NearPair

FORMAT = 1
_NAMES = {"train": "training", "val": "validation", "test": "test"}
_USUAL = 0.9  # where so many images share a size, the others are odd


def odd_sizes(audit: DataAudit) -> tuple[tuple[int, int] | None, tuple[int, ...]]:
    """The size (width, height) that nearly all images have, and the rows that haven't.

    ``None`` and no rows where images come in many sizes, as photographs do.
    """
    size = audit.looks.size
    read = np.flatnonzero(size[:, 0] > 0)
    if not len(read):
        return None, ()
    sizes, counts = np.unique(size[read], axis=0, return_counts=True)
    usual = sizes[counts.argmax()]
    if counts.max() < _USUAL * len(read):
        return None, ()
    return (int(usual[0]), int(usual[1])), tuple(read[(size[read] != usual).any(axis=1)].tolist())


def lines(audit: DataAudit, most: int) -> Iterator[str]:
    """The audit as text; of each kind of finding ``most`` are named."""
    data = audit.data
    table, spec = data.table, data.spec
    yield f"{table.card.title}{f', {table.target}' if table.target else ''}: {len(table):,} images"
    yield f"split {data.split.description}"
    yield ""
    yield from _split_table(audit)
    yield ""
    yield from _sizes(audit, most)
    yield ""
    yield from _duplicates(audit, most)
    yield ""
    yield "on two sides"
    yield from (f"  {text}" for text in _across(audit))
    advice = list(suggestions(audit))
    if advice:
        yield ""
        yield "what to do"
        yield from (f"  {text}" for text in advice)
    if spec.limit is not None:
        yield ""
        yield f"audited are the {len(table):,} images of --limit {spec.limit} alone"


def _split_table(audit: DataAudit) -> Iterator[str]:
    table = audit.data.table
    rows = [["part", "images", *table.class_names]]
    for part in PARTS:
        chosen = getattr(audit.data.split, part)
        counts = np.bincount(table.labels[chosen], minlength=len(table.class_names))
        rows.append(
            [part, f"{len(chosen):,}", *(f"{n:,} ({100 * n / max(len(chosen), 1):.1f} %)" for n in counts)]
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()


def _sizes(audit: DataAudit, most: int) -> Iterator[str]:
    ids, size, unreadable = audit.data.table.ids, audit.looks.size, audit.looks.unreadable
    read = size[size[:, 0] > 0]
    usual, odd = odd_sizes(audit)
    if usual is not None:
        alike = len(read) - len(odd)
        yield f"sizes       {alike:,} images of {usual[0]} x {usual[1]}, {len(odd):,} of another size"
        yield from _some([f"{ids[r]} {size[r][0]} x {size[r][1]}" for r in odd], most)
    elif len(read):
        (w0, h0), (w1, h1) = read.min(axis=0), read.max(axis=0)
        yield f"sizes       widths {w0} to {w1}, heights {h0} to {h1}"
    yield f"unreadable  {len(unreadable):,}"
    yield from _some([f"{ids[row]}: {reason}" for row, reason in unreadable.items()], most)


def _duplicates(audit: DataAudit, most: int) -> Iterator[str]:
    table = audit.data.table
    yield f"the same bytes     {_sets(audit.exact)}"
    yield from _some([" = ".join(_where(audit, row) for row in rows) for rows in audit.exact], most)
    mirrored = sum(pair.mirrored for pair in audit.near)
    yield f"looked for by      {phash.METHOD}"
    yield (
        f"the same picture   {_plural(len(audit.near), 'pair')} of other bytes"
        f"{f', {mirrored:,} mirrored' if mirrored else ''}"
    )
    yield from _some([_pair(audit, pair) for pair in audit.near], most)
    if audit.cut_short:
        yield "  not all of them: so many images are alike that comparing was given up"
    yield f"labels disagree    {_sets(audit.disagreeing(table.labels.tolist()))}"
    yield from _some(_disagreements(audit, [table.class_names[i] for i in table.labels]), most)
    if table.groups is not None:
        yield f"groups disagree    {_sets(audit.disagreeing(table.groups))}"
        yield from _some(_disagreements(audit, table.groups), most)


def _disagreements(audit: DataAudit, column: Sequence[str]) -> list[str]:
    sets = audit.disagreeing(column)
    return [", ".join(f"{audit.data.table.ids[row]} {column[row]}" for row in rows) for rows in sets]


def _pair(audit: DataAudit, pair: NearPair) -> str:
    mirror = ", mirrored" if pair.mirrored else ""
    return (
        f"{_where(audit, pair.a)} ~ {_where(audit, pair.b)}: "
        f"{pair.distance} bits, correlation {pair.correlation:.2f}{mirror}"
    )


def _across(audit: DataAudit) -> Iterator[str]:
    """What more than one part of the split holds."""
    sizes = {part: len(getattr(audit.data.split, part)) for part in PARTS}
    for here, there in (("test", "train"), ("test", "val"), ("val", "train")):
        found = audit.copies(here, there)
        yield f"{found:,} of {sizes[here]:,} {_NAMES[here]} images have a copy in {_NAMES[there]}"
    shared = audit.data.leakage.groups
    if shared is None:
        yield "the data hold no groups: whether people (or places, or days) are on two sides can't be told"
        return
    yield (
        f"{len(shared):,} of {sizes['test']:,} test images are of a group that has training images "
        f"({audit.shared('train', 'test'):,} groups)"
    )
    yield f"{audit.divided:,} of {audit.groups:,} groups have images in more than one part"


def suggestions(audit: DataAudit) -> Iterator[str]:
    """What a user would do about it, the most serious first."""
    if audit.looks.unreadable:
        yield "mend or remove the unreadable images: a run stops at them"
    spec = audit.data.spec
    if audit.divided:
        instead = f" instead of --split {spec.split}" if spec.split == "official" else ""
        yield (
            f"--group identity{instead}: no group on two sides, so that the test says something of new people"
        )
    elif audit.data.table.groups is None and audit.copies("test", "train"):
        yield "give the images of one person, place or day one group: a column 'group' of a table"
    if audit.copies("test", "train"):
        yield (
            "leave the copies out of the data (--list FILE names them), or run this audit with --runs RUNS: "
            "the report then gives each accuracy without them as well"
        )
    if audit.disagreeing(audit.data.table.labels.tolist()):
        yield "look at the images whose copies are labelled otherwise: one of the labels is wrong"


def redundant(audit: DataAudit) -> tuple[int, ...]:
    """Rows that could go so that no picture is there twice: of each set all but one.

    What stays is the training image, so that the test is of new pictures and training loses none; where
    labels within a set disagree nobody knows which is right, and all of it goes.
    """
    labels = audit.data.table.labels
    out = []
    for rows in audit.sets:
        stays = min(rows, key=lambda row: (audit.part[row], row))
        clear = len({int(labels[row]) for row in rows}) == 1
        out += [row for row in rows if not (clear and row == stays)]
    return tuple(sorted(out))


def as_json(audit: DataAudit) -> dict[str, Any]:
    """All that was found, as plain values (``docs/data-audit.md``)."""
    data, looks = audit.data, audit.looks
    table, ids = data.table, data.table.ids
    usual, odd = odd_sizes(audit)
    widths, heights = (looks.size[looks.size[:, 0] > 0].T.tolist()) or ([], [])
    return {
        "format": FORMAT,
        "data": {
            "name": data.spec.name,
            "title": table.card.title,
            "target": table.target,
            "limit": data.spec.limit,
            "images": len(table),
            "missing": len(table.missing),
            "class_names": list(table.class_names),
            "digests": dict(data.leakage.digests),
        },
        "split": {
            "kind": data.spec.split,
            "description": data.split.description,
            "counts": {
                part: np.bincount(
                    table.labels[getattr(data.split, part)], minlength=len(table.class_names)
                ).tolist()
                for part in PARTS
            },
        },
        "sizes": {
            "usual": list(usual) if usual else None,
            "odd": {ids[row]: looks.size[row].tolist() for row in odd},
            "width": [min(widths), max(widths)] if widths else None,
            "height": [min(heights), max(heights)] if heights else None,
        },
        "unreadable": {ids[row]: reason for row, reason in looks.unreadable.items()},
        "method": phash.METHOD,
        "complete": not audit.cut_short,
        "exact": [[ids[row] for row in rows] for rows in audit.exact],
        "near": [
            {
                "ids": [ids[pair.a], ids[pair.b]],
                "parts": [PARTS[audit.part[pair.a]], PARTS[audit.part[pair.b]]],
                "distance": pair.distance,
                "correlation": round(pair.correlation, 4),
                "mirrored": pair.mirrored,
            }
            for pair in audit.near
        ],
        "labels_disagree": [[ids[r] for r in rows] for rows in audit.disagreeing(table.labels.tolist())],
        "groups_disagree": [[ids[r] for r in rows] for rows in audit.disagreeing(table.groups)]
        if table.groups is not None
        else None,
        "copies": {
            f"{here} in {there}": audit.copies(here, there)
            for here, there in (("test", "train"), ("test", "val"), ("val", "train"))
        },
        "groups": None
        if data.leakage.groups is None
        else {
            "count": audit.groups,
            "in_several_parts": audit.divided,
            "in_train_and_test": audit.shared("train", "test"),
            "test_images_of_training_groups": len(data.leakage.groups),
        },
        "suggestions": list(suggestions(audit)),
    }


def _where(audit: DataAudit, row: int) -> str:
    return f"{audit.data.table.ids[row]} ({PARTS[audit.part[row]]})"


def _sets(sets: Sequence[tuple[int, ...]]) -> str:
    if not sets:
        return "none"
    sizes = Counter(map(len, sets))
    if set(sizes) == {2}:
        return _plural(len(sets), "pair")
    return f"{_plural(len(sets), 'set')} of up to {max(sizes)} images"


def _plural(n: int, one: str) -> str:
    return f"{n:,} {one if n == 1 else one + 's'}"


def _some(texts: Sequence[str], most: int) -> Iterator[str]:
    yield from (f"  {text}" for text in texts[:most])
    if len(texts) > most:
        yield f"  ... {len(texts) - most:,} more (--json FILE has all)"
