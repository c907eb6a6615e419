"""One piece of work, the same for all who do it, and what comes of it. No torch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from time import perf_counter
from typing import Any


@dataclass(frozen=True)
class Cell:
    """One training of the grid."""

    strategy: str
    lr: float

    @property
    def label(self) -> str:
        return f"{self.strategy} {self.lr:g}"


@dataclass(frozen=True)
class Work:
    """Everything that has to be equal for a comparison.

    ``data_path`` is a folder in CelebA's layout, ``weights`` a file or a tag. ``loader_workers`` are the
    processes of those who decode in a DataLoader; all others decode on ``threads`` threads.
    """

    data_path: str
    backbone: str
    weights: str
    strategies: tuple[str, ...]
    lrs: tuple[float, ...]
    epochs: int
    batch_size: int
    precision: str
    device: str
    threads: int
    loader_workers: int
    seed: int = 0
    dataset: str = "celeba"
    target: str = "Smiling"
    split: str = "official"

    @property
    def cells(self) -> tuple[Cell, ...]:
        return tuple(Cell(strategy, lr) for strategy in self.strategies for lr in self.lrs)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Work:
        values: dict[str, Any] = json.loads(text)
        return Work(**(values | {name: tuple(values[name]) for name in ("strategies", "lrs")}))


@dataclass(frozen=True)
class CellResult:
    """How a cell went: the mean training loss of each epoch, its accuracy on the test set at the end."""

    label: str
    train_loss: tuple[float, ...]
    val_accuracy: tuple[float, ...]
    test_accuracy: float


@dataclass(frozen=True)
class Outcome:
    """All cells, and the seconds of each phase (``decode``, ``prefix``; what is absent isn't known apart)."""

    cells: tuple[CellResult, ...]
    phases: Mapping[str, float]
    extra: Mapping[str, Any] = field(default_factory=dict)


class Phases:
    """A stopwatch with names; spans of one name add up."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Counts the span to ``name``. Work on a GPU has to be waited for inside the span."""
        began = perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + perf_counter() - began
