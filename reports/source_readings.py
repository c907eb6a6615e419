"""Published confusion matrices as outcomes: discussed by the rules that hold for our own runs.

A source that prints counts and nothing else has no validation figures (it is ranked on test) and no
predictions (its cells can't be paired, and are compared as if their images were others).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from harness.stats import ALPHA, unpaired_z, wilson
from harness.suites import Reference
from harness.verdicts import judge
from reports.compare import compare, settings_of
from reports.discussion import discuss
from reports.formats import p_value, percent, rate
from reports.model import PublishedRow, SourceReading
from reports.outcomes import Comparison, Outcome, Statement
from reports.published import class_figures, contradictions
from reports.record_types import ClassScores, Scores


def source_readings(rows: Iterable[PublishedRow]) -> tuple[SourceReading, ...]:
    """A reading of each source with at least two confusion matrices among ``rows``."""
    by_source: dict[str, dict[int, Reference]] = {}
    for row in rows:
        if row.reference.confusion is not None:
            by_source.setdefault(row.reference.source, {})[id(row.reference)] = row.reference
    return tuple(read_source(list(found.values())) for found in by_source.values() if len(found) > 1)


def read_source(references: Sequence[Reference]) -> SourceReading:
    """The discussion of one source's cells, each with its confusion matrix."""
    outcomes = [outcome(reference) for reference in references]
    settings, ranked_on = settings_of(outcomes)
    comparisons = compare(settings)
    by_name = {o.name: r for o, r in zip(outcomes, references, strict=True)}
    statements = discuss(settings, ranked_on, comparisons)
    stated = [text for c in comparisons if (text := _as_stated(c, by_name)) is not None]
    return SourceReading(
        source=references[0].source,
        comparisons=comparisons,
        discussion=(
            *(text for text in statements if text.kind != "caveat"),
            *stated,
            *(text for text in statements if text.kind == "caveat"),
        ),
    )


def outcome(reference: Reference) -> Outcome:
    """A published cell as an outcome; raises ``ValueError`` without a confusion matrix."""
    matrix = reference.confusion
    if matrix is None:
        raise ValueError(f"{reference.source} prints no confusion matrix")
    support = [sum(row) for row in matrix]
    names = [c.name for c in reference.per_class] or [f"class {i + 1}" for i in range(len(matrix))]
    figures = [class_figures(matrix, i) for i in range(len(matrix))]
    right, n = sum(row[i] for i, row in enumerate(matrix)), sum(support)
    name = f"{reference.strategy}, lr {rate(reference.lr)}"
    return Outcome(
        name=name,
        setting=name,
        seed=0,
        test=Scores(
            n=n,
            loss=None,
            accuracy=right / n,
            balanced_accuracy=sum(recall for _, recall, _ in figures) / len(figures),
            macro_f1=sum(f1 for _, _, f1 in figures) / len(figures),
            per_class=tuple(
                ClassScores(names[i], *figures[i], support[i], matrix[i][i], support[i] - matrix[i][i])
                for i in range(len(matrix))
            ),
            confusion=matrix,
        ),
        val_accuracy=None,
        interval=wilson(right, n),
        verdict=judge(
            train_loss=(), val_loss=(), confusion=matrix, class_names=names, train_counts=support
        ),
        correct=None,
        images=None,
        groups=None,
        group_interval=None,
    )  # fmt: skip


def _as_stated(c: Comparison, references: Mapping[str, Reference]) -> Statement | None:
    """A comparison by the accuracies that the source states, where its counts contradict them.

    ``None`` where that leaves a supported difference supported.
    """
    a, b = references[c.first.name], references[c.second.name]
    if not any(any(contradictions(r)) for r in (a, b)):
        return None
    found = unpaired_z(a.accuracy, c.n, b.accuracy, c.n)
    apart = found.p < ALPHA
    if apart and c.supported:
        return None
    ending = (
        "would tell them apart"
        if apart
        else "wouldn't tell them apart"
        if c.supported
        else "doesn't tell them apart either"
    )
    return Statement(
        "equal",
        f"The source states {percent(a.accuracy)} for {c.first.name} and {percent(b.accuracy)} for "
        f"{c.second.name}, which isn't what its counts give. A test of the stated figures {ending}: unpaired "
        f"z {abs(found.z):.2f}, {p_value(found.p)}.",
    )
