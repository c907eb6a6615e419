"""``harness list``."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

import click

from harness import plugins

_PAGE = """# Strategies

What each strategy trains. Options go in brackets, `--strategy 'last_k[k=2]'`. `harness show plan
--strategy last_block --backbone vgg16` shows one on a backbone, stage by stage and epoch by epoch. This page
is made from the plugins themselves: `harness list strategies --markdown`.

| name | options | trains | source |
|---|---|---|---|
"""


@click.group("list", epilog="Example: harness list strategies")
def command() -> None:
    """List what can be asked for: strategies, backbones, datasets, suites."""


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
        strategy = plugins.load(plugins.STRATEGIES, name, "strategy")
        rows.append((f"`{name}`", _options(strategy), strategy.summary, strategy.source))
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


@command.command("backbones", epilog="Example: harness list backbones --match '*resnet*'")
@click.option(
    "--match", default=None, help="Show the networks of every family whose name matches, e.g. 'vgg*'."
)
def backbones(match: str | None) -> None:
    """Backbones: by their own name, by a short name, or as FAMILY:NAME."""
    if match is None:
        rows = [(name, f.package, "") for name, f in plugins.find(plugins.BACKBONES).items()]
        rows += [(short, "", full) for short, full in plugins.SHORT_NAMES.items()]
        rows += [
            (f"{name}:NAME", f.package, "see --match") for name, f in plugins.find(plugins.FAMILIES).items()
        ]
        _echo(rows)
        return
    pattern = match if any(c in match for c in "*?[") else f"*{match}*"
    for name in plugins.find(plugins.BACKBONES):
        if fnmatch.fnmatchcase(name, pattern):
            click.echo(name)
    for family in plugins.find(plugins.FAMILIES):
        for model in plugins.load(plugins.FAMILIES, family, "backbone family").names():
            if fnmatch.fnmatchcase(model, pattern):
                click.echo(f"{family}:{model}")


@command.command("suites", epilog="Example: harness list suites")
def suites() -> None:
    """Suites that come with the program."""
    from harness.suites import builtin_suites, load_suite

    _echo([(name, "", load_suite(name).title) for name in builtin_suites()])
