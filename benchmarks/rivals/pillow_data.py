"""Data as the tutorials load them: Pillow and torchvision's transforms in a DataLoader, each epoch again."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision import transforms

from benchmarks.setting import Setting


class PillowImages(Dataset[tuple[torch.Tensor, int]]):
    """Some rows of the samples: float ``[3, size, size]``, normalised, and the label."""

    def __init__(self, setting: Setting, rows: torch.Tensor) -> None:
        p = setting.initial.preprocess
        self._paths = [setting.paths[i] for i in rows.tolist()]
        self._labels: list[int] = setting.labels[rows].tolist()
        self._transform = transforms.Compose(
            [
                transforms.Resize(p.resize, transforms.InterpolationMode(p.interpolation)),
                transforms.CenterCrop(p.size),
                transforms.ToTensor(),
                transforms.Normalize(p.mean, p.std),
            ]
        )

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        with Image.open(self._paths[row]) as image:
            return self._transform(image.convert("RGB")), self._labels[row]


class EpochOrder(Sampler[int]):
    """The harness's order of samples instead of a shuffle; epochs count from 0, as everywhere in torch."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._setting.train)

    def __iter__(self) -> Iterator[int]:
        return iter(self._setting.order(self._epoch + 1).tolist())


def train_loader(setting: Setting, order: EpochOrder) -> DataLoader[tuple[torch.Tensor, int]]:
    return _loader(setting, setting.train, order)


def eval_loader(setting: Setting, rows: torch.Tensor) -> DataLoader[tuple[torch.Tensor, int]]:
    return _loader(setting, rows, None)


def _loader(
    setting: Setting, rows: torch.Tensor, order: EpochOrder | None
) -> DataLoader[tuple[torch.Tensor, int]]:
    work = setting.work
    data = PillowImages(setting, rows)
    return DataLoader(data, work.batch_size, sampler=order, num_workers=work.loader_workers)
