"""The names and the fixed sentences of a report: cells, title, banners, signature."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Sequence

from harness.stats import LEVEL
from reports.formats import plural, rate
from reports.model import Banner, Experiment
from reports.record_types import Record, Result, StrategyFacts

REAL_EXPERIMENT = "harness run --suite celeba30k --data celeba30k=PATH"


def cell_names(group: Sequence[tuple[Record, Result]]) -> list[tuple[str, str]]:
    """Name and setting of each cell: strategy, rate and whatever else tells the cells apart."""
    varying = varying_options([record for record, _ in group])
    seeds = len({record.spec.seed for record, _ in group}) > 1
    settings = [
        ", ".join(
            [
                strategy_name(result.strategy),
                f"lr {rate(record.spec.lr)}",
                *options_shown(record, varying),
            ]
        )
        for record, result in group
    ]
    # Two records that nothing shown here tells apart keep their own names instead of passing for seeds.
    twice = Counter((s, record.spec.seed) for s, (record, _) in zip(settings, group, strict=True))
    named = []
    for i, (setting, (record, _)) in enumerate(zip(settings, group, strict=True), start=1):
        if twice[setting, record.spec.seed] > 1:
            setting = f"{setting}, run {i}"
        named.append((f"{setting}, seed {record.spec.seed}" if seeds else setting, setting))
    return named


def varying_options(records: Sequence[Record]) -> list[str]:
    """The training options in which runs differ."""
    keys = sorted({key for record in records for key in record.spec.train})
    return [k for k in keys if len({record.spec.train.get(k) for record in records}) > 1]


def options_shown(record: Record, keys: Iterable[str]) -> list[str]:
    """Some training options as they stand in a name: ``epochs 5``."""
    return [f"{k.replace('_', ' ')} {record.spec.train.get(k, 'not given')}" for k in keys]


def strategy_name(s: StrategyFacts) -> str:
    """The strategy with its options, as on the command line."""
    if not s.options or "[" in s.name:
        return s.name
    return f"{s.name}[{','.join(f'{k}={v}' for k, v in s.options.items())}]"


def report_title(title: str | None, experiments: Sequence[Experiment]) -> str:
    """The title as given, or one made from the experiments; says where the data are embedded."""
    if title is None:
        if len(experiments) == 1:
            e = experiments[0]
            title = f"{e.heading}, retrained in {plural(len(e.settings), 'way')}"
        elif experiments:
            title = f"Transfer learning: {plural(len(experiments), 'experiment')}"
        else:
            title = "Failed runs"
    if any(e.data.card.embedded for e in experiments):
        title += " (embedded sample)"
    return title


def banners(experiments: Sequence[Experiment]) -> tuple[Banner, ...]:
    """The warnings above the report."""
    embedded = sorted({e.data.card.title for e in experiments if e.data.card.embedded})
    return tuple(
        Banner(
            f"This is the embedded sample ({name}), there so that the program can be tried at once. Its "
            "figures say nothing about real photographs. The real experiment:",
            REAL_EXPERIMENT,
        )
        for name in embedded
    )


def signature(records: Sequence[Record], experiments: Sequence[Experiment], examples: int, seed: int) -> str:
    """One line that says how the figures came about, after sacreBLEU's."""
    parts = [f"harness {_all(r.environment.get('harness', '?') for r in records)}"]
    for e in experiments:
        spec, digests = e.cells[0].record.spec, e.first.digests
        parts.append(
            f"{spec.data}{f':{spec.target}' if spec.target else ''} {digests.get('data', '?')[:10]}"
            f" split {spec.split} {digests.get('split', '?')[:10]} n {e.first.test.n}"
            f" {e.first.backbone.name} {spec.weights} head {spec.head}"
        )
    if experiments:
        parts.append(f"seeds {_all(str(c.seed) for e in experiments for c in e.cells)}")
    parts.append(f"Wilson {100 * LEVEL:.0f} %")
    methods = _all(c.method for e in experiments for c in e.comparisons)
    if methods:
        parts.append(f"{methods} with Holm")
    parts.append(f"{examples} examples, seed {seed}")
    parts.append(f"torch {_all(r.environment.get('torch', '?') for r in records)}")
    parts.append(_all(r.environment.get("device", "?") for r in records))
    return "; ".join(parts)


def _all(values: Iterable[str]) -> str:
    return "+".join(sorted(set(values)))


def public_command(record: Record) -> str:
    """A run's command for what will be published: ``PATH`` in place of where data and weights lie."""
    try:
        words = shlex.split(record.command)
    except ValueError:  # a record that was edited by hand
        return record.command
    for i, option in enumerate(words[:-1]):
        if option in ("--data", "--weights"):
            name, equals, _ = words[i + 1].partition("=")
            if "/" in name or "\\" in name:
                words[i + 1] = "PATH"
            elif equals:
                words[i + 1] = f"{name}=PATH"
    return shlex.join(words)


def bare(backbone: str) -> str:
    """The network's name without its family: ``torchvision:vgg16`` and ``vgg16`` are one."""
    return backbone.rsplit(":", 1)[-1]
