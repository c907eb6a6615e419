"""Two runs, or all seeds of two settings, against each other: ``harness compare``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from harness.errors import UsageError
from harness.stats import LEVEL, POWER
from reports.cells import make_cell
from reports.compare import settings_of
from reports.formats import count, interval, points, rate, width
from reports.model import Cell
from reports.outcomes import Comparison, Setting
from reports.pairwise import compare_pair
from reports.phrases import evidence, figure
from reports.record_types import Record, Result
from reports.wording import bare, strategy_name


def compare_records(first: Sequence[Record], second: Sequence[Record]) -> Comparison:
    """The comparison of two settings, each the records of its seeds.

    Raises :class:`~harness.errors.UsageError` for one run twice, for a failed one, and for runs
    that weren't tested on the same images.
    """
    for record in (*first, *second):
        if record.result is None:
            raise UsageError(f"run '{record.run}' failed: it has nothing to compare")
    if {r.run for r in first} & {r.run for r in second}:
        raise UsageError(f"'{first[0].run}' can't be compared with itself")
    names = _names(first, second)
    a, b = (_setting(name, group) for name, group in zip(names, (first, second), strict=True))
    found = compare_pair(a, b)
    if found is None:
        raise UsageError(
            f"'{first[0].run}' and '{second[0].run}' weren't tested on the same images: data, target, "
            "--split, --group, --split-seed and --limit have to be equal"
        )
    return found


def other_seeds(record: Record, beside: Iterable[Record]) -> tuple[Record, ...]:
    """The finished runs that differ from ``record`` in their seed alone, itself among them, by seed."""

    def asked(r: Record) -> tuple[object, ...]:
        digests = r.result.digests if r.result else {}
        return replace(r.spec, seed=0), digests.get("data"), digests.get("split"), digests.get("weights")

    seeds = {r.spec.seed: r for r in beside if r.result is not None and asked(r) == asked(record)}
    return tuple(seeds[s] for s in sorted(seeds | {record.spec.seed: record}) if s in seeds) or (record,)


def lines(c: Comparison) -> Iterator[str]:
    """The comparison as text."""
    for mark, setting in (("A", c.first), ("B", c.second)):
        yield f"{mark}  {setting.name}"
        yield f"   test accuracy {figure(setting)}{_of(setting)}"
        if setting.over_seeds is not None:
            s = setting.over_seeds
            yield (
                f"   over new seeds and images {interval(s.interval)} % (standard error "
                f"{width(s.se_seeds)} points from seeds, {width(s.se_images)} from images)"
            )
        yield from (f"   {text}" for text in _unwell(setting))
    yield f"A - B  {points(c.difference)} points {interval(c.interval)} ({100 * LEVEL:.0f} % interval)"
    yield evidence(c)
    yield (
        f"Such a test at 5 % would find a difference of {width(c.resolvable)} points in {100 * POWER:.0f} % "
        "of cases."
    )
    yield conclusion(c)


def conclusion(c: Comparison) -> str:
    """One sentence: which is better as far as the test supports it, and for what that holds."""
    if not c.supported:
        return "Not distinguishable: these test images don't say which of the two is better."
    mark, better = ("A", c.first) if c.difference > 0 else ("B", c.second)
    scope = (
        " That is about these two trained models; other seeds may differ." if max(c.seeds) == 1
        else " That holds for new seeds and new images alike."
    )  # fmt: skip
    return f"{mark} is better: {better.name}.{scope}"


def as_json(c: Comparison) -> dict[str, object]:
    """The comparison as plain values; shares as fractions."""
    return {
        "first": _plain(c.first), "second": _plain(c.second), "n": c.n, "groups": c.groups,
        "method": c.method, "difference": c.difference, "interval": list(c.interval),
        "only_first": c.only_first, "only_second": c.only_second, "p": c.p, "supported": c.supported,
        "resolvable": c.resolvable,
    }  # fmt: skip


def _plain(s: Setting) -> dict[str, object]:
    return {
        "name": s.name, "runs": [cell.record.run for cell in s.cells],
        "seeds": [cell.seed for cell in s.cells], "accuracy": s.accuracy.mean,
        "verdicts": [cell.verdict.kind for cell in s.cells],
    }  # fmt: skip


def _setting(name: str, records: Sequence[Record]) -> Setting[Cell]:
    cells = [make_cell(i, name, name, r, r.result) for i, r in enumerate(records, start=1) if r.result]
    (found,), _ = settings_of(cells)
    return found


def _names(first: Sequence[Record], second: Sequence[Record]) -> tuple[str, str]:
    """What tells the two apart: strategy and rate, then whatever else differs, at last the runs' names."""
    parts = [_parts(r, r.result) for r in (first[0], second[0]) if r.result is not None]
    shown = {k for k in parts[0] | parts[1] if parts[0].get(k) != parts[1].get(k)} - {"strategy", "lr"}
    if max(len(first), len(second)) > 1:
        shown -= {"seed"}
    a, b = (
        ", ".join([p["strategy"], f"lr {p['lr']}", *(f"{k} {p.get(k, 'not given')}" for k in sorted(shown))])
        for p in parts
    )
    return (a, b) if a != b else (first[0].run, second[0].run)


def _parts(r: Record, result: Result) -> dict[str, str]:
    found = {
        "strategy": strategy_name(result.strategy),
        "lr": rate(r.spec.lr),
        "backbone": bare(result.backbone.name),
    }
    found |= {"head": r.spec.head, "weights": r.spec.weights, "seed": str(r.spec.seed)}
    return found | {k.replace("_", " "): v for k, v in r.spec.train.items()}


def _of(setting: Setting) -> str:
    if len(setting.cells) > 1:
        return ", seeds " + ", ".join(str(c.seed) for c in setting.cells)
    test = setting.cells[0].test
    return f", {count(test.right)} of {count(test.n)} right"


def _unwell(setting: Setting) -> Iterator[str]:
    """Each verdict but healthy, once, with how many of the seeds have it."""
    for kind in dict.fromkeys(cell.verdict.kind for cell in setting.cells):
        cells = [cell for cell in setting.cells if cell.verdict.kind == kind]
        if kind == "healthy":
            continue
        seeds = f" with {len(cells)} of {len(setting.cells)} seeds" if len(setting.cells) > 1 else ""
        if seeds and kind == "collapsed":
            seeds += f" ({interval(setting.collapse_interval)} %)"
        yield f"{kind}{seeds}: {cells[0].verdict.evidence} {cells[0].verdict.advice}"
