"""One tree of errors. Each says what is wrong, where, and what to do.

    HarnessError            1   a run failed
    |-- UsageError          2   an option, a name or a combination of them
    |   |-- UnknownName     2   suggests the nearest name and lists what exists
    |   `-- PluginError     2   a plugin can't be loaded or clashes with another
    |-- DataError           3   images, labels, splits
    |-- WeightsError        3   a weight file that is absent or doesn't fit
    |-- RecordError         3   a run folder that can't be read
    `-- Locked              4   another process trains the same cell

A check that finds a figure outside its band exits with 5; that is a result and no error.

The number is the exit status of the command line. The message is one line.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HarnessError(Exception):
    """A failure that the user can act on; shown as one line, without a traceback."""

    exit_code = 1


class UsageError(HarnessError):
    """An option or a combination of options that makes no sense."""

    exit_code = 2


class PluginError(UsageError):
    """A plugin that can't be loaded, or two that claim one name."""


class DataError(HarnessError):
    """Images, labels or splits that can't be used as they are."""

    exit_code = 3


class WeightsError(HarnessError):
    """A weight file that is absent, unreadable or doesn't fit the network."""

    exit_code = 3


class RecordError(HarnessError):
    """A run folder that can't be read."""

    exit_code = 3


class Locked(HarnessError):
    """Another process holds the run."""

    exit_code = 4


class UnknownName(UsageError):
    """A name that doesn't exist: suggests the nearest one and lists what exists."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        shown = ", ".join(names[:40]) + (f", ... ({len(names)} in all)" if len(names) > 40 else "")
        super().__init__(f"unknown {kind} '{name}'{hint} (there are: {shown or 'none'})")
