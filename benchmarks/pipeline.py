"""Images a second from the bytes of JPEG files to a network's input, on one thread.

``python -m benchmarks.pipeline`` prints a Markdown table; ``--folder PATH`` takes the JPEG files of
a folder in place of drawn ones.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import torch
from PIL import Image
from torchvision import transforms

from harness.contracts import Preprocess
from harness.data.decode import resize_crop_each
from harness.data.face_drawing import draw
from harness.data.face_model import cast, imagine
from harness.data.image_file import decode

Pipeline = Callable[[Sequence[bytes]], list[np.ndarray]]

SIZE = 224
CELEBA = (178, 218)  # width, height
QUALITY = 90
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
AT_ONCE = 16  # as many as the harness gives a thread to load in one go

_PREPROCESS = Preprocess(SIZE, SIZE, MEAN, STD, "bilinear")
_USUAL = transforms.Compose(
    [
        transforms.Resize(SIZE),
        transforms.CenterCrop(SIZE),
        transforms.ToTensor(),
        transforms.Normalize(MEAN, STD),
    ]
)


def drawn_files(count: int) -> list[bytes]:
    """Faces drawn at 64 x 64 pixels, enlarged to CelebA's size."""
    who, which = cast(0, (count, 0, 0))
    return [_jpeg(pixels) for pixels in draw(imagine(0, who, which))]


def _jpeg(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).resize(CELEBA, Image.Resampling.BICUBIC).save(stream, "JPEG", quality=QUALITY)
    return stream.getvalue()


def files_of(folder: Path, count: int) -> list[bytes]:
    """Files spread evenly over a folder's JPEG files."""
    paths = sorted(folder.glob("*.jpg"))
    if not paths:
        raise SystemExit(f"{folder}: no .jpg files")
    return [path.read_bytes() for path in paths[:: max(len(paths) // count, 1)][:count]]


def ours(files: Sequence[bytes]) -> list[np.ndarray]:
    return list(resize_crop_each((decode(data, "image") for data in files), _PREPROCESS))


def with_pillow(files: Sequence[bytes]) -> list[np.ndarray]:
    return [np.asarray(_resize_crop(_opened(data))) for data in files]


def as_floats(files: Sequence[bytes]) -> list[np.ndarray]:
    return [_USUAL(_opened(data)).numpy() for data in files]


def _opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def _resize_crop(image: Image.Image) -> Image.Image:
    short = min(image.size)
    width, height = (int(SIZE * side / short) for side in image.size)
    left, top = round((width - SIZE) / 2), round((height - SIZE) / 2)
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    return resized.crop((left, top, left + SIZE, top + SIZE))


PIPELINES: dict[str, Pipeline] = {
    "harness, bytes": ours,
    "Pillow, bytes": with_pillow,
    "Pillow, torchvision, floats": as_floats,
}


def rates(files: Sequence[bytes], repeats: int) -> dict[str, float]:
    """Images a second: the median of ``repeats``, the pipelines taking turns."""
    seconds: dict[str, list[float]] = {name: [] for name in PIPELINES}
    for _ in range(repeats):
        for name, pipeline in PIPELINES.items():
            seconds[name].append(_timed(pipeline, files))
    return {name: len(files) / median(times) for name, times in seconds.items()}


def _timed(pipeline: Pipeline, files: Sequence[bytes]) -> float:
    """What comes of a few files is dropped before the next: no pipeline pays for fresh memory."""
    start = perf_counter()
    for at in range(0, len(files), AT_ONCE):
        pipeline(files[at : at + AT_ONCE])
    return perf_counter() - start


def difference(files: Sequence[bytes]) -> tuple[float, int]:
    """Against Pillow: the share of our values that differ, and by how many levels at most."""
    differ, most = 0, 0
    for data in files:
        apart = np.abs(ours([data])[0].astype(np.int16) - with_pillow([data])[0])
        differ, most = differ + int(np.count_nonzero(apart)), max(most, int(apart.max()))
    return differ / (len(files) * SIZE * SIZE * 3), most


def table(measured: dict[str, float]) -> str:
    first = next(iter(measured.values()))
    lines = ["| pipeline | images/s | harness against it |", "|---|---:|---:|"]
    lines += [f"| {name} | {rate:,.0f} | {first / rate:.2f} x |" for name, rate in measured.items()]
    return "\n".join(lines)


def main(arguments: Sequence[str] = ()) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pipeline", description=__doc__)
    parser.add_argument("--folder", type=Path, help="take the JPEG files of a folder")
    parser.add_argument("--images", type=int, default=320)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args(arguments)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        files = files_of(options.folder, options.images) if options.folder else drawn_files(options.images)
        share, most = difference(files)
        measured = rates(files, options.repeats)
    finally:
        torch.set_num_threads(threads)
    kind = "files" if options.folder else f"drawn faces of {CELEBA[0]} x {CELEBA[1]} pixels"
    print(f"{len(files)} {kind}, short side and crop {SIZE}, one thread, medians of {options.repeats}\n")
    print(table(measured))
    print(f"\nvalues that differ from Pillow's: {share:.1e}, by {most} at most")


if __name__ == "__main__":
    main(sys.argv[1:])
