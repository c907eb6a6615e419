"""Test images worth looking at: mistakes of the best cell, and where another cell answers otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from harness.errors import UnknownName
from harness.heatmaps import HeatMaps, read_heatmaps
from reports.compare import best_cell
from reports.model import Answer, Cell, Example, Examples, Experiment, Gallery, Setting
from reports.predictions import read_predictions
from reports.record_types import Predictions

Kind = Literal["random", "confident", "fixed", "broken"]


@dataclass(frozen=True)
class Wanted:
    """How many images of each kind, the seed of the random ones, the cell to set the best one beside."""

    count: int
    seed: int
    against: str | None = None


@dataclass(frozen=True, eq=False)
class _Source:
    """A cell with its answers and what ``harness explain`` left of them."""

    cell: Cell
    predictions: Predictions
    heat: HeatMaps | None

    @property
    def right(self) -> np.ndarray:
        return self.predictions.label == self.predictions.prediction

    @property
    def sureness(self) -> np.ndarray:
        """The probability of the class that was named, ``[n]``."""
        p = self.predictions
        return p.probabilities[np.arange(len(p.label)), p.prediction]

    @property
    def truth(self) -> np.ndarray:
        """The probability of the true class, ``[n]``."""
        p = self.predictions
        return p.probabilities[np.arange(len(p.label)), p.label]


def find_examples(settings: Sequence[Setting], ranked_on: str, wanted: Wanted) -> Examples:
    """The images to show of ``settings`` (best first): at most ``wanted.count`` of each kind.

    The best cell is the first setting's that ranks first over seeds. Its mistakes are drawn at random,
    and sorted by the probability given to the wrong class. The cell that it is set beside is the one
    that ``wanted.against`` names, else the simplest baseline: of the cells that neither collapsed nor
    diverged, that which trains the fewest parameters, or the next in rank where the best cell trains
    the fewest itself. Of what one of the two gets right and the other wrong, those come first whose true
    class changed most in probability.
    """
    cell = best_cell(settings[0], ranked_on)
    named = _named(settings, cell, wanted.against) if wanted.against else []
    against = next(iter(named or _baseline(settings, cell)), None)
    best = _source(cell)
    wrong = np.flatnonzero(~best.right)
    drawn = np.random.Generator(np.random.PCG64(wanted.seed)).permutation(wrong)
    galleries = [_gallery("random", drawn, wanted, best)]
    if len(wrong) > wanted.count:  # else the first gallery holds all of them
        galleries.append(_gallery("confident", _by(-best.sureness, wrong), wanted, best))
    if against is not None:
        other = _source(against)
        change = best.truth - other.truth
        fixed = np.flatnonzero(best.right & ~other.right)
        broken = np.flatnonzero(~best.right & other.right)
        galleries.append(_gallery("fixed", _by(-change, fixed), wanted, best, other))
        galleries.append(_gallery("broken", _by(change, broken), wanted, best, other))
    return Examples(cell, against, len(wrong), wanted.seed, tuple(galleries))


def check_against(against: str | None, experiments: Iterable[Experiment]) -> None:
    """Raises UnknownName where no cell beside the best ones goes by the name ``against``."""
    experiments = tuple(experiments)
    if against is None or any(_named(e.settings, e.examples.cell, against) for e in experiments):
        return
    raise UnknownName(
        "cell to set the best one beside",
        against,
        {
            name
            for e in experiments
            for c in _others(e.settings, e.examples.cell)
            for name in (c.name, c.setting)
        },
    )


def _others(settings: Iterable[Setting], best: Cell) -> list[Cell]:
    """The cells tested on the same images, best setting first, of each that with the same seed first."""
    return [
        cell
        for setting in settings
        for cell in sorted(setting.cells, key=lambda c: c.seed != best.seed)
        if cell is not best and cell.images == best.images
    ]


def _named(settings: Sequence[Setting], best: Cell, name: str) -> list[Cell]:
    """Cells that ``name`` means: a number, a name, a run or its ten digits, a setting, a strategy."""
    meanings: tuple[Callable[[Cell], bool], ...] = (
        lambda c: name in (str(c.number), c.name, c.record.run) or c.record.run.endswith(f"_{name}"),
        lambda c: name == c.setting,
        lambda c: name in (c.record.spec.strategy, c.record.spec.strategy_name),
    )
    others = _others(settings, best)
    return next((found for means in meanings if (found := [c for c in others if means(c)])), [])


def _baseline(settings: Sequence[Setting], best: Cell) -> list[Cell]:
    others = [c for c in _others(settings, best) if c.setting != best.setting]
    sound = [c for c in others if c.verdict.kind not in ("collapsed", "diverged")] or others
    simpler = [c for c in sound if c.result.strategy.trainable < best.result.strategy.trainable]
    return sorted(simpler, key=lambda c: c.result.strategy.trainable) or sound


def _by(key: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return rows[np.argsort(key[rows], kind="stable")]


def _source(cell: Cell) -> _Source:
    return _Source(
        cell, read_predictions(cell.record), read_heatmaps(cell.record.folder, cell.result.digests)
    )


def _gallery(kind: Kind, rows: np.ndarray, wanted: Wanted, *sources: _Source) -> Gallery:
    p, data = sources[0].predictions, sources[0].cell.result.data
    shown = tuple(
        Example(
            name=p.ids[i],
            path=p.paths[i],
            root=data.path,
            label=data.class_names[p.label[i]],
            answers=tuple(_answer(source, int(i)) for source in sources),
        )
        for i in rows[: wanted.count]
    )
    return Gallery(kind, len(rows), shown)


def _answer(source: _Source, row: int) -> Answer:
    p, heat = source.predictions, source.heat
    return Answer(
        cell=source.cell,
        prediction=source.cell.result.data.class_names[p.prediction[row]],
        probability=float(p.probabilities[row, p.prediction[row]]),
        heat=heat.maps.get(p.ids[row]) if heat else None,
        stage=heat.stage if heat else "",
    )
