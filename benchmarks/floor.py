"""The least that VGG16 at 224 px can cost on an H200: operations and bytes by their data sheet's rates."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.work import Work

_GMAC = {"blocks1-4": 13.959, "block5": 1.387, "classifier": 0.1195}  # forward, an image
_TRAIN_GMAC = {"head_only": 0.256, "last_block": 4.058}  # a training step from activations, an image
_PARAMETERS = {"head_only": 119.55e6, "last_block": 126.63e6}
_FLOPS = 790e12  # a second, bf16 with fp32 sums, as large matrix products reach it
_BANDWIDTH = 4.65e12  # bytes a second of the 4.8e12 on the data sheet
_ADAM_BYTES = 37  # that a fused step moves for a parameter with fp32 state


@dataclass(frozen=True)
class Floor:
    """Seconds; decoding isn't counted."""

    prefix: float
    suffix: float
    adam: float

    @property
    def total(self) -> float:
        return self.prefix + self.suffix + self.adam


def floor(work: Work, counts: tuple[int, int, int]) -> Floor:
    """For a grid of head_only and last_block; ``counts`` images train, validate and test."""
    train, val, test = counts
    deep = _GMAC["block5"] if "head_only" in work.strategies else 0.0
    prefix = sum(counts) * (_GMAC["blocks1-4"] + deep)
    steps = work.epochs * -(-train // work.batch_size)
    suffix = moved = 0.0
    for cell in work.cells:
        forward = _GMAC["classifier"] + (_GMAC["block5"] if cell.strategy == "last_block" else 0.0)
        suffix += work.epochs * train * _TRAIN_GMAC[cell.strategy] + (work.epochs * val + test) * forward
        moved += steps * _PARAMETERS[cell.strategy] * _ADAM_BYTES
    return Floor(2e9 * prefix / _FLOPS, 2e9 * suffix / _FLOPS, moved / _BANDWIDTH)
