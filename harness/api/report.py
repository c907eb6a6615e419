"""A report that was written from Python, and shows itself in a notebook."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import UnknownName

_BUILD = ("title", "examples", "seed", "against", "slices")
_HEIGHT = 640  # pixels that a notebook gives the page


@dataclass(frozen=True)
class Report:
    """The files of a report; ``page`` is the one that opens from disk."""

    files: tuple[Path, ...]

    @property
    def page(self) -> Path:
        return next(file for file in self.files if file.name == "index.html")

    def _repr_html_(self) -> str:
        """The page within a frame: its scripts run, and reach nothing of the notebook."""
        page = html.escape(self.page.read_text(encoding="utf-8"), quote=True)
        return (
            f'<iframe srcdoc="{page}" sandbox="allow-scripts" title="Report" '
            f'style="width:100%;height:{_HEIGHT}px;border:1px solid #8888"></iframe>'
        )


def write(folders: Sequence[Path], out: Path, options: Mapping[str, Any]) -> Report:
    """Writes the report of the runs in ``folders``. Raises UsageError for options it doesn't know."""
    for name in options:
        if name not in (*_BUILD, "images"):
            raise UnknownName("option of a report", name, (*_BUILD, "images"))
    from reports.records import load_records
    from reports.render import write_report
    from reports.summary import build_report

    data = build_report(load_records(folders), **{k: v for k, v in options.items() if k in _BUILD})
    return Report(tuple(write_report(data, out, options.get("images", "names"))))
