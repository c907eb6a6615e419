"""What a report says, as plain values: no HTML, no figures, no files.

:func:`reports.summary.build_report` makes a :class:`ReportData`; :mod:`reports.figures` and
:mod:`reports.render` draw and write it. Shares are fractions, times seconds, losses nats.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from harness.heatmaps import HeatMap
from harness.stats import Interval
from harness.suites import Reference
from reports.findings import Costs, Overlap, Probabilities, ProbabilityScores, Slices, StabilityMap
from reports.outcomes import BestWorst, Comparison, Outcome, Setting, Statement
from reports.record_types import DataFacts, Record, Result


@dataclass(frozen=True, eq=False)
class Cell(Outcome):
    """One run that ended well. ``number`` counts from 1 through the whole report.

    ``probabilities`` is ``None`` where they are not finite numbers.
    """

    number: int
    record: Record
    result: Result
    correct: np.ndarray
    images: str
    probabilities: ProbabilityScores | None


@dataclass(frozen=True, eq=False)
class Answer:
    """The class that a cell takes an image for, and the probability it gives that class.

    ``heat`` shows what in the image spoke for it, where ``harness explain`` has been run; it was read
    from the activations of ``stage``.
    """

    cell: Cell
    prediction: str
    probability: float
    heat: HeatMap | None = None
    stage: str = ""


@dataclass(frozen=True, eq=False)
class Example:
    """A test image with the answers of one cell or of two; ``path`` is where its run read it."""

    name: str
    path: str
    root: str | None
    label: str
    answers: tuple[Answer, ...]


@dataclass(frozen=True, eq=False)
class Gallery:
    """Test images of one kind: ``shown`` out of ``total``.

    ``random`` and ``confident`` are mistakes of the best cell; ``fixed`` are those of another cell that
    the best one gets right, ``broken`` those of the best cell that the other gets right.
    """

    kind: Literal["random", "confident", "fixed", "broken"]
    total: int
    shown: tuple[Example, ...]


@dataclass(frozen=True, eq=False)
class Examples:
    """What the best cell gets wrong, and what it does otherwise than the cell ``against``."""

    cell: Cell
    against: Cell | None
    mistakes: int
    seed: int
    galleries: tuple[Gallery, ...]


@dataclass(frozen=True)
class PublishedRow:
    """A published cell beside ours. ``interval`` of the difference needs the source's test size.

    ``differs`` lists in what our run differs; ``same_data`` is whether the data are not among it.
    ``contradictions`` are sums of the source that don't add up.
    """

    reference: Reference
    cell: Cell
    difference: float
    interval: Interval | None
    same_data: bool
    differs: tuple[str, ...]
    contradictions: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class PublishedRange:
    """Our cell beside all that was published for it by ``sources`` sources.

    ``low`` and ``high`` are the least and the largest figure of networks that learned something, ``None``
    where none did; ``collapsed`` is the majority share, where a source collapsed to it: either is a
    legitimate outcome. ``place`` says where ours lies; ``applies`` is false where the data are others.
    """

    cell: Cell
    sources: int
    low: float | None
    high: float | None
    collapsed: float | None
    place: Literal["inside", "inside, given its interval", "outside"]
    applies: bool


@dataclass(frozen=True, eq=False)
class SourceReading:
    """What the confusion matrices that one source prints support, by the same rules as our own."""

    source: str
    comparisons: tuple[Comparison, ...]
    discussion: tuple[Statement, ...]


@dataclass(frozen=True)
class Subset:
    """A cell on some of its test images: ``right`` of ``n``. ``interval`` is ``None`` where ``n`` is 0."""

    n: int
    right: int
    interval: Interval | None

    @property
    def accuracy(self) -> float | None:
        return self.right / self.n if self.n else None


@dataclass(frozen=True, eq=False)
class LeakRow:
    """A cell on the test images that have a copy in training, on the others, and on those of new groups.

    ``new_groups`` is ``None`` where the data hold no groups.
    """

    cell: Cell
    copies: Subset
    without_copies: Subset
    new_groups: Subset | None


@dataclass(frozen=True, eq=False)
class Leaks:
    """How many of ``n`` test images training has seen, and what the cells reach without them.

    ``exact`` counts those whose bytes are in training, ``near`` the others whose picture is (``None``:
    nobody looked, else by ``method``), ``copies`` both; ``groups`` those whose group has training
    images. With ``clustered`` the intervals are those of the cluster bootstrap, else Wilson's.
    ``reading`` says in sentences what follows.
    """

    n: int
    exact: int
    near: int | None
    copies: int
    groups: int | None
    method: str
    clustered: bool
    rows: tuple[LeakRow, ...]
    reading: tuple[str, ...]


@dataclass(frozen=True)
class StrategyText:
    """A strategy: what it trains, what it leaves alone, what started at random, where it comes from."""

    name: str
    summary: str
    source: str
    trained: tuple[str, ...]
    frozen: tuple[str, ...]
    random: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Experiment:
    """The runs that share data, split, backbone, head and weights, and so can be compared.

    ``train`` holds the training options that all its cells share, ``best_cells`` the best cell of each
    setting. What there is nothing to say of is ``None``: the stability map of one learning rate, the overlap
    of one cell, the slices of images without attributes, the leaks where no record says what training has
    seen.
    """

    number: int
    heading: str
    target: str | None
    data: DataFacts
    cells: tuple[Cell, ...]
    settings: tuple[Setting[Cell], ...]
    best_cells: tuple[Cell, ...]
    ranked_on: Literal["validation", "test"]
    comparisons: tuple[Comparison, ...]
    standing: BestWorst
    discussion: tuple[Statement, ...]
    examples: Examples
    stability: StabilityMap | None
    costs: Costs
    probabilities: Probabilities
    overlap: Overlap | None
    slices: Slices | None
    published: tuple[PublishedRow, ...]
    ranges: tuple[PublishedRange, ...]
    readings: tuple[SourceReading, ...]
    leaks: Leaks | None
    strategies: tuple[StrategyText, ...]
    train: tuple[tuple[str, str], ...]

    @property
    def first(self) -> Result:
        """The result that stands for what all cells share."""
        return self.cells[0].result

    @property
    def best(self) -> Setting[Cell]:
        return self.settings[0]


@dataclass(frozen=True)
class Banner:
    """A warning above everything else, with a command where there is one."""

    text: str
    command: str = ""


@dataclass(frozen=True, eq=False)
class ReportData:
    """A whole report."""

    title: str
    banners: tuple[Banner, ...]
    experiments: tuple[Experiment, ...]
    failed: tuple[Record, ...]
    signature: str

    @property
    def redistributable(self) -> bool:
        """Whether images of all the data may be passed on."""
        return all(e.data.card.redistributable for e in self.experiments)

    @property
    def cells(self) -> tuple[Cell, ...]:
        return tuple(cell for e in self.experiments for cell in e.cells)

    @property
    def shared_environment(self) -> dict[str, str]:
        """Versions, device and thread count, as far as they are the same for all cells."""
        found = [dict(cell.record.environment) for cell in self.cells]
        return {k: v for k, v in found[0].items() if all(e.get(k) == v for e in found)} if found else {}
