"""The pieces of work that are measured, by name."""

from __future__ import annotations

from dataclasses import dataclass

from harness.spec import parse_lr

PIPELINE = "pipeline"  # a measurement of its own: benchmarks/pipeline.py


@dataclass(frozen=True)
class Preset:
    """A grid over drawn images. ``parts`` are the shares of train, val and test.

    ``image_size`` (width, height) is what the 64 x 64 drawings are enlarged to; None keeps them.
    ``weights`` None are random ones, drawn and saved once: a file's weights count as pretrained.
    """

    about: str
    backbone: str
    strategies: tuple[str, ...]
    lrs: tuple[float, ...]
    images: int
    parts: tuple[float, float, float] = (0.8, 0.1, 0.1)
    image_size: tuple[int, int] | None = (178, 218)
    weights: str | None = None
    epochs: int = 10
    batch_size: int = 64
    precision: str = "fp32"
    device: str = "cpu"
    floor: bool = False  # whether the arithmetic of benchmarks/floor.py fits


_ORIGINAL = {"strategies": ("head_only", "last_block"), "lrs": (1e-3, 1e-4)}

PRESETS = {
    "cpu-small": Preset(
        about="VGG16 at a quarter of its width, 224 px",
        backbone="vgg_quarter",
        images=640,
        **_ORIGINAL,  # type: ignore[arg-type]
    ),
    "cpu-embedded": Preset(
        about="the embedded sample and backbone, 64 px",
        backbone="vgg_tiny",
        weights="embedded",
        images=4000,
        parts=(0.6, 0.1, 0.3),
        image_size=None,
        **_ORIGINAL,  # type: ignore[arg-type]
    ),
    "small-heads": Preset(
        about="eight linear heads on ResNet-18, 224 px",
        backbone="resnet18",
        strategies=("head_only",),
        lrs=parse_lr("1e-4:1e-1:8"),
        images=300,
    ),
    "h200-origin": Preset(
        about="the original experiment's size: VGG16 at 224 px on one GPU",
        backbone="vgg16",
        images=30_000,
        precision="bf16",
        device="cuda",
        floor=True,
        **_ORIGINAL,  # type: ignore[arg-type]
    ),
}
