"""A process beside the training that exports run folders while they grow.

It is one of its own, since trackers bring threads, signal handlers, settings and memory of theirs; the
training, in whichever processes it is, doesn't notice. What is followed comes line by line on standard
input, whose end means that nothing more will be trained.
"""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from harness.errors import HarnessError, RecordError
from harness.plugins import load_tracker
from harness.progress import Progress
from harness.trackers.export import Destination, TrackingFailed, export
from harness.trackers.read import signature

_EVERY = 1.0  # seconds between two looks at the folders
_PATIENCE = 60.0  # seconds that a command waits at its end for what is still to be exported


class Following:
    """Exports what :meth:`follow` names for as long as the ``with`` block lasts."""

    def __init__(self, trackers: Sequence[str], progress: Progress) -> None:
        self._trackers, self._progress = tuple(trackers), progress
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Following:
        for text in self._trackers:
            load_tracker(text)  # a name, an option or a package at fault ends the command before it begins
        if self._trackers:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__, *self._trackers],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the training; this ends when its input does
            )
        return self

    def follow(self, folders: Iterable[Path]) -> None:
        """Exports these runs from now on."""
        if self._process and self._process.stdin:
            lines = "".join(f"{folder.absolute()}\n" for folder in folders)
            with suppress(BrokenPipeError):  # it has gone, and has said why
                self._process.stdin.write(lines.encode())
                self._process.stdin.flush()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._process
        if process is None or process.stdin is None:
            return
        with suppress(BrokenPipeError):
            process.stdin.close()
        if error is not None and not isinstance(error, Exception):
            return  # stopped by a signal: it exports what there is, and ends by itself
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            self._progress.say(
                f"trackers took over {_PATIENCE:.0f} s: 'harness track' exports what is left, at any time"
            )


def main() -> None:
    """Follows the folders named on standard input for the trackers named as arguments."""
    trackers = [Destination(text, load_tracker(text)) for text in sys.argv[1:]]
    lines: queue.Queue[bytes | None] = queue.Queue()
    threading.Thread(target=_read, args=(lines,), daemon=True).start()
    seen: dict[Path, tuple[float, ...]] = {}
    ended = False
    while trackers and not ended:
        for line in _waiting(lines):
            if line is None:
                ended = True
            else:
                seen[Path(os.fsdecode(line))] = ()
        trackers = _look(trackers, seen)


def _read(lines: queue.Queue[bytes | None]) -> None:
    for line in sys.stdin.buffer:
        lines.put(line.rstrip(b"\n"))
    lines.put(None)


def _waiting(lines: queue.Queue[bytes | None]) -> Iterator[bytes | None]:
    """What has come, after a while without anything."""
    with suppress(queue.Empty):
        yield lines.get(timeout=_EVERY)
        while True:
            yield lines.get_nowait()


def _look(trackers: list[Destination], seen: dict[Path, tuple[float, ...]]) -> list[Destination]:
    """Exports what has changed; the trackers that go on, without those that failed."""
    for folder, before in seen.items():
        seen[folder] = signature(folder)
        if seen[folder] == before:
            continue
        for to in tuple(trackers):
            try:
                export(to, folder)
            except RecordError as error:
                print(f"{error}", file=sys.stderr, flush=True)
            except TrackingFailed as error:
                trackers = [t for t in trackers if t is not to]
                print(
                    f"{error}; training goes on without it, and 'harness track' exports later",
                    file=sys.stderr,
                    flush=True,
                )
    return trackers


if __name__ == "__main__":
    try:
        main()
    except HarnessError as error:
        sys.exit(f"trackers: {error}")
