"""The discussion, written from the data: it says what the figures support and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from math import hypot
from statistics import NormalDist

from harness.stats import ALPHA
from reports.caveats import caveats
from reports.compare import best_and_worst, relation
from reports.formats import interval, listing, p_value, percent
from reports.model import Leaks
from reports.outcomes import BestWorst, Comparison, Setting, Statement
from reports.phrases import evidence, figure

# Pairs that the test set can't tell apart are listed up to this many; the table holds them all.
MOST_EQUAL = 10


def discuss(
    settings: Sequence[Setting],
    ranked_on: str,
    comparisons: Sequence[Comparison],
    *,
    embedded: bool = False,
    missing: int = 0,
    leaks: Leaks | None = None,
) -> tuple[Statement, ...]:
    """The statements about one experiment; ``settings`` are ordered best first.

    ``embedded`` says that the data are the sample that comes with the program, ``missing`` how many
    listed images were absent, ``leaks`` what training has seen of the test images.
    """
    standing = best_and_worst(settings, comparisons)
    return (
        *_best(settings, ranked_on, comparisons, standing),
        *_worst(settings, ranked_on, comparisons, standing),
        *_collapsed(settings),
        *_equal(settings, comparisons, standing),
        *_verdicts(settings),
        *caveats(settings, ranked_on, comparisons, embedded=embedded, missing=missing, leaks=leaks),
    )


def _best(
    settings: Sequence[Setting], ranked_on: str, rows: Sequence[Comparison], standing: BestWorst
) -> Iterator[Statement]:
    first, others = settings[0], settings[1:]
    if not others:
        yield Statement("best", f"One cell, {first.name}: {figure(first)}. There is nothing to compare.")
        return
    found: dict[str, list[Setting]] = {"first": [], "second": [], "neither": [], "unknown": []}
    for other in others:
        found[relation(rows, first, other)].append(other)
    by = _ranking(first, ranked_on)
    if standing.best[1:]:
        text = [
            f"Best group: {listing(standing.best)}. {first.name} ranks first by {by} and reaches "
            f"{figure(first)} on the test images, which don't tell it from "
            f"{'the other' if len(standing.best) == 2 else 'the others'} of the group.",
        ]
    elif standing.best and found["first"]:
        text = [f"Best by {by}: {first.name}. On the test images it reaches {figure(first)}."]
    else:
        text = [f"First by {by}: {first.name}. On the test images it reaches {figure(first)}."]
    if found["first"]:
        gaps = [f"{s.name} (by {_gap(first, s)} points)" for s in found["first"]]
        worst_p = max(c.adjusted for c in rows for s in found["first"] if _is(c, first, s))
        text.append(f"The test confirms that it is better than {listing(gaps)}; corrected {p_value(worst_p)}"
                    f"{' or less' if len(gaps) > 1 and worst_p >= 1e-4 else ''}.")  # fmt: skip
    if standing.best[1:]:
        text += (*_collapsed_in_group(settings, standing.best), *_far_in_group(settings, standing.best))
    if found["second"]:
        text.append(
            f"The test contradicts the ranking, so that no best is named: "
            f"{listing([s.name for s in found['second']])} "
            f"{'is' if len(found['second']) == 1 else 'are'} right more often on the test images."
        )
        if found["neither"]:
            text.append(f"Not told from {first.name}: {listing([s.name for s in found['neither']])}.")
    if found["unknown"]:
        text.append(f"Not tested on the same images: {listing([s.name for s in found['unknown']])}.")
    yield Statement("best", " ".join(text))


def _collapsed_in_group(settings: Sequence[Setting], best: Sequence[str]) -> Iterator[str]:
    """A group of leaders may hold a setting that collapsed with some seeds: its mean is hardly known."""
    fallen = [s for s in settings if s.name in best and s.collapsed]
    alone = [s.name for s in fallen if len(s.cells) == 1]
    several = [f"{s.name} with {s.collapsed} of {len(s.cells)} seeds" for s in fallen if len(s.cells) > 1]
    if alone:
        whose = "its accuracy says" if len(alone) == 1 else "their accuracies say"
        yield f"Of the group collapsed: {listing(alone)}; {whose} only how common the classes are."
    if several:
        whose = "its mean is" if len(several) == 1 else "their means are"
        yield f"Of the group collapsed: {listing(several)}, so that {whose} hardly known."


def _far_in_group(settings: Sequence[Setting], best: Sequence[str]) -> Iterator[str]:
    """Those of the leaders that are there for want of seeds: other test images alone wouldn't close the gap.

    The errors that images add to the two means are taken as independent, which is too careful for the same
    images. Those that collapsed have a sentence of their own.
    """
    first, far = settings[0], []
    for s in settings[1:]:
        if s.name not in best or s.collapsed or not (first.over_seeds and s.over_seeds):
            continue
        se = hypot(first.over_seeds.se_images, s.over_seeds.se_images)
        if first.accuracy.mean - s.accuracy.mean > NormalDist().inv_cdf(1 - ALPHA / 2) * se:
            far.append(s)
    if far:
        are, stay = ("is", "it stays") if len(far) == 1 else ("are", "they stay")
        few, many = (pick(len(s.cells) for s in (first, *far)) for pick in (min, max))
        seeds = f"{few} seeds each" if few == many else f"{few} to {many} seeds"
        gaps = listing([f"{s.name} (by {_gap(first, s)} points)" for s in far])
        yield (
            f"Further behind the first than the choice of test images explains {are} {gaps}; {stay} in the "
            f"group because {seeds} can't rule out chance between seeds. More (--seed) would tell."
        )


def _worst(
    settings: Sequence[Setting], ranked_on: str, rows: Sequence[Comparison], standing: BestWorst
) -> Iterator[Statement]:
    if len(settings) < 2:
        return
    first, last = settings[0], settings[-1]
    if not standing.worst:
        if relation(rows, first, last) in ("neither", "unknown"):
            yield Statement(
                "worst",
                f"{last.name} ranks last by {_ranking(last, ranked_on)} and reaches {figure(last)} on the "
                "test images, but no test shows it to be worse than the first.",
            )
        return
    by, gap = _ranking(last, ranked_on), _gap(first, last)
    if len(standing.worst) == 1:
        text = f"Worst by {by}: {last.name} with {figure(last)}, {gap} points below the first."
    else:
        text = (
            f"Worst group: {listing(standing.worst)}, which the test images don't tell from {last.name}; "
            f"that one ranks last by {by} and reaches {figure(last)}, {gap} points below the first."
        )
        both = [name for name in standing.worst if name in standing.best]
        if both:
            are, them = ("is", "it") if len(both) == 1 else ("are", "them")
            text += f" {listing(both)} {are} in both groups: the test tells {them} from neither end."
    yield Statement("worst", text)


def _collapsed(settings: Sequence[Setting]) -> Iterator[Statement]:
    for setting in settings:
        fallen = [c for c in setting.cells if c.verdict.kind == "collapsed"]
        if not fallen:
            continue
        whole = len(setting.cells)
        how = "collapsed"
        if whole > 1:
            share = interval(setting.collapse_interval)
            how += f" with {len(fallen)} of {whole} seeds (95 % interval {share} %)"
        text = f"{setting.name} {how}. {fallen[0].verdict.evidence} Its accuracy says only how common "
        text += "the classes are"
        best = settings[0]
        text += (
            f"; it lies {_gap(best, setting)} points below the first." if best is not setting and whole == 1
            else "."
        )  # fmt: skip
        yield Statement("collapsed", f"{text} {fallen[0].verdict.advice}")


def _equal(
    settings: Sequence[Setting], rows: Sequence[Comparison], standing: BestWorst
) -> Iterator[Statement]:
    """The pairs that the test can't tell apart, but for those that the groups name already."""
    named = {*standing.best[:1], *standing.worst[-1:]}
    pairs = [c for c in rows if not c.supported and not {c.first.name, c.second.name} & named]
    for c in pairs[:MOST_EQUAL]:
        yield Statement(
            "equal",
            f"{c.first.name} and {c.second.name} are not distinguishable: "
            f"{percent(c.first.accuracy.mean)} and {percent(c.second.accuracy.mean)}"
            f"{'' if max(c.seeds) == 1 else ' on average'}. {evidence(c)}",
        )
    if len(pairs) > MOST_EQUAL:
        more = len(pairs) - MOST_EQUAL
        yield Statement("equal", f"{more} more such pairs are in the table of comparisons.")


def _verdicts(settings: Sequence[Setting]) -> Iterator[Statement]:
    """Those but collapsed and healthy ones, with how many of the seeds have it."""
    for setting in settings:
        kinds = Counter(c.verdict.kind for c in setting.cells)
        for kind in ("diverged", "underfitting", "overfitting"):
            cell = next((c for c in setting.cells if c.verdict.kind == kind), None)
            if cell is None:
                continue
            rate = "" if len(setting.cells) == 1 else f" with {kinds[kind]} of {len(setting.cells)} seeds"
            name = {"diverged": "diverged", "underfitting": "underfits", "overfitting": "overfits"}[kind]
            yield Statement(
                "verdict", f"{setting.name} {name}{rate}. {cell.verdict.evidence} {cell.verdict.advice}"
            )


def _is(c: Comparison, a: Setting, b: Setting) -> bool:
    return {c.first.name, c.second.name} == {a.name, b.name}


def _ranking(setting: Setting, ranked_on: str) -> str:
    if ranked_on == "validation" and setting.val_accuracy:
        return f"validation accuracy ({percent(setting.val_accuracy.mean)})"
    return "test accuracy"


def _gap(better: Setting, worse: Setting) -> str:
    return f"{100 * (better.accuracy.mean - worse.accuracy.mean):.2f}".replace("-", "−")
