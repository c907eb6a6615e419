"""The options that say which samples, which label, which split; of every command that reads data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import click

from harness.commands.data_paths import DATA_VARIABLES, data_path
from harness.commands.options import PluginName, name_and_path
from harness.plugins import DATASETS
from harness.spec import DataSpec

_KEYS = {f.name for f in fields(DataSpec)} - {"name"}
_OPTIONS = (
    click.option(
        "--data",
        metavar="NAME[=PATH]",
        type=PluginName(DATASETS),
        help="Dataset and where it lies.  [default: faces]",
    ),
    click.option("--target", help="Which attribute (or column) is the label."),
    click.option(
        "--split", type=click.Choice(["stratified", "official", "group"]), help="How samples are split."
    ),
    click.option("--group", metavar="identity", help="Split by group: no group on two sides."),
    click.option(
        "--split-seed", type=click.IntRange(0), help="Seed of the split and of --limit.  [default: 0]"
    ),
    click.option("--limit", type=click.IntRange(1), help="Use a stratified subset of this many images."),
    click.option(
        "--missing",
        type=click.Choice(["error", "skip"]),
        help="What to do with listed images that are absent.",
    ),
)


def data_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds ``--data`` and all that goes with it."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def asked_data(given: Mapping[str, Any], base: DataSpec) -> tuple[Path | None, DataSpec]:
    """Where the data lie and what of them is asked for: the options given, over ``base``."""
    name, path = name_and_path(given["data"]) if given["data"] else (base.name, None)
    data = {k: given[k] for k in _KEYS if given[k] is not None}
    same_files = DATA_VARIABLES.get(name, name) == DATA_VARIABLES.get(base.name, base.name)
    if not same_files:
        data = {"target": None, "split": "auto", "group": None} | data
    if data.get("group") and "split" not in data:
        data["split"] = "auto"
    return data_path(name, path), replace(base, name=name, **data)
