"""Results as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from benchmarks.floor import Floor
from benchmarks.results import JobResult, Spread, largest_difference, spread
from benchmarks.rivals import RIVALS

NOTHING = "–"
_PHASES = ("decode", "prefix", "train", "test")
Seconds = Callable[[JobResult], float | None]


def report(results: Sequence[JobResult], heading: str, floor: Floor | None = None) -> str:
    """All tables; a rival's repeats are summed up by their median."""
    by_rival: dict[str, list[JobResult]] = {}
    for result in results:
        by_rival.setdefault(result.rival, []).append(result)
    good = {r: [j for j in jobs if j.error is None] for r, jobs in by_rival.items()}
    good = {rival: jobs for rival, jobs in good.items() if jobs}
    failed = {
        rival: next(j.error for j in jobs if j.error) for rival, jobs in by_rival.items() if rival not in good
    }
    parts = [heading, _times(by_rival, good), *(f"{_title(r)}: {error}" for r, error in failed.items())]
    if good:
        parts += [_metrics(good), _phases(good)]
    if "ours" in good:
        parts += [_inside(good["ours"]), *([_against(floor, good["ours"])] if floor else [])]
    return "\n\n".join(parts) + "\n"


def _title(rival: str) -> str:
    return RIVALS[rival].title


def _rows(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _times(by_rival: dict[str, list[JobResult]], good: dict[str, list[JobResult]]) -> str:
    measures: dict[str, Seconds] = {
        "cold, s": lambda j: j.wall_s,
        "images given, s": lambda j: j.images_given_s,
        "features kept, s": lambda j: j.features_kept_s,
    }
    header = ["", *(cell for name in measures for cell in (name, "x ours")), "import, s", "peak memory, MB"]
    rows = []
    for rival in by_rival:
        jobs = good.get(rival)
        if jobs is None:
            rows.append([_title(rival), "failed", *[NOTHING] * (len(header) - 2)])
            continue
        cells = [_title(rival)]
        for measure in measures.values():
            mine = spread([measure(j) for j in jobs])
            cells += [_shown(mine), _ratio(mine, spread([measure(j) for j in good.get("ours", [])]))]
        imported = spread([j.import_s for j in jobs])
        cells += [
            _number(imported.median if imported else None),
            _number(max(j.peak_mb or 0 for j in jobs), 0),
        ]
        rows.append(cells)
    return _rows(header, rows)


def _shown(value: Spread | None) -> str:
    if value is None:
        return NOTHING
    if value.low == value.high:
        return f"{value.median:.2f}"
    return f"{value.median:.2f} ({value.low:.2f}–{value.high:.2f})"


def _ratio(mine: Spread | None, ours: Spread | None) -> str:
    return f"{mine.median / ours.median:.2f}" if mine and ours and ours.median else NOTHING


def _number(value: float | None, digits: int = 2) -> str:
    return NOTHING if value is None else f"{value:.{digits}f}"


def _metrics(good: dict[str, list[JobResult]]) -> str:
    first = {rival: jobs[0] for rival, jobs in good.items()}
    labels = [cell.label for cell in next(iter(first.values())).cells]
    rows = [
        [label, *(f"{job.cells[i].test_accuracy:.4f}" for job in first.values())]
        for i, label in enumerate(labels)
    ]
    if "ours" in first:
        differences = (largest_difference(first["ours"], job) for job in first.values())
        rows.append(["largest difference of the training loss to ours", *(f"{d:.2g}" for d in differences)])
    return _rows(["test accuracy", *map(_title, first)], rows)


def _phases(good: dict[str, list[JobResult]]) -> str:
    rows = [
        [
            _title(rival),
            *(_shown(spread([j.phases.get(name) for j in jobs])) for name in _PHASES),
            _shown(spread([j.wall_s - sum(j.phases.values()) for j in jobs])),
        ]
        for rival, jobs in good.items()
    ]
    return _rows(["seconds of", *_PHASES, "all else"], rows)


def _inside(ours: Sequence[JobResult]) -> str:
    """What the harness adds to the bare network; of each figure the median of the repeats."""

    def middle(
        value: Callable[[dict[str, float]], float | None], strategy: str | None = None
    ) -> float | None:
        found = (j.extra if strategy is None else j.extra["epochs"][strategy] for j in ours)
        summed = spread([value(dict(part)) for part in found])
        return summed.median if summed else None

    rate, bare = middle(lambda p: p["pass_rate"]), middle(lambda p: p["bare_rate"])
    beside_it = middle(lambda p: p["pass_share"])
    decoding = " (decoding included)" if ours[0].extra["decoding_in_pass"] else ""
    share = f", {100 * beside_it:.0f} % of it" if beside_it else ""
    lines = [f"Frozen pass{decoding}: {_number(rate, 1)} images/s; bare network {_number(bare, 1)}{share}."]
    for strategy in ours[0].extra["epochs"]:
        epoch, step = middle(lambda p: p["epoch_s"], strategy), middle(lambda p: p["bare_epoch_s"], strategy)
        gather = middle(lambda p: p["gather_s"] / p["epoch_s"], strategy)
        beside = middle(lambda p: p["beside"], strategy)
        lines.append(
            f"An epoch of {strategy}: {_number(epoch, 3)} s, bare steps {_number(step, 3)} s; beside them "
            f"{_percent(beside)}, of the epoch {_percent(gather)} is gathering batches."
        )
    return "\n".join(f"- {line}" for line in lines)


def _percent(value: float | None) -> str:
    return NOTHING if value is None else f"{100 * value:.1f} %"


def _against(least: Floor, ours: Sequence[JobResult]) -> str:
    taken = {name: spread([j.phases.get(name) for j in ours]) for name in ("prefix", "train")}
    cold = spread([j.wall_s for j in ours])
    train = least.suffix + least.adam
    rows = [
        ["prefix", f"{least.prefix:.3g}", _shown(taken["prefix"])],
        [
            "train (suffix and Adam)",
            f"{least.suffix:.3g} + {least.adam:.3g} = {train:.3g}",
            _shown(taken["train"]),
        ],
        ["all", f"{least.total:.3g}", _shown(cold)],
    ]
    return _rows(["", "floor on an H200, s", "ours, s"], rows)
