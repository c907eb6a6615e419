"""Small folders of drawn images in the layouts that the readers know."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.contracts import DataCard, SampleTable

NAMES = ("Eyeglasses", "Male", "Smiling")
# the first three attributes of six faces, as CelebA's files write them
ROWS = ((-1, 1, 1), (1, -1, 1), (-1, -1, -1), (1, 1, -1), (-1, 1, 1), (-1, -1, -1))
FILES = tuple(f"{i:06d}.jpg" for i in range(1, len(ROWS) + 1))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))


def picture(seed: int = 0, size: tuple[int, int] = (20, 24)) -> Image.Image:
    """A smooth coloured picture of ``size`` (width, height)."""
    small = np.random.default_rng(seed).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def write_images(folder: Path, names: Sequence[str]) -> None:
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(picture(number), "JPEG"))
        os.utime(path, (1_000_000_000, 1_000_000_000))


def celeba_text(rows: Sequence[Sequence[int]] = ROWS, files: Sequence[str] = FILES) -> str:
    lines = [str(len(rows)), " ".join(NAMES) + " "]
    lines += [f"{f} " + " ".join(f"{v:2d}" for v in row) for f, row in zip(files, rows, strict=True)]
    return "\r\n".join(lines) + "\r\n"


def celeba_csv(first: str) -> str:
    lines = [",".join((first, *NAMES))]
    lines += [",".join((f, *map(str, row))) for f, row in zip(FILES, ROWS, strict=True)]
    return "\n".join(lines) + "\n"


@pytest.fixture
def celeba(tmp_path: Path) -> Path:
    """torchvision's layout, complete."""
    root = tmp_path / "faces"
    write_images(root / "img_align_celeba", FILES)
    (root / "list_attr_celeba.txt").write_text(celeba_text(), newline="")
    people = "".join(f"{f} {10 + i // 2}\n" for i, f in enumerate(FILES))
    (root / "identity_CelebA.txt").write_text(people)
    (root / "list_eval_partition.txt").write_text("".join(f"{f} {i % 3}\n" for i, f in enumerate(FILES)))
    return root


@pytest.fixture
def make_table() -> Callable[..., SampleTable]:
    """Tables without images: ``make_table([60, 40])`` holds 60 and 40 samples, mixed."""

    def make(counts: Sequence[int], **columns: object) -> SampleTable:
        labels = np.repeat(np.arange(len(counts)), counts)
        labels = np.random.default_rng(1).permutation(labels).astype(np.int64)
        ids = tuple(f"{i:06d}.jpg" for i in range(len(labels)))
        card = DataCard("drawn", "drawn for a test", "counted", "none")
        names = tuple(f"class{i}" for i in range(len(counts)))
        return SampleTable(ids, ids, labels, names, card, **columns)  # type: ignore[arg-type]

    return make
