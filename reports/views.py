"""A report's data with its pictures: what the templates see."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from reports import figures
from reports.model import Cell, Example, Experiment
from reports.style import Picture

Images = Literal["embed", "names", "none"]


@dataclass(frozen=True)
class Shot:
    """An example with its thumbnail, a JPEG, where there is one."""

    example: Example
    jpeg: bytes | None
    file: str

    @property
    def uri(self) -> str:
        return f"data:image/jpeg;base64,{base64.b64encode(self.jpeg or b'').decode()}"


@dataclass(frozen=True)
class CellView:
    """A cell with its figures."""

    cell: Cell
    curves: Picture | None
    confusion: Picture | None


@dataclass(frozen=True)
class View:
    """An experiment with everything that its part of the report shows."""

    experiment: Experiment
    accuracies: Picture
    overview: Picture | None
    cells: tuple[CellView, ...]
    shots: tuple[Shot, ...]

    @property
    def pictures(self) -> list[Picture]:
        """All figures: each becomes a file of the Markdown report."""
        found = [self.accuracies, self.overview, *(p for c in self.cells for p in (c.curves, c.confusion))]
        return [p for p in found if p is not None]


def view(e: Experiment, images: Images, load_image: Callable[[Example], bytes | None]) -> View:
    """The experiment with its figures drawn and its examples loaded."""
    shown = e.examples.shown if images != "none" else ()
    return View(
        experiment=e,
        accuracies=figures.accuracies(e),
        overview=figures.overview(e),
        cells=tuple(CellView(c, figures.curves(c), figures.confusion(c)) for c in e.cells),
        shots=tuple(
            Shot(example, load_image(example) if images == "embed" else None, f"example-{e.number}-{i}.jpg")
            for i, example in enumerate(shown, start=1)
        ),
    )
