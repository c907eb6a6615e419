"""From run folders to trackers: what a store lacks is written, and nothing twice."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from harness.contracts import Tracker
from harness.errors import HarnessError
from harness.store import RunFolder
from harness.trackers.read import read_folder

_LOCK = ".tracking.lock"


@dataclass(frozen=True)
class Destination:
    """A tracker as it was asked for: ``text`` is ``mlflow[uri=...]``."""

    text: str
    tracker: Tracker


class TrackingFailed(HarnessError):
    """A tracker that could not take a run; whoever trains goes on."""


def export(to: Destination, folder: Path) -> bool:
    """Brings a run's entry in a store up to what its folder holds; whether anything was written.

    The store is asked what it has, so that an interruption of either side costs and doubles nothing. One
    process at a time looks and writes, of all that export from the same place. Raises TrackingFailed, which
    names the tracker, and RecordError where the folder can't be read.
    """
    seen = read_folder(RunFolder(folder))
    if seen is None or (seen.end is None and not to.tracker.live):
        return False
    try:
        with _alone(folder.parent):
            held = to.tracker.held(seen.run)
            if seen.end and any(h.digest == seen.end.digest for h in held):
                return False
            going = next((h for h in held if not h.digest and h.begins(seen.epochs)), None)
            new = [row for row in seen.epochs if going is None or row.epoch not in going.epochs]
            if going is not None and not new and seen.end is None:
                return False
            to.tracker.write(seen.run, going.key if going else None, new, seen.end)
    except Exception as error:
        raise TrackingFailed(f"tracker {to.text}: {folder.name}: {_reason(error)}") from error
    return True


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, HarnessError) else f"{type(error).__name__}: {text}"


@contextlib.contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Holds the lock of a folder of runs; where it can't be written, there is nobody to exclude."""
    if not os.access(place, os.W_OK):
        yield
        return
    with FileLock(place / _LOCK):
        yield
