"""A report for programs: all figures of a report as JSON, ``docs/report-json.md``.

Data classes become objects of their fields, in their order; what refers to a cell refers to its number, to
a setting by its name, to a run by the run's name. What is there once per test image stays in
``predictions.csv``, and paths of this machine stay here. No NaN: what isn't finite is ``null``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from harness.files import to_json
from harness.heatmaps import HeatMap
from harness.stats import Interval
from reports.model import Cell, Example, ReportData
from reports.outcomes import Outcome, Setting
from reports.record_types import Record, Result
from reports.shots import Images
from reports.wording import public_command

FORMAT = 1
_PER_IMAGE = {"correct", "images", "groups"}
# What `clean` of other formats replaces: control characters, marks of direction, halves of pairs.
_HIDDEN = re.compile(
    "[\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb"
    "\U000e0001-\U000e007f]"
)


def report_json(data: ReportData, images: Images) -> str:
    """The report as one JSON object; with ``images`` ``none`` no test image is named."""
    return _HIDDEN.sub(_escaped, to_json(report_values(data, images)))


def report_values(data: ReportData, images: Images) -> dict[str, Any]:
    """The report as plain values. Raises TypeError for a field that has no form in JSON."""
    experiments = []
    for e in data.experiments:
        found = {f.name: _plain(getattr(e, f.name)) for f in fields(e)}
        found["cells"] = [_cell(cell) for cell in e.cells]
        found["settings"] = [_setting(setting) for setting in e.settings]
        found["data"] = _data(found["data"])
        if images == "none":
            for gallery in found["examples"]["galleries"]:
                gallery["shown"] = []
        experiments.append(found)
    return {
        "format": FORMAT,
        "title": data.title,
        "signature": data.signature,
        "banners": _plain(data.banners),
        "experiments": experiments,
        "failed": [_run(record) | {"error": record.error} for record in data.failed],
    }


def _escaped(found: re.Match[str]) -> str:
    """JSON's escape of a character that would turn, hide or break the text around it."""
    units = found[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


def _cell(cell: Cell) -> dict[str, Any]:
    own = {
        f.name: _plain(getattr(cell, f.name))
        for f in fields(cell)
        if f.name not in {"record", "result", *_PER_IMAGE}
    }
    result = {f.name: _plain(getattr(cell.result, f.name)) for f in fields(Result) if f.name != "data"}
    result.pop("test")  # stands above, as the cell's own
    return own | _run(cell.record) | {"history": _plain(cell.record.history), "result": result}


def _run(record: Record) -> dict[str, Any]:
    return {
        "run": record.run,
        "suite": record.suite,
        "spec": _plain(record.spec),
        "command": public_command(record),
        "environment": dict(record.environment),
    }


def _setting(setting: Setting[Cell]) -> dict[str, Any]:
    found = {f.name: _plain(getattr(setting, f.name)) for f in fields(setting)}
    return found | {"cells": [cell.number for cell in setting.cells], "collapsed": setting.collapsed}


def _data(found: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if key != "path"}


def _plain(value: Any) -> Any:
    """A value as JSON has it; references in place of cells, settings and runs."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Cell):
        return value.number
    if isinstance(value, Setting | Outcome):
        return value.name
    if isinstance(value, Record):
        return value.run
    if isinstance(value, Example):
        return {"name": value.name, "label": value.label, "answers": _plain(value.answers)}
    if isinstance(value, Interval):
        return [_plain(value.low), _plain(value.high)]
    return _composed(value)


def _composed(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {name: _plain(v) for name, v in zip(value._fields, value, strict=True)}
    if isinstance(value, frozenset):
        return sorted(_plain(v) for v in value)
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if is_dataclass(value):
        kept = (f.name for f in fields(value) if not isinstance(getattr(value, f.name), HeatMap))
        return {name: _plain(getattr(value, name)) for name in kept}
    raise TypeError(f"{type(value).__name__} has no form in JSON")
