"""Which samples train, which choose the epoch and which test; and smaller tables."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.contracts import SampleTable
from harness.errors import DataError, UnknownName, UsageError
from harness.seeding import derive_seed, generator

KINDS = ("stratified", "official", "group", "auto")
_GROUPINGS = ("group", "identity")
_TENTHS = 10


@dataclass(frozen=True, eq=False)
class Split:
    """Rows of a table for each part, int64 in the table's order; ``digest`` (hex) names it exactly."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray
    digest: str
    description: str


def resolve_kind(table: SampleTable, kind: str, group: str | None = None) -> str:
    """``kind`` with ``auto`` resolved: by group if one is asked for, else official where there is one."""
    if kind not in KINDS:
        raise UnknownName("split", kind, KINDS)
    if group is not None and group not in _GROUPINGS:
        raise UnknownName("group", group, _GROUPINGS)
    if group is not None and kind in ("stratified", "official"):
        raise UsageError(f"--group {group} and --split {kind} exclude each other")
    if kind != "auto":
        return kind
    if group is not None:
        return "group"
    return "official" if table.official is not None else "stratified"


def make_split(
    table: SampleTable,
    kind: str,
    split_seed: int = 0,
    group: str | None = None,
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
) -> Split:
    """Split ``table``; every sample lands in one part.

    ``stratified`` keeps the shares of the classes; ``group`` keeps all samples of a group on one
    side, in tenths, the shares of the classes about kept; ``official`` takes the data's own split
    and carves what it lacks (see the description); ``auto`` is official where there is one, else
    stratified. ``group`` (``identity`` or ``group``) asks for the split by group. Raises DataError
    where a class is missing from a part or the data lack what the kind needs, UnknownName for a kind.
    """
    if len(fractions) != 3 or min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-9:
        raise UsageError(f"the fractions of a split must be positive and sum to 1, not {fractions}")
    resolved = resolve_kind(table, kind, group)
    if resolved == "official":
        train, val, test, description = _official(table, split_seed, fractions)
    elif resolved == "group":
        train, val, test, description = _by_group(table, split_seed, fractions)
    else:
        train, val, test, description = _stratified(table, split_seed, fractions)
    parts = {"train": np.sort(train), "val": np.sort(val), "test": np.sort(test)}
    _check_classes(table, parts)
    return Split(**parts, digest=_digest(table, parts), description=description)


def limit_table(table: SampleTable, limit: int, split_seed: int = 0, kind: str = "auto") -> SampleTable:
    """About the same table with ``limit`` samples, in their order; all of it where it has no more.

    The shares of the classes are kept to within one sample; of (split, class), where the split that
    ``kind`` names is the official one. A smaller limit takes no other order of choice, so that
    samples are added as the limit grows. Raises UsageError if ``limit`` is below the number of classes.
    """
    if limit < len(table.class_names):
        raise UsageError(f"--limit {limit} is fewer than the {len(table.class_names)} classes")
    if limit >= len(table):
        return table
    strata = table.labels
    if resolve_kind(table, kind) == "official":
        parts = np.unique(np.array(_official_column(table)), return_inverse=True)[1]
        strata = parts * len(table.class_names) + table.labels
    values, counts = np.unique(strata, return_counts=True)
    exact = counts * (limit / len(table))
    quota = np.floor(exact).astype(np.int64)
    # scikit-learn's stratified samplers want every class on both sides, also on the side thrown away.
    largest_rest = np.argsort(quota - exact, kind="stable")
    quota[largest_rest[: limit - int(quota.sum())]] += 1
    chosen = [
        generator(split_seed, "limit", int(value)).permutation(np.flatnonzero(strata == value))[:count]
        for value, count in zip(values, quota, strict=True)
    ]
    return table.take(np.sort(np.concatenate(chosen)))


Parts = tuple[np.ndarray, np.ndarray, np.ndarray, str]


def _seed(split_seed: int, *purpose: object) -> int:
    return derive_seed(split_seed, "split", *purpose) % 2**32  # what scikit-learn takes


def _percent(fractions: Sequence[float]) -> str:
    return "/".join(f"{100 * f:g}" for f in fractions)


def _carve(table: SampleTable, rows: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """``rows`` without a stratified part of ``count`` of them, and that part."""
    from sklearn.model_selection import train_test_split

    labels = table.labels[rows]
    have = np.bincount(labels, minlength=len(table.class_names))
    if have.min() < 2:
        name = table.class_names[int(have.argmin())]
        raise DataError(f"too few samples of class '{name}' to split: {have.min()} where 2 are needed")
    classes = int((have > 0).sum())
    count = max(count, classes)
    if len(rows) - count < classes:
        raise DataError(f"too few samples to split: {len(rows)} for {classes} classes")
    rest, part = train_test_split(rows, test_size=count, random_state=seed, stratify=labels)
    return rest, part


def _stratified(table: SampleTable, split_seed: int, fractions: tuple[float, float, float]) -> Parts:
    rows = np.arange(len(table), dtype=np.int64)
    rest, test = _carve(table, rows, round(len(table) * fractions[2]), _seed(split_seed, "test"))
    train, val = _carve(table, rest, round(len(table) * fractions[1]), _seed(split_seed, "val"))
    return train, val, test, f"stratified {_percent(fractions)} (split seed {split_seed})"


def _by_group(table: SampleTable, split_seed: int, fractions: tuple[float, float, float]) -> Parts:
    from sklearn.model_selection import StratifiedGroupKFold

    if table.groups is None:
        raise DataError(
            "the data hold no groups: there is no identity_CelebA.txt beside the attribute file "
            "and no column 'group' in the table"
        )
    tenths = [round(f * _TENTHS) for f in fractions]
    if min(tenths) < 1 or any(abs(f * _TENTHS - t) > 1e-9 for f, t in zip(fractions, tenths, strict=True)):
        raise UsageError(f"a split by group is made in tenths, not {_percent(fractions)}")
    groups = np.unique(np.array(table.groups), return_inverse=True)[1]
    count = int(groups.max()) + 1
    if count < _TENTHS:
        raise DataError(f"too few groups to split: {count} where {_TENTHS} are needed")
    have = np.bincount(table.labels, minlength=len(table.class_names))
    if have.min() < _TENTHS:
        name = table.class_names[int(have.argmin())]
        raise DataError(f"too few samples of class '{name}' to split by group: {have.min()} of {_TENTHS}")
    folder = StratifiedGroupKFold(_TENTHS, shuffle=True, random_state=_seed(split_seed, "group"))
    folds = [fold for _, fold in folder.split(groups, table.labels, groups)]
    _, n_val, n_test = tenths
    test, val = folds[:n_test], folds[n_test : n_test + n_val]
    train = folds[n_test + n_val :]
    description = f"by group, about {_percent(fractions)}, {count} groups (split seed {split_seed})"
    return np.concatenate(train), np.concatenate(val), np.concatenate(test), description


def _official_column(table: SampleTable) -> tuple[str, ...]:
    if table.official is None:
        raise DataError("the data hold no official split; use --split stratified")
    return table.official


def _official(table: SampleTable, split_seed: int, fractions: tuple[float, float, float]) -> Parts:
    column = np.array(_official_column(table))
    train, val, test = (np.flatnonzero(column == name) for name in ("train", "val", "test"))
    if not len(train) or not (len(val) or len(test)):
        have = ", ".join(sorted(set(column.tolist())))
        raise DataError(f"the official split needs 'train' and one of 'val', 'test'; there is only: {have}")
    if len(val) and len(test):
        return train, val, test, "official"
    carved = f"val is a stratified {100 * fractions[1]:g} % of its train (split seed {split_seed})"
    description = f"official, {carved}" if len(test) else f"official, its val is the test set, {carved}"
    train, new_val = _carve(table, train, round(len(train) * fractions[1]), _seed(split_seed, "val"))
    return train, new_val, test if len(test) else val, description


def _check_classes(table: SampleTable, parts: dict[str, np.ndarray]) -> None:
    for part, rows in parts.items():
        absent = np.flatnonzero(np.bincount(table.labels[rows], minlength=len(table.class_names)) == 0)
        if absent.size:
            name = table.class_names[int(absent[0])]
            raise DataError(f"class '{name}' has no sample in the {part} split; it takes more samples of it")


def _digest(table: SampleTable, parts: dict[str, np.ndarray]) -> str:
    """sha256 over each part's name, then its samples' ids and labels in order."""
    digest = hashlib.sha256()
    for part, rows in parts.items():
        digest.update(f"{part}\x1e{len(rows)}\x1e".encode())
        digest.update("".join(f"{table.ids[i]}\x1f{table.labels[i]}\x1e" for i in rows).encode())
    return digest.hexdigest()
