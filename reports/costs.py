"""What settings cost beside what they reach, and which of them nothing beats on both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from harness.stats import spread
from reports.findings import Cost, Costs
from reports.model import Cell
from reports.outcomes import Setting
from reports.wording import strategy_name

AXES: dict[str, Callable[[Cost], float | None]] = {
    "seconds": lambda c: c.seconds,
    "parameters": lambda c: c.trainable,
    "memory": lambda c: c.peak_bytes,
}


def costs(settings: Sequence[Setting[Cell]]) -> Costs:
    """The costs of the settings, in their order."""
    cells = [cell for setting in settings for cell in setting.cells]
    kinds = {cell.result.memory.of if cell.result.memory else "" for cell in cells}
    rows = tuple(_cost(i, s, comparable=len(kinds) == 1) for i, s in enumerate(settings, start=1))
    fronts = {axis: _front(rows, price) for axis, price in AXES.items()}
    return Costs(
        rows=tuple(
            replace(row, front=frozenset(axis for axis, front in fronts.items() if row.number in front))
            for row in rows
        ),
        machines=tuple(dict.fromkeys(map(_machine, cells))),
        memory_of=next(iter(kinds)) if len(kinds) == 1 else "",
    )


def _cost(number: int, setting: Setting[Cell], *, comparable: bool) -> Cost:
    cells = setting.cells
    times = [c.result.timing for c in cells]
    passes = [t.decode_s + t.prefix_s for t in times]
    paces = [t.images_per_s for t in times if t.images_per_s is not None]
    peaks = [c.result.memory.peak_bytes for c in cells if c.result.memory and comparable]
    return Cost(
        number=number,
        name=setting.name,
        strategy=strategy_name(cells[0].result.strategy),
        seeds=len(cells),
        accuracy=setting.accuracy.mean,
        interval=setting.over_seeds.interval if setting.over_seeds else cells[0].interval,
        train_s=spread([t.train_s for t in times]),
        shared_s=sum(p / max(t.prefix_shared_by, 1) for p, t in zip(passes, times, strict=True)) / len(times),
        pass_s=max(passes),
        shared_by=max(t.prefix_shared_by for t in times),
        images_per_s=sum(paces) / len(paces) if paces else None,
        trainable=cells[0].result.strategy.trainable,
        peak_bytes=max(peaks) if len(peaks) == len(cells) else None,
        learned=all(c.verdict.kind not in ("collapsed", "diverged") for c in cells),
    )


def _front(rows: Sequence[Cost], price: Callable[[Cost], float | None]) -> set[int]:
    """The rows that learned something and that no other is as accurate and as cheap as, and better in one."""
    known = [(p, -row.accuracy, row.number) for row in rows if row.learned and (p := price(row)) is not None]
    return {
        number
        for p, loss, number in known
        if not any(q <= p and m <= loss and (q < p or m < loss) for q, m, _ in known)
    }


def _machine(cell: Cell) -> str:
    found = cell.record.environment
    name = found.get("device_name", found.get("device", "a machine that is not named"))
    threads = found.get("threads")
    return f"{name}, {threads} thread{'' if threads == '1' else 's'}" if threads else name
