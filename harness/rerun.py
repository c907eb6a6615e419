"""A run trained again from its record alone, and what came out otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.errors import RecordError, UsageError
from harness.micro_batches import KEY, Change
from harness.progress import Progress
from harness.run_grid import run_grid
from harness.run_options import RunOptions
from harness.spec import Grid, RunSpec
from harness.store import RESULT, RunFolder
from harness.trained import recorded_weights

# Digests: of what a run depends on, and of what it learnt and answered to the test images.
CAUSES = ("code", "data", "split", "weights", "base")
RESULTS = ("checkpoint", "predictions")
_MATTERS = ("harness", "python", "torch", "torchvision", "timm", "numpy", "pillow", "simplejpeg",
            "platform", "device", "device_name", "threads", "processes")  # fmt: skip
_FIGURES = ("selected_epoch", "val", "test")


@dataclass(frozen=True)
class Difference:
    """One thing that isn't as it was; ``cause`` is true of what may be why, false of what came out."""

    name: str
    before: str
    now: str
    cause: bool


@dataclass(frozen=True)
class Rerun:
    """The record of a run, that of the same run trained again, and how they differ."""

    before: Mapping[str, Any]
    now: Mapping[str, Any]
    folder: Path

    @property
    def differences(self) -> tuple[Difference, ...]:
        """Causes first; none where every bit is the same and so is everything it depends on."""
        return tuple(_causes(self.before, self.now)) + tuple(_outcomes(self.before, self.now))

    @property
    def same(self) -> bool:
        """Whether every bit came out again: weights, predictions, figures, or the same failure."""
        return not list(_outcomes(self.before, self.now))


@dataclass(frozen=True)
class Moved:
    """Where things are now, if they aren't where the record says; None leaves what the record says."""

    data: Path | None = None
    weights: str | None = None
    device: str | None = None


def rerun(path: Path, out: Path, moved: Moved, progress: Progress) -> Rerun:
    """Trains the run in folder ``path`` again, in ``out``, which must hold no run of that name.

    Raises RecordError for a record that can't be read or doesn't say how to train.
    """
    before = RunFolder(path).result()
    try:
        spec = RunSpec.from_dict(before["spec"])
        data_path = before["data"].get("path")
        grid = Grid(
            data=spec.data,
            backbones=(spec.backbone,),
            weights={spec.backbone: moved.weights or recorded_weights(before)},
            heads=(spec.head,),
            strategies=(spec.strategy,),
            lrs=(spec.lr,),
            seeds=(spec.seed,),
            train=spec.train,
            suite=before.get("suite"),
        )
        options = RunOptions(
            out=out,
            data_path=moved.data or (Path(data_path) if data_path else None),
            device=moved.device or str(before["environment"]["device"]),
            threads=int(before["environment"]["threads"]),
            allow_random_frozen=True,  # where it wasn't allowed there is no record
            micro_batches=tuple(Change(**change) for change in before.get(KEY) or ()),
            argv=("rerun", str(path)),
        )
    except (KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
        raise RecordError(f"'{path / RESULT}' doesn't say how to train the run: {error!r}") from error
    if (out / str(before["run"]) / RESULT).exists():
        raise UsageError(f"'{out}' holds run '{before['run']}' already: name another folder with --out")
    (outcome,) = run_grid(grid, replace(options), progress)
    return Rerun(before, outcome.record, outcome.folder.path)


def _causes(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Difference]:
    for name in _MATTERS:
        # Earlier records don't say how many processes: it was one.
        old, new = (r["environment"].get(name, 1 if name == "processes" else None) for r in (before, now))
        if old != new:
            yield Difference(name, _short(old), _short(new), cause=True)
    for name in CAUSES:
        old, new = before["digests"].get(name), now["digests"].get(name)
        # A run that failed has no digest of what it started from.
        if old != new and None not in (old, new):
            yield Difference(f"digest of {name}", _short(old), _short(new), cause=True)


def _outcomes(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Difference]:
    for name in ("status", "error", *_FIGURES):
        if before.get(name) != now.get(name):
            yield Difference(name, _figure(before.get(name)), _figure(now.get(name)), cause=False)
    for name in RESULTS:
        old, new = before["digests"].get(name), now["digests"].get(name)
        if old != new:
            yield Difference(f"digest of {name}", _short(old), _short(new), cause=False)


def _short(value: object) -> str:
    text = "not recorded" if value is None else str(value)
    return text[:16] if len(text) == 64 else text


def _figure(value: object) -> str:
    if isinstance(value, Mapping):
        return f"accuracy {value.get('accuracy')}, loss {value.get('loss')}"
    return _short(value)
