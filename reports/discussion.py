"""The discussion, written from the data: it says what the figures support and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations

from harness.stats import LEVEL, Spread, wilson
from reports.compare import relation
from reports.formats import count, interval, listing, p_value, percent, plural
from reports.model import Comparison, Setting, Statement
from reports.record_types import DataFacts

# Pairs that the test set can't tell apart are listed up to this many; the table holds them all.
MOST_EQUAL = 10


def discuss(
    settings: Sequence[Setting], ranked_on: str, comparisons: Sequence[Comparison], data: DataFacts
) -> tuple[Statement, ...]:
    """The statements about one experiment; ``settings`` are ordered best first."""
    return (
        *_best(settings, ranked_on, comparisons),
        *_worst(settings, ranked_on, comparisons),
        *_collapsed(settings),
        *_equal(settings, comparisons),
        *_verdicts(settings),
        *_caveats(settings, ranked_on, comparisons, data),
    )


def _best(settings: Sequence[Setting], ranked_on: str, rows: Sequence[Comparison]) -> Iterator[Statement]:
    best, others = settings[0], settings[1:]
    if not others:
        yield Statement("best", f"One cell, {best.name}: {_figure(best)}. There is nothing to compare.")
        return
    by = _ranking(best, ranked_on)
    text = [f"Best by {by}: {best.name}. On the test images it reaches {_figure(best)}."]
    found: dict[str, list[Setting]] = {"first": [], "second": [], "neither": [], "unknown": []}
    for other in others:
        found[relation(rows, best, other)].append(other)
    if found["first"]:
        gaps = [f"{s.name} (by {_gap(best, s)} points)" for s in found["first"]]
        worst_p = max(c.adjusted for c in rows for s in found["first"] if _is(c, best, s))
        text.append(f"The test confirms that it is better than {listing(gaps)}; corrected {p_value(worst_p)}"
                    f"{' or less' if len(gaps) > 1 and worst_p >= 1e-4 else ''}.")  # fmt: skip
    if found["second"]:
        text.append(
            f"The test contradicts the ranking: {listing([s.name for s in found['second']])} "
            f"{'is' if len(found['second']) == 1 else 'are'} right more often on the test images."
        )
    if found["neither"]:
        names = listing([s.name for s in found["neither"]])
        text.append(f"Not distinguishable from it on these images: {names}.")
    if found["unknown"]:
        text.append(f"Not tested on the same images: {listing([s.name for s in found['unknown']])}.")
    yield Statement("best", " ".join(text))


def _worst(settings: Sequence[Setting], ranked_on: str, rows: Sequence[Comparison]) -> Iterator[Statement]:
    if len(settings) < 2:
        return
    best, worst = settings[0], settings[-1]
    if relation(rows, best, worst) in ("neither", "unknown"):
        yield Statement(
            "worst",
            f"{worst.name} ranks last by {_ranking(worst, ranked_on)} and reaches {_figure(worst)} on the "
            "test images, but no test shows it to be worse than the best.",
        )
        return
    others = [s for s in settings[1:-1] if relation(rows, s, worst) == "neither"]
    gap = _gap(best, worst)
    text = f"Worst by {_ranking(worst, ranked_on)}: {worst.name} with {_figure(worst)}, "
    below = not gap.startswith("−")
    text += f"{gap} points below the best." if below else "yet above the best on the test images."
    if others:
        text += f" Not distinguishable from it on these images: {listing([s.name for s in others])}."
    yield Statement("worst", text)


def _collapsed(settings: Sequence[Setting]) -> Iterator[Statement]:
    for setting in settings:
        fallen = [c for c in setting.cells if c.verdict.kind == "collapsed"]
        if not fallen:
            continue
        whole = len(setting.cells)
        how = "collapsed" if whole == 1 else f"collapsed with {len(fallen)} of {plural(whole, 'seed')}"
        text = f"{setting.name} {how}. {fallen[0].verdict.evidence} Its accuracy says only how common "
        text += "the classes are"
        best = settings[0]
        text += (
            f"; it lies {_gap(best, setting)} points below the best." if best is not setting and whole == 1
            else "."
        )  # fmt: skip
        yield Statement("collapsed", text)


def _equal(settings: Sequence[Setting], rows: Sequence[Comparison]) -> Iterator[Statement]:
    """The pairs that the test can't tell apart and that no statement above has named."""
    pairs = [
        (a, b) for a, b in combinations(settings[1:], 2)
        if relation(rows, a, b) == "neither"
    ]  # fmt: skip
    for a, b in pairs[:MOST_EQUAL]:
        found = [c for c in rows if _is(c, a, b)]
        c = min(found, key=lambda c: c.adjusted)
        seeds = "" if len(found) == 1 else f" with seed {c.first.seed}"
        yield Statement(
            "equal",
            f"{a.name} and {b.name} are not distinguishable: {percent(a.accuracy.mean)} and "
            f"{percent(b.accuracy.mean)}{seeds and ' on average'}. Of {count(c.n)} images{seeds} the "
            f"first alone is right on {count(c.only_first)}, the second alone on {count(c.only_second)}; "
            f"exact McNemar {p_value(c.p)}, corrected {p_value(c.adjusted)}.",
        )
    if len(pairs) > MOST_EQUAL:
        more = len(pairs) - MOST_EQUAL
        yield Statement("equal", f"{more} more such pairs are in the table of comparisons.")


def _verdicts(settings: Sequence[Setting]) -> Iterator[Statement]:
    for setting in settings:
        kinds = Counter(c.verdict.kind for c in setting.cells)
        for kind in ("diverged", "underfitting", "overfitting"):
            cell = next((c for c in setting.cells if c.verdict.kind == kind), None)
            if cell is None:
                continue
            rate = "" if len(setting.cells) == 1 else f" with {kinds[kind]} of {len(setting.cells)} seeds"
            name = {"diverged": "diverged", "underfitting": "underfits", "overfitting": "overfits"}[kind]
            yield Statement("verdict", f"{setting.name} {name}{rate}. {cell.verdict.evidence}")


def _caveats(
    settings: Sequence[Setting], ranked_on: str, rows: Sequence[Comparison], data: DataFacts
) -> Iterator[Statement]:
    best = settings[0].cells[0]
    ends = wilson(best.test.right, best.test.n)
    yield Statement(
        "caveat",
        f"What {count(best.test.n)} test images can say: an accuracy of {percent(best.test.accuracy)} stands "
        f"for anything in {interval(ends)} at {100 * LEVEL:.0f} % confidence (Wilson), from the choice of "
        "test images alone.",
    )
    if ranked_on == "test" and len(settings) > 1:
        yield Statement(
            "caveat",
            "Ranked on test: some records hold no validation figures, so the best is a little flattered.",
        )
    if max(len(s.cells) for s in settings) == 1:
        yield Statement(
            "caveat",
            "Each cell was run with one seed. One seed says nothing about how much a result varies from seed "
            "to seed; a difference that the test supports is one between these trained models, not between "
            "the methods.",
        )
    else:
        spreads = [f"{s.name}: {_figure(s)}" for s in settings if s.accuracy.sd is not None]
        yield Statement(
            "caveat",
            f"Over seeds (mean ± standard deviation): {listing(spreads)}. One setting is called better than "
            "another only where every seed they share supports it.",
        )
    if data.card.embedded:
        yield Statement(
            "caveat", "All of this describes the embedded sample and says nothing about real photographs."
        )
    if data.missing:
        yield Statement(
            "caveat",
            f"{plural(data.missing, 'listed image')} {'was' if data.missing == 1 else 'were'} absent: the "
            "images used are those that were there, which need not be like the rest.",
        )


def _is(c: Comparison, a: Setting, b: Setting) -> bool:
    return {c.first.setting, c.second.setting} == {a.name, b.name}


def _ranking(setting: Setting, ranked_on: str) -> str:
    if ranked_on == "validation" and setting.val_accuracy:
        return f"validation accuracy ({percent(setting.val_accuracy.mean)})"
    return "test accuracy"


def _figure(setting: Setting) -> str:
    """``97.73 % [97.14, 98.21]``, or mean and deviation over seeds."""
    if len(setting.cells) == 1:
        cell = setting.cells[0]
        return f"{percent(cell.test.accuracy)} {interval(cell.interval)}"
    return f"{_spread(setting.accuracy)} ({len(setting.cells)} seeds)"


def _spread(s: Spread) -> str:
    return percent(s.mean) if s.sd is None else f"{100 * s.mean:.2f} ± {100 * s.sd:.2f} %"


def _gap(better: Setting, worse: Setting) -> str:
    return f"{100 * (better.accuracy.mean - worse.accuracy.mean):.2f}".replace("-", "−")
