"""A report's data with its pictures: what the templates see."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from reports import figures
from reports.model import Cell, Experiment
from reports.shots import GalleryView, Images, Jpeg, LoadImage, gallery_views
from reports.style import Picture


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
    stability: Picture | None
    costs: Picture | None
    ranking: Picture | None
    reliability: Picture | None
    confidences: Picture | None
    overlap: Picture | None
    slices: Picture | None
    cells: tuple[CellView, ...]
    galleries: tuple[GalleryView, ...]

    @property
    def pictures(self) -> list[Picture]:
        """All figures: each becomes a file of the Markdown report."""
        found = (
            *(self.accuracies, self.overview, self.stability, self.costs),
            *(picture for cell in self.cells for picture in (cell.curves, cell.confusion)),
            *(self.ranking, self.reliability, self.confidences, self.overlap, self.slices),
        )
        return [p for p in found if p is not None]

    @property
    def jpegs(self) -> Iterator[Jpeg]:
        """All pictures made of test images."""
        return (jpeg for gallery in self.galleries for jpeg in gallery.jpegs)


def view(e: Experiment, images: Images, load_image: LoadImage) -> View:
    """The experiment with its figures drawn and its examples loaded."""
    return View(
        experiment=e,
        accuracies=figures.accuracies(e),
        overview=figures.overview(e),
        stability=figures.stability_map(e.number, e.stability) if e.stability else None,
        costs=figures.cost_figure(e.number, e.costs),
        ranking=figures.ranking(e.number, e.probabilities),
        reliability=figures.reliability(e.number, e.probabilities),
        confidences=figures.confidences(e.number, e.probabilities),
        overlap=figures.overlap_matrix(e.number, e.overlap) if e.overlap else None,
        slices=figures.slice_figure(e.number, e.slices) if e.slices else None,
        cells=tuple(CellView(c, figures.curves(c), figures.confusion(c)) for c in e.cells),
        galleries=gallery_views(e.number, e.examples, images, load_image),
    )
