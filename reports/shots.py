"""The images of a gallery as they are shown: small copies, and the heat laid over them."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from reports.heat import overlay
from reports.model import Answer, Cell, Example, Examples, Gallery

Images = Literal["embed", "names", "none"]
LoadImage = Callable[[Example], bytes | None]


@dataclass(frozen=True)
class Jpeg:
    """A small picture: its bytes, its name among the files of the Markdown report, what it shows."""

    content: bytes
    file: str
    alt: str

    @property
    def uri(self) -> str:
        return f"data:image/jpeg;base64,{base64.b64encode(self.content).decode()}"


@dataclass(frozen=True)
class Heat:
    """What spoke for a cell's answer; no picture where the map is 0 everywhere."""

    cell: Cell
    jpeg: Jpeg | None


@dataclass(frozen=True)
class Shot:
    """An example with its small copy, where there is one, and the heat of each cell that has some."""

    example: Example
    jpeg: Jpeg | None
    heats: tuple[Heat, ...]


@dataclass(frozen=True)
class GalleryView:
    """A gallery with its pictures; no shots where none are to be shown."""

    gallery: Gallery
    shots: tuple[Shot, ...]

    @property
    def jpegs(self) -> Iterator[Jpeg]:
        for shot in self.shots:
            yield from ([shot.jpeg] if shot.jpeg else [])
            yield from (heat.jpeg for heat in shot.heats if heat.jpeg)

    @property
    def stages(self) -> tuple[str, ...]:
        """Where the heat was read from, each stage once."""
        found = [a.stage for s in self.shots if s.heats for a in s.example.answers if a.heat]
        return tuple(dict.fromkeys(found))


def gallery_views(
    number: int, examples: Examples, images: Images, load: LoadImage
) -> tuple[GalleryView, ...]:
    """The galleries of experiment ``number``; an image that stands in several is loaded once."""
    loaded: dict[str, Jpeg | None] = {}

    def picture(example: Example) -> Jpeg | None:
        if example.name not in loaded:
            content = load(example) if images == "embed" else None
            file = f"example-{number}-{len(loaded) + 1}.jpg"
            loaded[example.name] = Jpeg(content, file, f"Test image {example.name}") if content else None
        return loaded[example.name]

    def shot(example: Example) -> Shot:
        jpeg = picture(example)
        heats = [_heat(answer, example, jpeg) for answer in example.answers] if jpeg else []
        return Shot(example, jpeg, tuple(heat for heat in heats if heat))

    if images == "none":
        return tuple(GalleryView(gallery, ()) for gallery in examples.galleries)
    return tuple(GalleryView(g, tuple(shot(example) for example in g.shown)) for g in examples.galleries)


def _heat(answer: Answer, example: Example, jpeg: Jpeg) -> Heat | None:
    if answer.heat is None:
        return None
    if not answer.heat.peak:
        return Heat(answer.cell, None)
    content = overlay(jpeg.content, answer.heat, answer.cell.result.backbone)
    file = jpeg.file.removesuffix(".jpg") + f"-cell-{answer.cell.number}.jpg"
    alt = f"What in {example.name} spoke for {answer.prediction}, by {answer.cell.name}"
    return Heat(answer.cell, Jpeg(content, file, alt))
