"""Small copies of test images: decoded and encoded anew, so that no metadata comes along."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

from PIL import Image, ImageOps

from harness.data.members import file_of, read_bytes
from harness.errors import HarnessError
from reports.model import Example

SIDE = 176  # the longest side in pixels
QUALITY = 85
BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)
KINDS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")


def thumbnail(example: Example) -> bytes | None:
    """A JPEG of the example's image, ``None`` where the file is gone or is no image."""
    path = find_image(example)
    try:
        return _encode(path) if path else None
    except (OSError, ValueError, SyntaxError, HarnessError, *BOMBS):
        return None


def find_image(example: Example) -> Path | None:
    """Where the example's file lies now, ``None`` where it is gone."""
    return next((path for path in _places(example) if _is_file(path)), None)


def to_jpeg(image: Image.Image) -> bytes:
    """The pixels of an RGB image and nothing else of it, as a JPEG."""
    bare = Image.new("RGB", image.size)
    bare.paste(image)
    target = io.BytesIO()
    bare.save(target, "JPEG", quality=QUALITY)
    return target.getvalue()


def _places(example: Example) -> list[Path]:
    path = Path(example.path)
    if path.is_absolute() or example.root is None:
        return [path]
    root = Path(example.root)
    return [path, root / path, root.parent / path]


def _is_file(path: Path) -> bool:
    try:
        return Path(file_of(str(path))).is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _encode(path: Path) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(io.BytesIO(read_bytes(str(path))), formats=KINDS) as opened:
            image = (ImageOps.exif_transpose(opened) or opened).convert("RGB")
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return to_jpeg(image)
