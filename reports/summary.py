"""Records to a report: groups, verdicts, intervals, comparisons, discussion."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.errors import UsageError
from reports.cells import make_cell
from reports.compare import best_and_worst, best_cell, compare, settings_of
from reports.costs import costs
from reports.discussion import discuss
from reports.examples import Wanted, check_against, find_examples
from reports.leaks import find_leaks
from reports.model import Cell, Experiment, ReportData, StrategyText
from reports.overlap import overlap
from reports.probabilities import probabilities
from reports.published import published_rows
from reports.published_ranges import published_ranges
from reports.record_types import Record, Result
from reports.slices import check_slices, find_slices
from reports.source_readings import source_readings
from reports.stability import stability
from reports.wording import banners, bare, cell_names, report_title, signature, strategy_name


def build_report(
    records: Iterable[Record],
    *,
    title: str | None = None,
    examples: int = 5,
    seed: int = 0,
    against: str | None = None,
    slices: Sequence[str] = (),
) -> ReportData:
    """What the report on ``records`` says.

    ``examples`` test images of each kind are shown for each best cell, the random ones chosen with
    ``seed``; ``against`` names the cell that it is set beside (:func:`reports.examples.find_examples`).
    ``slices`` names what to slice the test images by (:func:`reports.slices.find_slices`).
    Raises :class:`~harness.errors.UsageError` without any record or for an ``against`` or a slice that
    nothing is called, and :class:`~harness.errors.RecordError` for predictions that can't be read.
    """
    records = tuple(records)
    if not records:
        raise UsageError("there is no finished run to report on; make some: harness run --suite faces")
    if examples < 0:
        raise UsageError(f"--examples should be 0 or more, it is {examples}")
    wanted = _Wanted(Wanted(examples, seed, against), tuple(slices), [r for r in records if r.result is None])
    groups: dict[tuple[object, ...], list[tuple[Record, Result]]] = {}
    for record in records:
        if record.result is not None:
            groups.setdefault(_key(record, record.result), []).append((record, record.result))
    experiments: list[Experiment] = []
    for group in groups.values():
        taken = sum(len(e.cells) for e in experiments)
        experiments.append(_experiment(len(experiments) + 1, taken, _in_order(group), wanted))
    check_against(against, experiments)
    check_slices(slices, experiments)
    return ReportData(
        title=report_title(title, experiments),
        banners=banners(experiments),
        experiments=tuple(experiments),
        failed=tuple(wanted.failed),
        signature=signature(records, experiments, examples, seed),
    )


@dataclass(frozen=True)
class _Wanted:
    """What was asked of a report, and the runs that failed."""

    examples: Wanted
    slices: tuple[str, ...]
    failed: list[Record]


def _key(record: Record, result: Result) -> tuple[object, ...]:
    """What runs must share to be compared: data, split, backbone, head and weights."""
    spec, digests = record.spec, result.digests
    return (
        spec.data, spec.target, spec.split, spec.group, digests.get("data"), digests.get("split"),
        result.data.class_names, result.backbone.name, spec.head, spec.weights,
    )  # fmt: skip


def _in_order(group: Sequence[tuple[Record, Result]]) -> Sequence[tuple[Record, Result]]:
    """By strategy, as they came; within one the largest learning rate first, as in the original's table."""
    came = list(dict.fromkeys(strategy_name(result.strategy) for _, result in group))
    return sorted(
        group, key=lambda run: (came.index(strategy_name(run[1].strategy)), -run[0].spec.lr, run[0].spec.seed)
    )


def _experiment(
    number: int, taken: int, group: Sequence[tuple[Record, Result]], wanted: _Wanted
) -> Experiment:
    record, result = group[0]
    cells = tuple(
        make_cell(taken + i, name, setting, r, found)
        for i, ((r, found), (name, setting)) in enumerate(zip(group, cell_names(group), strict=True), start=1)
    )
    settings, ranked_on = settings_of(cells)
    comparisons = compare(settings)
    best_cells = tuple(best_cell(setting, ranked_on) for setting in settings)
    published = published_rows(cells)
    leaks = find_leaks(cells)
    shared = [k for k, v in record.spec.train.items() if all(r.spec.train.get(k) == v for r, _ in group)]
    target = record.spec.target
    return Experiment(
        number=number,
        heading=f"{result.data.card.title}{f', {target}' if target else ''}: {bare(result.backbone.name)}",
        target=target,
        data=result.data,
        cells=cells,
        settings=settings,
        best_cells=best_cells,
        ranked_on=ranked_on,
        comparisons=comparisons,
        standing=best_and_worst(settings, comparisons),
        discussion=discuss(
            settings,
            ranked_on,
            comparisons,
            embedded=result.data.card.embedded,
            missing=result.data.missing,
            leaks=leaks,
        ),
        examples=find_examples(settings, ranked_on, wanted.examples),
        stability=stability(cells, wanted.failed),
        costs=costs(settings),
        probabilities=probabilities(best_cells),
        overlap=overlap(settings, best_cells),
        slices=find_slices(best_cells[0], wanted.slices),
        published=published,
        ranges=published_ranges(published),
        readings=source_readings(published),
        leaks=leaks,
        strategies=_strategies(cells),
        train=tuple((key.replace("_", " "), record.spec.train[key]) for key in shared),
    )


def _strategies(cells: Sequence[Cell]) -> tuple[StrategyText, ...]:
    texts = {}
    for cell in cells:
        name, strategy = strategy_name(cell.result.strategy), cell.result.strategy
        stages = [s for s in cell.result.backbone.stages if s.parameters]
        texts[name] = StrategyText(
            name=name,
            summary=strategy.summary,
            source=strategy.source,
            trained=tuple(s.name for s in stages if s.lr_scale is not None),
            frozen=tuple(s.name for s in stages if s.lr_scale is None),
            random=cell.result.backbone.random_stages,
        )
    return tuple(texts.values())
