"""What goes into a suffix: activations at a cut, kept or computed anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

BATCH = 64


class FeatureSource(Protocol):
    """Rows of what a suffix takes, by their position in the sample table."""

    def batch(
        self, index: torch.Tensor, device: torch.device, mirror: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The rows at ``index`` (int64 ``[b]``) as a suffix takes them, channels last in memory.

        ``mirror`` (bool ``[b]``) picks the mirrored view of a row.
        """
        ...


@dataclass(frozen=True)
class Features:
    """Activations at a cut, or the images themselves at cut 0, held in memory or in a mapped file.

    ``rows`` is ``[n, height, width, channels]`` (or ``[n, features]``), in the order of the sample
    table; ``flipped`` holds the same for mirrored images where they are needed.
    """

    rows: torch.Tensor
    flipped: torch.Tensor | None = None

    def batch(
        self, index: torch.Tensor, device: torch.device, mirror: torch.Tensor | None = None
    ) -> torch.Tensor:
        """See :class:`FeatureSource`."""
        index = on_device(index, self.rows.device)
        picked = self.rows[index]
        if mirror is not None:
            # As positions, found on the host: a mask on the device would make the host wait for it.
            coins = on_device(mirror.nonzero().squeeze(1), self.rows.device)
            if self.flipped is None:  # cut 0: mirroring an image is cheap
                picked[coins] = picked[coins].flip(2)
            else:
                picked[coins] = self.flipped[index[coins]]
        return as_input(on_device(picked, device))

    @property
    def nbytes(self) -> int:
        views = [self.rows] if self.flipped is None else [self.rows, self.flipped]
        return sum(v.numel() * v.element_size() for v in views)


@dataclass(frozen=True)
class Recomputed:
    """Activations that fit nowhere: the frozen prefix runs again for every batch.

    Bit for bit what :class:`Features` would hold, since the prefix sees the same batch shape.
    ``prefix`` maps the rows of ``base`` to the cut.
    """

    base: FeatureSource
    prefix: nn.Module
    autocast: torch.dtype | None = None

    def batch(
        self, index: torch.Tensor, device: torch.device, mirror: torch.Tensor | None = None
    ) -> torch.Tensor:
        """See :class:`FeatureSource`."""
        found = []
        for start in range(0, len(index), BATCH):
            rows = slice(start, start + BATCH)
            x = self.base.batch(index[rows], device, None if mirror is None else mirror[rows])
            found.append(run_prefix(self.prefix, x, self.autocast)[: len(x)])
        return torch.cat(found)


def on_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """``tensor`` on ``device``. Towards a GPU the host doesn't wait: the copy goes by way of pinned memory.

    Towards the host it does, since the copy must be there before it is read.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def as_input(rows: torch.Tensor) -> torch.Tensor:
    """Rows as a network takes them: ``[n, h, w, c]`` seen as ``[n, c, h, w]``, without a copy."""
    return rows.permute(0, 3, 1, 2) if rows.dim() == 4 else rows


def as_rows(output: torch.Tensor) -> torch.Tensor:
    """The other way round: a network's output as rows."""
    return output.permute(0, 2, 3, 1) if output.dim() == 4 else output


def run_prefix(
    prefix: nn.Module, x: torch.Tensor, autocast: torch.dtype | None, size: int = BATCH
) -> torch.Tensor:
    """A frozen prefix on at most ``size`` rows, padded to that; returns all ``size`` outputs.

    Arithmetic depends on the shape of a batch; with this one shape a row's result doesn't depend on
    the rows beside it, nor on how many there are.
    """
    if len(x) < size:
        x = torch.cat([x, x[-1:].expand(size - len(x), *x.shape[1:])])
    if x.dim() == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    prefix.eval()
    with (
        torch.no_grad(),
        torch.autocast(x.device.type, dtype=autocast, enabled=autocast is not None),
    ):
        out: torch.Tensor = prefix(x)
    return out
