"""Settings and comparisons in words, the same in the discussion, the tables and ``harness compare``."""

from __future__ import annotations

from harness.stats import Spread
from reports.findings import Slice
from reports.formats import count, interval, p_value, percent, points, width
from reports.model import Subset
from reports.outcomes import Comparison, Setting


def figure(setting: Setting) -> str:
    """``97.73 % [97.14, 98.21]``, or mean and deviation over seeds."""
    if len(setting.cells) == 1:
        cell = setting.cells[0]
        return f"{percent(cell.test.accuracy)} {interval(cell.interval)}"
    return f"{mean_and_sd(setting.accuracy)} ({len(setting.cells)} seeds)"


def mean_and_sd(s: Spread) -> str:
    """``97.73 ± 0.31 %``, or the value alone."""
    return percent(s.mean) if s.sd is None else f"{100 * s.mean:.2f} ± {100 * s.sd:.2f} %"


def tested_by(c: Comparison) -> str:
    """The test behind a comparison: ``exact McNemar``, with the seed where there are others."""
    if c.method == "bootstrap of images and seeds":
        seeds = f"{c.seeds[0]}" if c.seeds[0] == c.seeds[1] else f"{c.seeds[0]} and {c.seeds[1]}"
        units = "images" if c.groups is None else "groups of images"
        return f"bootstrap of {units} and {seeds} seeds"
    return c.method + ("" if c.seed is None or _alone(c) else f", seed {c.seed}")


def evidence(c: Comparison) -> str:
    """One sentence: what was counted or resampled, the difference with its interval, the p-values."""
    of = f"{count(c.n)} images" + (f" of {count(c.groups)} groups" if c.groups is not None else "")
    if c.only_first is not None and c.only_second is not None:
        text = f"Of {of} the first alone is right on {count(c.only_first)}, "
        text += f"the second alone on {count(c.only_second)}"
    elif c.z is not None:
        text = f"Of {of} each, as if they were others (which of them each got right is not known)"
    else:
        text = f"On {of}"
    test = tested_by(c) if c.z is None else f"{tested_by(c)} {abs(c.z):.2f}"
    p = p_value(c.p) + (f", corrected {p_value(c.adjusted)}" if c.compared > 1 else "")
    return f"{text}: a difference of {points(c.difference)} points {interval(c.interval)}; {test}, {p}."


def reading(c: Comparison) -> str:
    """``not distinguishable``, or which of the two is better."""
    if not c.supported:
        return "not distinguishable"
    return "first is better" if c.difference > 0 else "second is better"


def could_find(c: Comparison) -> str:
    """The difference that mostly would have been found; a dash where the two never differ."""
    if c.resolvable == 0:
        return "–"
    return "over 100" if c.resolvable >= 1 else width(c.resolvable)


def subset(s: Subset) -> str:
    """``97.73 % [97.14, 98.21] of 579``, or that none is left."""
    if s.accuracy is None or s.interval is None:
        return "none left"
    return f"{percent(s.accuracy)} {interval(s.interval)} of {count(s.n)}"


def slice_reading(s: Slice) -> str:
    """Whether a slice differs from the other images beyond chance."""
    if not s.differs:
        return "not distinguishable"
    return "weaker than the others" if s.difference < 0 else "better than the others"


def _alone(c: Comparison) -> bool:
    return len(c.first.cells) == len(c.second.cells) == 1
