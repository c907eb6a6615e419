"""A run folder as trackers see it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from harness.errors import RecordError
from harness.seal import file_digest
from harness.store import RESULT, RunFolder
from harness.tracked import TrackedEnd, TrackedEpoch, TrackedRun

_WHOLE = 0.999  # seconds that a record, which has whole ones, leaves out at most
_FILES = ("spec.json", "history.jsonl", RESULT)  # predictions.csv names every test image


@dataclass(frozen=True)
class Seen:
    """All that a folder has to show at this moment; ``end`` is None while it trains or is interrupted."""

    run: TrackedRun
    epochs: tuple[TrackedEpoch, ...]
    end: TrackedEnd | None


def read_folder(folder: RunFolder) -> Seen | None:
    """What lies in ``folder``; None where nothing has begun. RecordError where a file can't be read."""
    try:
        spec = json.loads((folder.path / "spec.json").read_text("utf-8"))
        record = folder.result() if (folder.path / RESULT).exists() else None
        rows = folder.read_history()
    except FileNotFoundError:  # not begun, or begun anew between two looks
        return None
    except ValueError as error:
        raise RecordError(f"can't read '{folder.path}': {error}") from error
    started = _when(record or {}, "started", folder.path / "spec.json")
    run = TrackedRun(folder.name, started, {k: v for k, v in _flat(spec, ".") if v is not None})
    end = _end(folder, record) if record else None
    last = _modified(folder.path / "history.jsonl")
    if end and not started <= last <= end.at:  # a copy, which keeps no times
        last = end.at
    return Seen(run, tuple(_epochs(rows, last)), end)


def signature(folder: Path) -> tuple[float, ...]:
    """Changes whenever there may be something new to see."""
    return tuple(_modified(folder / name) for name in ("history.jsonl", RESULT))


def _modified(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _when(record: Mapping[str, Any], which: str, file: Path) -> float:
    """A time of the record's environment; when ``file`` was written, where there is none."""
    text = record.get("environment", {}).get(which)
    return datetime.fromisoformat(text).timestamp() if text else _modified(file)


def _epochs(rows: list[dict[str, Any]], last: float) -> Iterator[TrackedEpoch]:
    """The rows, each ended as long before ``last`` as the epochs after it took."""
    at = last - sum(float(row["seconds"] or 0) for row in rows)
    for row in rows:
        at += float(row["seconds"] or 0)
        figures = {key: _number(value) for key, value in _flat(row, "/") if key != "epoch"}
        yield TrackedEpoch(int(row["epoch"]), at, figures)


def _end(folder: RunFolder, record: Mapping[str, Any]) -> TrackedEnd:
    test = record["test"]
    return TrackedEnd(
        digest=file_digest(folder.path / RESULT)[:16],
        status=record["status"],
        at=_when(record, "finished", folder.path / RESULT) + _WHOLE,
        figures=dict(_final(record)),
        tags=dict(_tags(record)),
        class_names=tuple(record["data"].get("class_names", ())),
        confusion=tuple(map(tuple, test["confusion"])) if test else (),
        files=tuple(p for name in _FILES if (p := folder.path / name).exists()),
    )


def _final(record: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """``test/accuracy``, ``test/precision/CLASS``, ``timing/train_s``, ...: the numbers of a record."""
    for part in ("test", "val"):
        for name, value in (record[part] or {}).items():
            if name == "accuracy_interval":
                yield f"{part}/accuracy_low", value[0]
                yield f"{part}/accuracy_high", value[1]
            elif isinstance(value, int | float):
                yield f"{part}/{name}", value
        for scores in (record[part] or {}).get("per_class", ()):
            for name in ("precision", "recall", "f1"):
                yield f"{part}/{name}/{scores['name']}", _number(scores[name])
    for part in ("timing", "memory"):
        for name, value in (record.get(part) or {}).items():
            if isinstance(value, int | float):
                yield f"{part}/{name}", value
    yield "strategy/trainable", record["strategy"]["trainable"]
    if record.get("selected_epoch") is not None:
        yield "selected_epoch", record["selected_epoch"]


def _tags(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Digests, versions, the data's name: what tells one record from another."""
    for part in ("digests", "environment"):
        for name, value in record.get(part, {}).items():
            yield f"{part}.{name}", str(value)
    yield "data.title", record["data"]["card"]["title"]
    for name in ("status", "suite", "error", "command"):
        if record.get(name):
            yield name, record[name]


def _flat(values: Mapping[str, Any], between: str) -> Iterator[tuple[str, Any]]:
    """Nested keys joined."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from ((f"{key}{between}{inner}", v) for inner, v in _flat(value, between))
        else:
            yield key, value


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
