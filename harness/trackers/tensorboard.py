"""TensorBoard: an event file a run, which grows by whole events only."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

from harness.tracked import Held, TrackedEnd, TrackedEpoch, TrackedRun

_FILE = "events.out.tfevents.{seconds:010d}.harness"
_END = "harness/record"  # tag of the text that names the record's digest
_FRAME = 16  # bytes around a record: its length, and a checksum each of that and of itself


@dataclass(frozen=True)
class TensorBoard:
    """Scalars by epoch, hyperparameters with final figures, the confusion matrix as a table.

    ``dir`` is what ``tensorboard --logdir`` is given; below it a folder a run, ``NAME.2`` for another
    training of the same cell. Figures are single precision, as TensorBoard's always are.
    """

    summary: ClassVar[str] = "event files for tensorboard --logdir DIR"
    needs: ClassVar[tuple[str, ...]] = ("tensorboard",)
    live: ClassVar[bool] = True

    dir: str = "tensorboard"

    def held(self, run: TrackedRun) -> tuple[Held, ...]:
        """What the event files of ``run`` hold."""
        return tuple(_held(folder) for folder in self._folders(run))

    def write(
        self, run: TrackedRun, key: str | None, epochs: Sequence[TrackedEpoch], end: TrackedEnd | None
    ) -> None:
        """Appends events to the folder ``key``, or begins one."""
        if key is None:
            number = len(self._folders(run)) + 1
            folder = Path(self.dir) / (run.name if number == 1 else f"{run.name}.{number}")
            file = folder / _FILE.format(seconds=int(run.started))
            events = list(_begin(run, folder.name))
        else:
            file, events = _files(Path(key))[-1], []
        for row in epochs:
            events += _scalars(row.epoch, row.at, row.figures)
        if end:
            events += _ended(end, int(run.params["train.epochs"]))
        _append(file, events)

    def _folders(self, run: TrackedRun) -> list[Path]:
        root = Path(self.dir)
        pattern = re.compile(re.escape(run.name) + r"(\.\d+)?")
        found = [p for p in root.glob(f"{run.name}*") if pattern.fullmatch(p.name) and _files(p)]
        return sorted(found, key=lambda p: int(p.suffix[1:]) if p.name != run.name else 1)


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("events.out.tfevents.*.harness"))


def _held(folder: Path) -> Held:
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    epochs: dict[int, dict[str, float]] = {}
    digest = ""
    for file in _files(folder):
        for event in LegacyEventFileLoader(str(file)).Load():
            for value in event.summary.value:
                if value.tag == _END:
                    digest = value.tensor.string_val[0].decode()
                elif value.HasField("simple_value") and "/" not in value.tag:
                    epochs.setdefault(event.step, {})[value.tag] = value.simple_value
    return Held(str(folder), epochs, digest)


def _begin(run: TrackedRun, name: str) -> Iterator[Any]:
    """What identifies the file, and the hyperparameters, which the tab of that name compares."""
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb

    yield _event(run.started, 0, file_version="brain.Event:2")
    yield _event(run.started, 0, summary=hparams_pb(dict(run.params), name, run.started))


def _scalars(step: int, at: float, figures: Mapping[str, float]) -> Iterator[Any]:
    from tensorboard.compat.proto.summary_pb2 import Summary

    values = [Summary.Value(tag=name, simple_value=value) for name, value in figures.items()]
    yield _event(at, step, summary=Summary(value=values))


def _ended(end: TrackedEnd, last: int) -> Iterator[Any]:
    """Final figures at the last epoch, the table, all tags; the digest comes last and seals the rest."""
    yield from _scalars(last, end.at, end.figures)
    if end.confusion:
        yield _text(end.at, "confusion", _table(end))
    yield _text(end.at, "tags", "\n".join(f"- **{name}**: `{value}`" for name, value in end.tags.items()))
    yield _text(end.at, _END, end.digest)


def _table(end: TrackedEnd) -> str:
    """Markdown, rows are true classes and columns predicted ones."""
    rows = [["true \\ predicted", *end.class_names], ["---"] * (len(end.class_names) + 1)]
    rows += [[name, *map(str, row)] for name, row in zip(end.class_names, end.confusion, strict=True)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _text(at: float, tag: str, text: str) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.text.metadata import create_summary_metadata
    from tensorboard.util.tensor_util import make_tensor_proto

    value = Summary.Value(
        tag=tag, metadata=create_summary_metadata(tag, ""), tensor=make_tensor_proto([text.encode()])
    )
    return _event(at, 0, summary=Summary(value=[value]))


def _event(at: float, step: int, **what: Any) -> Any:
    from tensorboard.compat.proto.event_pb2 import Event

    return Event(wall_time=at, step=step, **what)


def _append(file: Path, events: Sequence[Any]) -> None:
    """Adds whole events in one write, after whatever a killed writer left of one is cut off."""
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.summary.writer.record_writer import RecordWriter

    file.parent.mkdir(parents=True, exist_ok=True)
    if file.exists():
        whole = sum(len(record) + _FRAME for record in RawEventFileLoader(str(file)).Load())
        if file.stat().st_size > whole:
            os.truncate(file, whole)
    buffer = BytesIO()
    writer = RecordWriter(buffer)
    for event in events:
        writer.write(event.SerializeToString())
    with file.open("ab") as handle:
        handle.write(buffer.getvalue())
