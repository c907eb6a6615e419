"""``harness list``."""

from __future__ import annotations

import fnmatch

import click

from harness import plugins


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
def strategies() -> None:
    """Freezing strategies, with what they train."""
    _described(plugins.STRATEGIES, "strategy", "summary")


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
