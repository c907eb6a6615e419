"""Random augmentation: one shared forward pass of the frozen prefix an epoch for all cells of a seed.

Augmented images differ from epoch to epoch, so nothing of them is kept; but cells of one seed see
the same images in the same epoch, and share what the prefix makes of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn
from torchvision.transforms import v2

from harness.backbones.staged import StagedModel
from harness.errors import DataError
from harness.feature_keys import Conditions
from harness.features import Features, FeatureSource
from harness.placement import Placement
from harness.prefix import Load, compute_prefix, row_shapes
from harness.seeding import coins, derive_seed

_TRANSFORMS: Mapping[str, Callable[[int], nn.Module]] = {
    "crop": lambda size: v2.RandomResizedCrop(size, scale=(0.5, 1.0), antialias=True),
    "rotate": lambda size: v2.RandomRotation(15, v2.InterpolationMode.BILINEAR),
    "jitter": lambda size: v2.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2),
    "grayscale": lambda size: v2.RandomGrayscale(0.1),
    "blur": lambda size: v2.RandomApply([v2.GaussianBlur(5)], 0.3),
    "trivial": lambda size: v2.TrivialAugmentWide(),
    "erase": lambda size: v2.RandomErasing(0.25),
}


def transform(names: Sequence[str], size: int) -> v2.Compose:
    """The named transforms of torchvision's v2, for uint8 ``[3, size, size]``, in their fixed order."""
    return v2.Compose([make(size) for name, make in _TRANSFORMS.items() if name in names])


@dataclass(frozen=True)
class Subset:
    """Rows of some samples only. ``place`` is the position of each sample in ``rows``."""

    rows: Features
    place: torch.Tensor

    def batch(
        self, index: torch.Tensor, device: torch.device, mirror: torch.Tensor | None = None
    ) -> torch.Tensor:
        """See :class:`~harness.features.FeatureSource`."""
        return self.rows.batch(self.place[index], device, mirror)


@dataclass
class Augmentation:
    """Training rows anew in every epoch; validation and test rows once, as they are.

    ``images`` are the decoded ones, ``train`` and ``rest`` the positions (int64) of those that are
    augmented and of those that aren't.
    """

    model: StagedModel
    images: FeatureSource
    ids: tuple[str, ...]
    train: torch.Tensor
    rest: torch.Tensor
    names: tuple[str, ...]
    flip: bool
    conditions: Conditions
    room: Callable[[int], Placement]  # given the bytes that are held here already
    _stores: dict[int, torch.Tensor] = field(default_factory=dict)
    _held: int = 0
    _epoch: tuple[int, int] = (-1, -1)
    _found: dict[int, FeatureSource] = field(default_factory=dict)

    def at(self, seed: int, epoch: int, cuts: tuple[int, ...]) -> Mapping[int, FeatureSource]:
        """See :class:`~harness.cell.EpochSource`; asked again for the same epoch, nothing is computed."""
        if self._epoch != (seed, epoch):
            self._epoch, self._found = (seed, epoch), {}
        missing = [cut for cut in cuts if cut not in self._found]
        if missing:
            self._found |= self._compute(missing, self.train, self._augmented(seed, epoch), self._stores)
        return self._found

    def plain(self, cuts: tuple[int, ...]) -> Mapping[int, FeatureSource]:
        """Validation and test rows at ``cuts``."""
        cpu = torch.device("cpu")
        return self._compute(cuts, self.rest, lambda a, b: self.images.batch(self.rest[a:b], cpu), {})

    def _compute(
        self, cuts: Sequence[int], rows: torch.Tensor, load: Load, stores: dict[int, torch.Tensor]
    ) -> dict[int, FeatureSource]:
        autocast = self.conditions.autocast
        shapes, room = row_shapes(self.model, tuple(cuts), autocast), self.room(self._held)
        for cut in cuts:
            if cut not in stores:
                found, where = room.allocate((len(rows), *shapes[cut][0]), shapes[cut][1])
                if not found:
                    raise DataError("no room for one epoch of augmented images, in memory or on the disk")
                stores[cut] = found[0]
                self._held += 0 if where == "file" else found[0].nbytes
        compute_prefix(
            self.model,
            0,
            {cut: stores[cut] for cut in cuts},
            load,
            device=self.conditions.device,
            autocast=autocast,
        )
        place = torch.full((len(self.ids),), -1)
        place[rows] = torch.arange(len(rows))
        return {cut: Subset(Features(stores[cut]), place) for cut in cuts}

    def _augmented(self, seed: int, epoch: int) -> Load:
        steps = transform(self.names, self.model.preprocess.size)
        mirror = torch.from_numpy(coins(seed, "flip", epoch, ids=self.ids)) if self.flip else None

        def load(start: int, stop: int) -> torch.Tensor:
            index = self.train[start:stop]
            given = self.images.batch(index, torch.device("cpu"), None if mirror is None else mirror[index])
            found = []
            for row, image in zip(index.tolist(), given, strict=True):
                # The loader's thread is the only one that draws while the frozen prefix runs.
                torch.default_generator.manual_seed(derive_seed(seed, "augment", epoch, self.ids[row]))
                found.append(steps(image.contiguous()))
            return torch.stack(found).contiguous(memory_format=torch.channels_last)

        return load
