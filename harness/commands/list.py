"""``harness list``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

import click

from harness import plugins
from harness.commands import backbone_table
from harness.errors import UsageError

DETAILS = 12  # networks that are looked into unless asked otherwise

_PAGE = """# Strategies

What each strategy trains. Options go in brackets, `--strategy 'last_k[k=2]'`. `harness show plan
--strategy last_block --backbone vgg16` shows one on a backbone, stage by stage and epoch by epoch. This page
is made from the plugins themselves: `harness list strategies --markdown`.

| name | options | trains | source |
|---|---|---|---|
"""


@click.group("list", epilog="Example: harness list strategies")
def command() -> None:
    """List what can be asked for: strategies, backbones, datasets, engines, trackers, suites."""


def _echo(rows: list[tuple[str, str, str]]) -> None:
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(2)]
    for name, package, text in rows:
        click.echo(f"{name:<{widths[0]}}  {package:<{widths[1]}}  {text}".rstrip())


def _described(group: str, kind: str, attribute: str) -> None:
    rows = []
    for name, found in plugins.find(group).items():
        try:
            text = str(getattr(plugins.load(group, name, kind), attribute, ""))
        except plugins.PluginError as error:
            text = f"broken: {error}"
        rows.append((name, found.package, text))
    _echo(rows)
    _skipped(group)


def _skipped(*groups: str) -> None:
    for fault in (fault for group in groups for fault in plugins.clashes(group).values()):
        click.echo(f"skipped: {fault}", err=True)


@command.command("strategies", epilog="Example: harness list strategies")
@click.option("--markdown", is_flag=True, help="As a page with their options and sources.")
def strategies(markdown: bool) -> None:
    """Freezing strategies, with what they train."""
    if markdown:
        click.echo(strategies_page(plugins.find(plugins.STRATEGIES)), nl=False)
    else:
        _described(plugins.STRATEGIES, "strategy", "summary")


def strategies_page(names: Iterable[str]) -> str:
    """``docs/strategies.md``: what the plugins say of themselves."""
    rows = []
    for name in names:
        try:
            strategy = plugins.load(plugins.STRATEGIES, name, "strategy")
            rows.append((f"`{name}`", _options(strategy), strategy.summary, strategy.source))
        except plugins.PluginError as error:
            click.echo(f"skipped: {error}", err=True)
    lines = [" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows]
    return _PAGE + "".join(f"| {line} |\n" for line in lines)


def _options(strategy: Any) -> str:
    """``k=1``; an option without a default is needed."""
    found = fields(strategy) if is_dataclass(strategy) else ()
    return ", ".join(
        f"`{f.name}` (needed)" if f.default is MISSING else f"`{f.name}={f.default}`" for f in found
    )


@command.command("datasets", epilog="Example: harness list datasets")
def datasets() -> None:
    """Datasets, with what they read."""
    _described(plugins.DATASETS, "dataset", "summary")


@command.command("trackers", epilog="Example: harness list trackers")
def trackers() -> None:
    """Trackers, with where they export runs to."""
    _described(plugins.TRACKERS, "tracker", "summary")


@command.command("engines", epilog="Example: harness list engines")
def engines() -> None:
    """Engines, with where they train."""
    _described(plugins.ENGINES, "engine", "summary")


@command.command("backbones", epilog="Example: harness list backbones --match 'timm:resnet*' --details 5")
@click.option(
    "--match",
    metavar="PATTERN",
    default=None,
    help="Networks of every family whose name fits, e.g. resnet, 'vgg1?', 'timm:*vit*'.",
)
@click.option(
    "--details",
    type=click.IntRange(0),
    default=DETAILS,
    show_default=True,
    help="Look into so many of them: images' side in pixels, parameters, GMACs of an image (- where they "
    "can't be counted), whether a frozen prefix can be cut off, stages. Each is built without weights, "
    "which takes a second or more; the others are listed by name.",
)
def backbones(match: str | None, details: int) -> None:
    """Backbones: by their own name, by a short name, or as FAMILY:NAME."""
    if match is None:
        rows = [(name, f.package, "") for name, f in plugins.find(plugins.BACKBONES).items()]
        rows += [(short, "", full) for short, full in plugins.SHORT_NAMES.items()]
        rows += [
            (f"{name}:NAME", f.package, "see --match") for name, f in plugins.find(plugins.FAMILIES).items()
        ]
        _echo(rows)
        _skipped(plugins.BACKBONES, plugins.FAMILIES)
        return
    names, faults = backbone_table.matching(match)
    for fault in faults:
        click.echo(f"skipped: {fault}", err=True)
    if not names:
        raise UsageError(f"--match '{match}' fits no network; harness list backbones shows the families")
    if seen := names[:details]:
        for line in backbone_table.table(seen, max(map(len, seen))):
            click.echo(line)
    for name in names[details:]:
        click.echo(name)
    if left := len(names) - len(seen):
        click.echo(f"{left} of {len(names)} by name only: --details {len(names)} looks into all", err=True)


@command.command("suites", epilog="Example: harness list suites")
def suites() -> None:
    """Suites that come with the program."""
    from harness.suites import builtin_suites, load_suite

    _echo([(name, "", load_suite(name).title) for name in builtin_suites()])
