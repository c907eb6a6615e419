"""What a tracker gets to see of a run: plain figures, names and times, taken from its folder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_CLOSE = 1e-5  # relative; a store may keep no more than single precision


@dataclass(frozen=True)
class TrackedEpoch:
    """A row of ``history.jsonl``: its numbers, by name (what wasn't finite is NaN), and when it ended
    (seconds since 1970).
    """

    epoch: int
    at: float
    figures: Mapping[str, float]


@dataclass(frozen=True)
class TrackedEnd:
    """A record: ``done`` or ``failed``, with its final figures (none where it failed).

    ``digest`` is the beginning of the sha256 of ``result.json``, 16 hex digits; ``confusion`` has a row a
    true class and a column a predicted one; ``files`` are those of the folder that name no image.
    """

    digest: str
    status: str
    at: float
    figures: Mapping[str, float]
    tags: Mapping[str, str]
    class_names: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    files: tuple[Path, ...]


@dataclass(frozen=True)
class TrackedRun:
    """A run: its name, when it began (seconds since 1970), what was asked for, flat (``train.epochs``)."""

    name: str
    started: float
    params: Mapping[str, str | int | float | bool]


@dataclass(frozen=True)
class Held:
    """What a store has under ``key``: figures by epoch, and the record's digest once the run has ended."""

    key: str
    epochs: Mapping[int, Mapping[str, float]]
    digest: str = ""

    def begins(self, epochs: Sequence[TrackedEpoch]) -> bool:
        """Whether it is the same training, as far as both go; times aside, which no two trainings share."""
        return all(
            _same(value, self.epochs[row.epoch][name])
            for row in epochs
            if row.epoch in self.epochs
            for name, value in row.figures.items()
            if name != "seconds" and name in self.epochs[row.epoch]
        )


def _same(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=_CLOSE) or (math.isnan(a) and math.isnan(b))
