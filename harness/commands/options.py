"""Option types that several commands share; none imports torch."""

from __future__ import annotations

import math
from importlib.metadata import entry_points
from typing import Any

import click
from click.shell_completion import CompletionItem

from harness.errors import UsageError


class FiniteRange(click.FloatRange):
    """As click's, whose every range holds nan, and those without an upper end infinity."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        found = super().convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return found


class PluginName(click.ParamType):
    """A plugin's name, completed from the entry points without importing any of them."""

    name = "name"

    def __init__(self, group: str, extra: tuple[str, ...] = ()) -> None:
        self._group = group
        self._extra = extra

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        names = sorted({p.name for p in entry_points(group=self._group)} | set(self._extra))
        return [CompletionItem(n) for n in names if n.startswith(incomplete)]


def name_and_path(text: str) -> tuple[str, str | None]:
    """``celeba=PATH`` -> ("celeba", "PATH"); ``faces`` -> ("faces", None)."""
    name, equals, path = text.partition("=")
    if not name or (equals and not path):
        raise UsageError(f"bad --data '{text}': NAME, or NAME=PATH")
    return name, path or None
