"""Image files by what people name: files, folders, patterns."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator
from pathlib import Path

from harness.data.folder import image_extensions, images_below
from harness.data.members import split_member
from harness.errors import DataError


def find_images(named: Iterable[str | Path]) -> tuple[str, ...]:
    """The image files that ``named`` means, each once, in the order they are named.

    A file is taken whatever its name ends in, and so is an image inside one (``FILE!/MEMBER``); of a folder
    all images below it, sorted, hidden ones passed over; anything else is a pattern (``faces/*.jpg``, ``**``
    for any depth), its matches sorted. Nothing is decoded. Raises DataError for a name behind which there is
    nothing.
    """
    found: dict[str, None] = {}
    for name in named:
        files = list(_behind(str(name)))
        if not files:
            raise DataError(f"there is no image at '{name}': a file, a folder or a pattern is expected")
        found |= dict.fromkeys(files)
    return tuple(found)


def _behind(name: str) -> Iterator[str]:
    path = Path(name).expanduser()
    inside = split_member(name)
    if inside is not None and Path(inside[0]).is_file():
        yield name
    elif path.is_dir():
        yield from sorted(map(str, images_below(path, image_extensions())))
    elif path.exists():
        yield str(path)
    elif glob.has_magic(name):
        # glob and not Path.glob, which takes no absolute patterns.
        for match in sorted(glob.glob(str(path), recursive=True)):  # noqa: PTH207
            yield from _behind(match) if Path(match).exists() else ()
