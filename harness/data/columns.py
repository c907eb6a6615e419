"""Columns of values that came with images: which is the label, which are attributes, groups, splits."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness.contracts import DataCard, SampleTable
from harness.data.listed import SPLIT_NAMES, Missing
from harness.errors import DataError

LABEL_NAMES = ("label", "labels", "class", "target", "cls")
GROUP_NAMES = ("group", "identity")
_SPLITS = SPLIT_NAMES | {
    "training": "train", "dev": "val", "testing": "test", "eval": "test", "evaluation": "test",
}  # fmt: skip


@dataclass(frozen=True)
class Sample:
    """One sample as it was found: ``name`` as the data give it, ``own`` a name that no other sample has.

    ``place`` says in an error where it is; ``split`` is as the name of its ``file`` has it.
    """

    name: str
    own: str
    file: str
    path: str
    place: str
    label: object
    split: str | None = None
    absent: bool = False


@dataclass(frozen=True)
class Found:
    """What a reader found: samples in the order of storage, other columns by name, one value a sample.

    ``classes`` are the names behind integer labels, where the data say them.
    """

    samples: Sequence[Sample]
    others: Mapping[str, Sequence[object]] = field(default_factory=dict)
    classes: Sequence[str] | None = None


def split_of(name: str) -> str | None:
    """The split that a relative file name speaks of, its last part first; None where it names none."""
    for part in reversed(name.split("/")):
        for word in re.split(r"[^a-z]+", part.lower()):
            if word in _SPLITS:
                return _SPLITS[word]
    return None


def as_table(found: Found, where: str, card: DataCard, target: str | None, missing: Missing) -> SampleTable:
    """The table of what was found below ``where``.

    Samples without image or label are an error, or left out where ``missing`` is ``skip``. Classes that
    no sample has are left out. A column ``split`` is taken before the splits that file names speak of,
    which count where there are two or more.
    """
    if not found.samples:
        raise DataError(f"{where}: holds no images")
    keep, absent = _kept(found, where, missing)
    samples = [found.samples[i] for i in keep]
    others = {name: [values[i] for i in keep] for name, values in found.others.items()}
    names = _names(found.samples)
    labels, class_names = _labels([s.label for s in samples], found.classes, where, target)
    return SampleTable(
        ids=tuple(names[i] for i in keep),
        paths=tuple(s.path for s in samples),
        labels=labels,
        class_names=class_names,
        card=card,
        target=target,
        groups=_groups(others),
        official=_official(samples, others.get("split"), where),
        attributes={
            name: bits
            for name, values in others.items()
            if name not in ("split", *GROUP_NAMES) and (bits := _bits(values)) is not None
        },
        missing=tuple(names[i] for i in absent),
    )


def _kept(found: Found, where: str, missing: Missing) -> tuple[list[int], list[int]]:
    lacking = [
        "image" if s.absent else "label" if _unlabelled(s.label, found.classes) else "" for s in found.samples
    ]
    absent = [i for i, what in enumerate(lacking) if what]
    if absent and missing == "error":
        first = found.samples[absent[0]]
        raise DataError(
            f"{first.place}: no {lacking[absent[0]]} ({len(absent)} of {len(lacking)} samples lack image or "
            "label; --missing skip leaves them out)"
        )
    if len(absent) == len(lacking):
        raise DataError(f"{where}: no sample has both an image and a label")
    return [i for i, what in enumerate(lacking) if not what], absent


def _unlabelled(label: object, classes: Sequence[str] | None) -> bool:
    return label is None or label == "" or (classes is not None and label == -1)


def _names(samples: Sequence[Sample]) -> list[str]:
    """Ids: the names that the data give, where those are all different."""
    names = [s.name for s in samples]
    return names if len(set(names)) == len(names) else [s.own for s in samples]


def _labels(
    values: Sequence[object], classes: Sequence[str] | None, where: str, target: str | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    kinds = {type(value) for value in values}
    if len(kinds) > 1 or not kinds <= {int, str, bool}:
        seen = " and ".join(sorted(kind.__name__ for kind in kinds))
        raise DataError(
            f"{where}: the label '{target}' holds {seen}: expected whole numbers, words or yes/no"
        )
    seen_values: list[Any] = sorted(set(values))
    if kinds == {str}:
        with suppress(ValueError):
            seen_values = sorted(seen_values, key=int)
    if len(seen_values) < 2:
        raise DataError(f"{where}: the label '{target}' holds only one class, '{seen_values[0]}'")
    index = {value: i for i, value in enumerate(seen_values)}
    labels = np.array([index[value] for value in values], dtype=np.int64)
    if classes is not None:
        beyond = [v for v in seen_values if not isinstance(v, int) or not 0 <= v < len(classes)]
        if beyond:
            raise DataError(f"{where}: the label '{target}' holds {beyond[0]}, it has {len(classes)} names")
        return labels, tuple(classes[v] for v in seen_values)
    if kinds == {bool}:
        return labels, (f"not {target}", str(target))
    return labels, tuple(str(value) for value in seen_values)


def _groups(others: Mapping[str, Sequence[object]]) -> tuple[str, ...] | None:
    for name in GROUP_NAMES:
        values = others.get(name)
        if values and all(isinstance(v, int | str) and v != "" for v in values):
            return tuple(map(str, values))
    return None


def _official(
    samples: Sequence[Sample], column: Sequence[object] | None, where: str
) -> tuple[str, ...] | None:
    if column is not None:
        strange = next((v for v in column if str(v).lower() not in _SPLITS), None)
        if strange is not None:
            raise DataError(f"{where}: the column 'split' holds '{strange}', which is not train, val or test")
        splits = [_SPLITS[str(v).lower()] for v in column]
    else:
        splits = [s.split or "" for s in samples]
        if "" in splits and any(splits):
            unnamed = next(s.file for s in samples if not s.split)
            raise DataError(f"{where}: other files are named by their split, {unnamed} isn't")
    return tuple(splits) if len(set(splits)) > 1 else None


def _bits(values: Sequence[object]) -> np.ndarray | None:
    """int8 ``[n]`` of 0/1 where all values are yes or no, 0/1, or -1/1; else None."""
    found = set(values)
    if all(isinstance(v, int) for v in found) and (found <= {0, 1} or found <= {-1, 1}):
        return np.array([value == 1 for value in values], dtype=np.int8)
    return None
