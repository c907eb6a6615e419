"""``harness cache ls|rm``."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import click

from harness.cache_dir import cache_dir
from harness.errors import UsageError

_FEATURES = "features"


@click.group("cache", epilog="Example: harness cache ls")
def command() -> None:
    """List or remove what is kept between commands; all of it can be made again."""


@command.command("ls", epilog="Example: harness cache ls")
def ls() -> None:
    """List kept activations (--keep-features) and everything else in the cache folder."""
    from harness import kept

    for entry in kept.entries():
        click.echo(f"{entry.name}  {_size(entry.nbytes):>10}  {entry.count} images  {entry.about}")
    for draft in kept.drafts():
        click.echo(
            f"{draft.name}  {_size(_bytes(draft)):>10}  "
            "unfinished: being written, left by a killed run, or damaged"
        )
    for folder in _others():
        click.echo(f"{folder.name}  {_size(_bytes(folder)):>10}")
    click.echo(f"in '{cache_dir()}'", err=True)


@command.command("rm", epilog="Example: harness cache rm NAME; harness cache rm --all")
@click.argument("names", nargs=-1)
@click.option("--unfinished", is_flag=True, help="What isn't whole: left by a killed run, or damaged.")
@click.option("--all", "everything", is_flag=True, help="All of it.")
def rm(names: tuple[str, ...], unfinished: bool, everything: bool) -> None:
    """Remove entries by name; no run may be using what is removed."""
    from harness import kept

    drafts = list(kept.drafts())
    known = {p.name: p for p in (*(e.folder for e in kept.entries()), *drafts, *_others())}
    for name in names:
        if name not in known:
            raise UsageError(f"nothing called '{name}' is kept; harness cache ls lists what is")
    chosen = set(known) if everything else set(names)
    chosen |= {draft.name for draft in drafts} if unfinished else set()
    if not (chosen or everything or unfinished):
        raise UsageError("name what to remove, or give --all or --unfinished")
    for name in sorted(chosen):
        freed = _bytes(known[name])
        shutil.rmtree(known[name])
        click.echo(f"removed {name}, {_size(freed)}")


def _others() -> Iterator[Path]:
    root = cache_dir()
    folders = sorted(p for p in root.iterdir() if p.is_dir()) if root.is_dir() else []
    return (p for p in folders if p.name != _FEATURES)


def _bytes(folder: Path) -> int:
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())


def _size(count: float) -> str:
    return f"{count / 2**20:.1f} MiB" if count < 2**30 else f"{count / 2**30:.2f} GiB"
