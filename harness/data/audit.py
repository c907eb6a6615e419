"""What is wrong with images, labels and a split before anything trains: ``harness data audit``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from harness.data import phash
from harness.data.fingerprints import Fingerprints, fingerprints
from harness.data.image_file import decode, read_file
from harness.data.prepare import PreparedData
from harness.leakage import Leakage, NearCopy
from harness.progress import Progress

PARTS = ("train", "val", "test")
_PAIRS_AT_ONCE = 2048
_DETAILS_KEPT = 8192  # 16 KiB each
# Beyond so many candidates the images are all alike (pages, say, or charts) and the hash tells nothing.
_MOST_CANDIDATES = 1_000_000


@dataclass(frozen=True)
class NearPair:
    """Rows ``a < b`` that show the same picture in other bytes; see :class:`~harness.leakage.NearCopy`."""

    a: int
    b: int
    distance: int
    correlation: float
    mirrored: bool


@dataclass(frozen=True, eq=False)
class DataAudit:
    """What was found in ``data``.

    ``exact`` are sets of rows whose files have the same bytes, ``near`` pairs that show the same picture,
    closest first; of a set of ``exact`` the first row stands for all. ``cut_short`` says that so many
    images were alike that not all pairs were looked at.
    """

    data: PreparedData
    looks: Fingerprints
    exact: tuple[tuple[int, ...], ...]
    near: tuple[NearPair, ...]
    cut_short: bool

    @cached_property
    def part(self) -> np.ndarray:
        """The part of the split of each row, an index into :data:`PARTS`, int8 ``[n]``."""
        found = np.zeros(len(self.data.table), dtype=np.int8)
        for index, name in enumerate(PARTS):
            found[getattr(self.data.split, name)] = index
        return found

    @cached_property
    def sets(self) -> tuple[tuple[int, ...], ...]:
        """Rows that show one picture, exact and near copies together, two or more each."""
        root = list(range(len(self.data.table)))

        def find(row: int) -> int:
            while root[row] != row:
                root[row] = row = root[root[row]]
            return row

        links = [(rows[0], other) for rows in self.exact for other in rows[1:]]
        for a, b in [*links, *((pair.a, pair.b) for pair in self.near)]:
            low, high = sorted((find(a), find(b)))
            root[high] = low
        members: dict[int, list[int]] = {}
        for row in {row for link in links for row in link} | {r for p in self.near for r in (p.a, p.b)}:
            members.setdefault(find(row), []).append(row)
        return tuple(sorted(tuple(sorted(rows)) for rows in members.values()))

    def copies(self, here: str, there: str) -> int:
        """How many images of part ``here`` have a copy, exact or near, in part ``there``.

        Copies of copies count: a set is one picture.
        """
        a, b = PARTS.index(here), PARTS.index(there)
        parts = [self.part[list(rows)] for rows in self.sets]
        return sum(int((p == a).sum()) for p in parts if (p == b).any())

    def disagreeing(self, column: Sequence[object]) -> tuple[tuple[int, ...], ...]:
        """The sets whose images differ in a column of the table: the same picture, labelled otherwise."""
        return tuple(rows for rows in self.sets if len({column[row] for row in rows}) > 1)

    @cached_property
    def leakage(self) -> Leakage:
        """For the run folders of this split: what bytes and groups tell, and the near copies."""
        return replace(self.data.leakage, near=self._near_of_test(), method=phash.METHOD)

    def _near_of_test(self) -> dict[str, tuple[NearCopy, ...]]:
        ids, same = self.data.table.ids, {rows[0]: rows for rows in self.exact}
        found: dict[str, list[NearCopy]] = {}
        for pair in self.near:
            a, b = same.get(pair.a, (pair.a,)), same.get(pair.b, (pair.b,))
            for test, train in [(i, j) for i in a for j in b] + [(j, i) for i in a for j in b]:
                if (PARTS[self.part[test]], PARTS[self.part[train]]) == ("test", "train"):
                    copy = NearCopy(ids[train], pair.distance, round(pair.correlation, 4), pair.mirrored)
                    found.setdefault(ids[test], []).append(copy)
        return {name: tuple(copies) for name, copies in found.items()}

    @cached_property
    def divided(self) -> int:
        """How many groups have images in more than one part."""
        return sum(len(parts) > 1 for parts in self._parts_of_group.values())

    def shared(self, here: str, there: str) -> int:
        """How many groups have images in both parts."""
        pair = {PARTS.index(here), PARTS.index(there)}
        return sum(pair <= parts for parts in self._parts_of_group.values())

    @property
    def groups(self) -> int:
        return len(self._parts_of_group)

    @cached_property
    def _parts_of_group(self) -> dict[str, set[int]]:
        found: dict[str, set[int]] = {}
        for group, part in zip(self.data.table.groups or (), self.part.tolist(), strict=False):
            found.setdefault(group, set()).add(part)
        return found


def audit_data(data: PreparedData, workers: int, progress: Progress) -> DataAudit:
    """Decodes every image once (what is remembered excepted) and compares all with all."""
    table = data.table
    with ThreadPoolExecutor(max_workers=workers) as pool:
        with progress.task("looking at images", len(table), "images") as task:
            looks = fingerprints(table.paths, data.contents, pool, task.advance)
        exact, single = _exact(data.contents)
        rows = np.array([row for row in single if row not in looks.unreadable], dtype=np.int64)
        with progress.task("comparing images", len(rows), "images") as task:
            near, cut_short = _near(data, looks, rows, pool, task.advance)
    return DataAudit(data, looks, exact, near, cut_short)


def _exact(contents: Sequence[str]) -> tuple[tuple[tuple[int, ...], ...], list[int]]:
    """Sets of rows of the same bytes, and the first row of each content."""
    rows: dict[str, list[int]] = {}
    for row, content in enumerate(contents):
        rows.setdefault(content, []).append(row)
    return tuple(tuple(r) for r in rows.values() if len(r) > 1), [r[0] for r in rows.values()]


def _near(
    data: PreparedData,
    looks: Fingerprints,
    rows: np.ndarray,
    pool: Executor,
    advance: Callable[[int], object],
) -> tuple[tuple[NearPair, ...], bool]:
    details = _Details(data.table.paths, pool)
    found: list[NearPair] = []
    tried = 0
    for alike in phash.candidates(looks.plain[rows], looks.mirrored[rows], advance):
        tried += len(alike.a)
        if tried > _MOST_CANDIDATES:
            return _closest(found), True
        found += _confirmed(replace(alike, a=rows[alike.a], b=rows[alike.b]), details)
    return _closest(found), False


def _closest(pairs: list[NearPair]) -> tuple[NearPair, ...]:
    return tuple(sorted(pairs, key=lambda p: (p.distance, -p.correlation, p.a, p.b)))


def _confirmed(alike: phash.Candidates, details: _Details) -> Iterator[NearPair]:
    for start in range(0, len(alike.a), _PAIRS_AT_ONCE):
        a, b = alike.a[start : start + _PAIRS_AT_ONCE], alike.b[start : start + _PAIRS_AT_ONCE]
        agreement = phash.correlation(*details.of(a, b), mirrored=alike.mirrored)
        for k in np.flatnonzero(agreement >= phash.LEAST):
            yield NearPair(
                a=int(a[k]),
                b=int(b[k]),
                distance=int(alike.distance[start + k]),
                correlation=float(agreement[k]),
                mirrored=alike.mirrored,
            )


class _Details:
    """Details of images by row, the latest of them kept."""

    def __init__(self, paths: Sequence[str], pool: Executor) -> None:
        self._paths, self._pool = paths, pool
        self._kept: dict[int, np.ndarray] = {}

    def of(self, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Those of the rows ``a`` and of ``b``, float32 ``[m, 64, 64]`` each."""
        wanted = np.union1d(a, b).tolist()
        if len(self._kept) + len(wanted) > _DETAILS_KEPT:
            self._kept = {row: self._kept[row] for row in wanted if row in self._kept}
        absent = [row for row in wanted if row not in self._kept]
        self._kept |= zip(absent, self._pool.map(self._read, absent), strict=True)
        return np.stack([self._kept[row] for row in a]), np.stack([self._kept[row] for row in b])

    def _read(self, row: int) -> np.ndarray:
        path = self._paths[row]
        return phash.detail(decode(read_file(path), path))
