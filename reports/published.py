"""Published figures beside our own, and whether a source's own figures add up."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from harness.stats import Interval, newcombe_difference
from harness.suites import Reference, Suite, builtin_suites, load_suite
from reports.fields import shown
from reports.formats import count, percent, plural, rate
from reports.model import Cell, PublishedRow
from reports.wording import bare

# Published accuracies have four decimals, per-class figures two: half a unit of the last is rounding.
ROUNDED_ACCURACY = 0.5e-4
ROUNDED_CLASS = 0.5e-2


def published_rows(cells: Iterable[Cell]) -> tuple[PublishedRow, ...]:
    """The references of the built-in suites that match a cell's target, backbone, strategy and rate."""
    suites = [load_suite(name) for name in builtin_suites()]
    return tuple(
        _row(suite, reference, cell)
        for cell in cells
        for suite in suites
        for reference in suite.references
        if _matches(reference, cell)
    )


def _matches(reference: Reference, cell: Cell) -> bool:
    spec, strategy = cell.record.spec, cell.result.strategy
    ours = {strategy.name, spec.strategy, spec.strategy_name}
    return (
        reference.target == spec.target
        and bare(reference.backbone) == bare(cell.result.backbone.name)
        and reference.strategy in ours
        and math.isclose(reference.lr, spec.lr, rel_tol=1e-6)
    )


def _row(suite: Suite, reference: Reference, cell: Cell) -> PublishedRow:
    data = _data_differences(suite, cell)
    ours = cell.test
    difference: Interval | None = None
    if reference.n is not None:
        stated = round(reference.accuracy * reference.n)
        difference = newcombe_difference(ours.right, ours.n, stated, reference.n)
    return PublishedRow(
        reference=reference,
        cell=cell,
        difference=ours.accuracy - reference.accuracy,
        interval=difference,
        same_data=not data,
        differs=(*data, *_recipe_differences(suite, cell)),
        contradictions=tuple(contradictions(reference)),
    )


def _data_differences(suite: Suite, cell: Cell) -> list[str]:
    """Why our data aren't those of the suite; empty where they are."""
    spec, facts = cell.record.spec, cell.result.data
    found = []
    if cell.record.suite != suite.name:
        found.append(f"not run as suite {suite.name}")
    if spec.data != suite.data.name:
        found.append(f"data {spec.data} instead of {suite.data.name}")
    if spec.split != suite.data.split or spec.group is not None:
        found.append(f"another split ({spec.split}{', by ' + spec.group if spec.group else ''})")
    if spec.limit is not None:
        found.append(f"limited to {plural(spec.limit, 'image')}")
    if facts.missing:
        found.append(f"{plural(facts.missing, 'listed image')} missing")
    return found


def _recipe_differences(suite: Suite, cell: Cell) -> list[str]:
    """Training options in which our run leaves the suite's recipe."""
    ours = cell.record.spec.train
    found = [
        f"{key.replace('_', ' ')} {ours[key]} instead of {shown(wanted)}"
        for key, wanted in suite.train.items()
        if key in ours and ours[key] != shown(wanted)
    ]
    if suite.grid.weights and cell.record.spec.weights != suite.grid.weights:
        found.append(f"weights {cell.record.spec.weights} instead of {suite.grid.weights}")
    if cell.record.spec.head not in suite.grid.heads:
        found.append(f"head {cell.record.spec.head}")
    return found


def contradictions(reference: Reference) -> Iterator[str]:
    """Sums of a source that don't give its own figures, one sentence each."""
    matrix = reference.confusion
    if matrix is None:
        return
    total, right = sum(map(sum, matrix)), sum(row[i] for i, row in enumerate(matrix))
    where = f"{reference.source}, {reference.strategy} at {rate(reference.lr)}"
    if reference.n is not None and total != reference.n:
        yield f"{where}: its counts are of {count(total)} images, its text says {count(reference.n)}."
    if abs(right / total - reference.accuracy) > ROUNDED_ACCURACY + 1e-9:
        yield (
            f"{where}: its counts give {percent(right / total)} ({count(right)} of {count(total)} right), "
            f"its text says {percent(reference.accuracy)}."
        )
    for i, published in enumerate(reference.per_class[: len(matrix)]):
        for name, stated, counted in zip(
            ("precision", "recall", "F1"),
            (published.precision, published.recall, published.f1),
            class_figures(matrix, i),
            strict=True,
        ):
            if abs(counted - stated) > ROUNDED_CLASS + 1e-9:
                yield (
                    f"{where}: its counts give {published.name} a {name} of {counted:.3f}, "
                    f"its text says {stated:.2f}."
                )


def class_figures(matrix: Sequence[Sequence[int]], i: int) -> tuple[float, float, float]:
    """Precision, recall and F1 of class ``i``; 0 where nothing was predicted, as sources print it."""
    hit, called, real = matrix[i][i], sum(row[i] for row in matrix), sum(matrix[i])
    precision, recall = hit / called if called else 0.0, hit / real if real else 0.0
    both = precision + recall
    return precision, recall, 2 * precision * recall / both if both else 0.0
