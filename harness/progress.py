"""Progress of long work: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

_FIRST_LINE_AFTER = 15.0  # seconds
_NEXT_LINE_AFTER = 1.25  # times the seconds of the line before: an hour's work is a dozen lines


class Progress:
    """Writes to ``stream`` (standard error by default), so that results on standard output stay clean."""

    def __init__(self, stream: TextIO | None = None, quiet: bool = False) -> None:
        self._stream = stream or sys.stderr
        self._quiet = quiet

    @property
    def _terminal(self) -> bool:
        return self._stream.isatty()

    def say(self, text: str) -> None:
        """One line."""
        if not self._quiet:
            print(text, file=self._stream, flush=True)

    @contextmanager
    def task(self, text: str, total: int, unit: str) -> Iterator[Task]:
        """A span of work of ``total`` units; the task it yields is told how far it got."""
        if self._quiet or not self._terminal:
            yield Task(self, text, total, unit)
            return
        from tqdm import tqdm

        with tqdm(total=total, desc=text, unit=unit, file=self._stream, leave=False) as bar:
            yield _Bar(self, text, total, unit, bar)


class Task:
    """Plain lines, ever rarer; none for work of a few seconds."""

    def __init__(self, progress: Progress, text: str, total: int, unit: str) -> None:
        self._progress, self._text, self._total, self._unit = progress, text, total, unit
        self._done = 0
        self._began = time.monotonic()
        self._next = _FIRST_LINE_AFTER

    def advance(self, count: int) -> None:
        """``count`` more units are done."""
        self._done += count
        elapsed = time.monotonic() - self._began
        if elapsed >= self._next and self._done < self._total:
            self._next = elapsed * _NEXT_LINE_AFTER
            left = elapsed / self._done * (self._total - self._done)
            self._progress.say(
                f"{self._text}: {self._done}/{self._total} {self._unit}, about {left:.0f} s to go"
            )


class _Bar(Task):
    def __init__(self, progress: Progress, text: str, total: int, unit: str, bar: object) -> None:
        super().__init__(progress, text, total, unit)
        self._bar = bar

    def advance(self, count: int) -> None:
        self._bar.update(count)  # type: ignore[attr-defined]
