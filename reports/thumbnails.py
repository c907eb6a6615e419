"""Small copies of test images: decoded and encoded anew, so that no metadata comes along."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

from PIL import Image, ImageOps

from reports.model import Example

SIDE = 176  # the longest side in pixels
QUALITY = 85
BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)
KINDS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")


def thumbnail(example: Example) -> bytes | None:
    """A JPEG of the example's image, ``None`` where the file is gone or is no image."""
    for path in _places(example):
        try:
            if path.is_file():
                return _encode(path)
        except (OSError, ValueError, SyntaxError, *BOMBS):
            continue
    return None


def _places(example: Example) -> list[Path]:
    path = Path(example.path)
    if path.is_absolute() or example.root is None:
        return [path]
    root = Path(example.root)
    return [path, root / path, root.parent / path]


def _encode(path: Path) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(path, formats=KINDS) as opened:
            image = (ImageOps.exif_transpose(opened) or opened).convert("RGB")
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    bare = Image.new("RGB", image.size)
    bare.paste(image)
    target = io.BytesIO()
    bare.save(target, "JPEG", quality=QUALITY)
    return target.getvalue()
