"""What the figures of an experiment can't say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.stats import LEVEL, POWER
from reports.formats import count, interval, listing, percent, plural
from reports.model import Leaks
from reports.outcomes import Comparison, Setting, Statement
from reports.phrases import figure


def caveats(
    settings: Sequence[Setting],
    ranked_on: str,
    rows: Sequence[Comparison],
    *,
    embedded: bool,
    missing: int,
    leaks: Leaks | None,
) -> Iterator[Statement]:
    """The statements that every reading of the figures has to bear in mind."""
    texts = (*_images(settings, rows), *_ranking(settings, ranked_on), *_seeds(settings), *_leaks(leaks))
    yield from (Statement("caveat", text) for text in texts)
    if embedded:
        yield Statement(
            "caveat", "All of this describes the embedded sample and says nothing about real photographs."
        )
    if missing:
        yield Statement(
            "caveat",
            f"{plural(missing, 'listed image')} {'was' if missing == 1 else 'were'} absent: the "
            "images used are those that were there, which need not be like the rest.",
        )


def _images(settings: Sequence[Setting], rows: Sequence[Comparison]) -> Iterator[str]:
    best = settings[0].cells[0]
    text = (
        f"What {count(best.test.n)} test images can say: an accuracy of {percent(best.test.accuracy)} stands "
        f"for anything in {interval(best.interval)} at {100 * LEVEL:.0f} % confidence (Wilson), from the "
        "choice of test images alone."
    )
    found = [c.resolvable for c in rows if c.resolvable > 0]  # 0: two that answer alike say nothing
    if found:
        least, most = (f"{100 * end:.1f}" if end < 1 else "over 100" for end in (min(found), max(found)))
        size = f"{least} points" if least == most else f"{least} points, for the least settled pair {most},"
        tests = "" if len(rows) == 1 else f" (corrected for {len(rows)} comparisons)"
        text += (
            f" A difference of {size} between two settings would be found in {100 * POWER:.0f} % of such "
            f"experiments{tests}; smaller ones mostly stay hidden."
        )
    yield text
    groups = next((c.groups for c in rows if c.groups is not None), None)
    if groups is not None:
        yield (
            f"The test images belong to {count(groups)} groups (people, say), and images of one group may "
            "be alike: the comparisons exchange or resample whole groups. Wilson's intervals of single cells "
            "don't know of groups and are too narrow where they are."
        )


def _ranking(settings: Sequence[Setting], ranked_on: str) -> Iterator[str]:
    if ranked_on == "test" and len(settings) > 1:
        yield ("Ranked on test: some records hold no validation figures, so the first is a little flattered.")


def _leaks(leaks: Leaks | None) -> Iterator[str]:
    if leaks is None or not (leaks.copies or leaks.groups):
        return
    known = []
    if leaks.copies:
        known.append(f"{count(leaks.copies)} {'has' if leaks.copies == 1 else 'have'} a copy in training")
    if leaks.groups:
        alone = "is" if leaks.groups == 1 else "are"
        known.append(f"{count(leaks.groups)} {alone} of a group (a person, say) that training has images of")
    yield f"Training has seen some of the test: of {count(leaks.n)} test images {' and '.join(known)}."


def _seeds(settings: Sequence[Setting]) -> Iterator[str]:
    if max(len(s.cells) for s in settings) == 1:
        yield (
            "Each cell is a single run. One run says nothing about how much a result varies from seed "
            "to seed; a difference that the test supports is one between these trained models, not between "
            "the methods."
        )
        return
    spreads = [f"{s.name}: {figure(s)}" for s in settings if s.accuracy.sd is not None]
    alone = [s.name for s in settings if s.accuracy.sd is None]
    yield (
        f"Over seeds (mean ± standard deviation): {listing(spreads)}. Comparisons between settings with "
        "several seeds hold for new seeds and new test images alike."
        + (f" A single seed stands for {listing(alone)}." if alone else "")
    )
