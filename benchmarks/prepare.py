"""What a benchmark needs before anything is measured: drawn images, weights in a file. Made once."""

from __future__ import annotations

import os
import shutil
import sys
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.presets import Preset

QUALITY = 90
PLUGINS = Path(__file__).with_name("plugins")


def offer_plugins() -> None:
    """Puts the benchmarks' own backbone on the import path, where the harness finds its entry point."""
    if str(PLUGINS) not in sys.path:
        sys.path.append(str(PLUGINS))


def parts_of(images: int, shares: tuple[float, float, float]) -> tuple[int, int, int]:
    """How many images train, validate and test."""
    val, test = round(images * shares[1]), round(images * shares[2])
    return images - val - test, val, test


def drawn_images(folder: Path, preset: Preset, images: int) -> Path:
    """A folder of drawn faces in CelebA's layout, drawn now where it isn't there yet."""
    from harness.data.faces import write_faces

    counts = parts_of(images, preset.parts)
    size = preset.image_size
    name = "-".join(map(str, (*(size or (64, 64)), *counts)))

    def make(draft: Path) -> None:
        write_faces(draft, counts)
        if size is not None:
            _enlarge_all(draft / "img_align_celeba", size)

    return _made_once(folder / f"images-{name}", make)


def _enlarge_all(folder: Path, size: tuple[int, int]) -> None:
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        list(pool.map(lambda path: _enlarge(path, size), sorted(folder.iterdir())))


def _enlarge(path: Path, size: tuple[int, int]) -> None:
    """Enlarged until it covers ``size``, its centre kept, with a JPEG's usual halved chroma."""
    from PIL import Image, ImageOps

    with Image.open(path) as opened:
        image = ImageOps.fit(opened, size, Image.Resampling.BICUBIC)
    image.save(path, "JPEG", quality=QUALITY)


def weights_file(folder: Path, preset: Preset) -> str:
    """Weights of the preset's backbone: as it says, else a file of random ones, drawn where it isn't there.

    Layers are frozen and shared only where weights cover them; what the values are costs no time.
    """
    if preset.weights is not None:
        return preset.weights
    offer_plugins()

    def make(draft: Path) -> None:
        import torch
        from safetensors.torch import save_file

        torch.manual_seed(0)
        draft.mkdir(parents=True)
        save_file(_native(preset.backbone).state_dict(), draft / "weights.safetensors")

    return str(_made_once(folder / f"weights-{preset.backbone}", make) / "weights.safetensors")


def _native(backbone: str):  # type: ignore[no-untyped-def]
    """The network as its authors built it, without stages and with all of its classes."""
    from harness.backbones.torchvision import TorchvisionBackbone

    if backbone == "vgg_quarter":
        from harness_benchmarks import quarter_network  # type: ignore[import-not-found]

        return quarter_network()
    return TorchvisionBackbone(backbone).native("none")[0]


def _made_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """``folder``, made beside its place and renamed, so that it appears whole or not at all."""
    if folder.is_dir():
        return folder
    print(f"making {folder.name}, once", file=sys.stderr, flush=True)
    draft = folder.with_name(f".{folder.name}-{uuid.uuid4().hex[:8]}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        make(draft)
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder
