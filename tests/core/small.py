"""A network of a few kilobytes with everything that freezing can get wrong, and images for it."""

from __future__ import annotations

import os
import signal
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from harness.backbones.staged import Stage, StagedModel
from harness.backbones.transforms import transformed
from harness.cell import Cell, TrainData
from harness.contracts import Preprocess, Recipe, Segment, StageInfo, Strategy
from harness.features import Features
from harness.freezing import assignments, shared_cuts
from harness.planner import tapped_cuts
from harness.prefix import compute_prefix, row_shapes
from harness.spec import TrainSpec

SIZE = 32
PREPROCESS = Preprocess(SIZE, SIZE, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
CPU = torch.device("cpu")


def small_net(num_classes: int = 2, covered: bool = True) -> StagedModel:
    """Three convolutional stages (batch norm, dropout, batch norm), pooling, a classifier, a head."""
    body = {
        "block1": [nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU()],
        "block2": [nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU(), nn.Dropout(0.3)],
        "block3": [nn.Conv2d(8, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU()],
    }
    stages = [Stage(n, nn.Sequential(*layers), "body") for n, layers in body.items()]
    stages += [
        Stage("pool", nn.Sequential(nn.AvgPool2d(4), nn.Flatten()), "neck"),
        Stage("fc", nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Dropout(0.5)), "classifier"),
        Stage("head", nn.Sequential(OrderedDict(linear=nn.Linear(16, num_classes))), "head"),
    ]
    model = StagedModel(stages, PREPROCESS)
    if covered:
        generator = torch.Generator().manual_seed(7)
        names = [n for n, _ in model.tensors() if not n.startswith("head.")]
        with torch.no_grad():
            for name, tensor in model.tensors():
                if name in names and tensor.is_floating_point():
                    noise = torch.randn(tensor.shape, generator=generator)
                    tensor.copy_(noise.abs() + 0.5 if "running_var" in name else 0.3 * noise)
        model.pretrained = frozenset(names)
    return model


class Planned:
    """A strategy of given segments."""

    source = summary = "a test"

    def __init__(self, *segments: Segment) -> None:
        self.segments = segments

    def recipe(self, stages: Sequence[StageInfo], epochs: int) -> Recipe:
        return Recipe(self.segments)


class Small:
    """The small network as a backbone."""

    name = "small"
    default_weights = "drawn"

    def build(self, weights: str, num_classes: int, head: str) -> StagedModel:
        return small_net(num_classes, covered=weights == "drawn")


class Grouped(Small):
    """The same with group norm in place of batch norm, and without dropout; its options say otherwise."""

    name = "grouped"

    def build(self, weights: str, num_classes: int, head: str) -> StagedModel:
        model = small_net(num_classes, covered=weights == "drawn")
        for stage in model.parts.values():
            for name, module in list(stage.named_children()):
                if isinstance(module, nn.Dropout):
                    module.p = float(os.environ.get("GROUPED_DROPOUT", "0"))
                elif isinstance(module, nn.BatchNorm2d):
                    setattr(stage, name, nn.GroupNorm(2, module.num_features))
        room = int(os.environ.get("GROUPED_ROOM", "64"))
        model.parts["block3"].register_forward_pre_hook(partial(_refuse_more_than, room))
        model.parts["block3"].register_forward_pre_hook(_Fate())
        return model


class _Fate:
    """Of a process that ends, or fails, in the middle of a training: after so many batches."""

    def __init__(self) -> None:
        self.left = {name: int(os.environ.get(f"GROUPED_{name}", "-1")) for name in ("KILLED", "BROKEN")}

    def __call__(self, module: nn.Module, given: tuple[torch.Tensor]) -> None:
        for name, left in self.left.items():
            self.left[name] = left - module.training
            if left == 0 and name == "KILLED":
                os.kill(os.getpid(), signal.SIGKILL)
            elif left == 0:
                raise ZeroDivisionError("a fault of the plugin")


def _refuse_more_than(room: int, module: nn.Module, given: tuple[torch.Tensor]) -> None:
    """A device on which only so many images fit while their gradients are wanted."""
    if module.training and len(given[0]) > room:
        raise torch.OutOfMemoryError("CUDA out of memory")


def small_images(count: int, size: int = SIZE) -> tuple[torch.Tensor, torch.Tensor]:
    """uint8 images and their labels: class 1 is redder than class 0, with some overlap."""
    rng = np.random.default_rng(5)
    labels = np.arange(count) % 2
    images = rng.integers(0, 200, (count, 3, size, size))
    images[:, 0] += (labels * 35 + rng.integers(0, 20, count))[:, None, None]
    return torch.from_numpy(images.clip(0, 255).astype(np.uint8)), torch.from_numpy(labels)


def write_folder(root: Path, count: int = 60) -> Path:
    """Class folders of PNG files."""
    images, labels = small_images(count)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = root / ("red" if label else "grey") / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    return root


def write_plugin(site: Path, package: str, entry_points: Mapping[str, Mapping[str, str]]) -> Path:
    """A distribution as pip leaves it: ``entry_points`` maps a group to name -> module:object."""
    info = site / f"{package.replace('-', '_')}-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n")
    lines = []
    for group, points in entry_points.items():
        lines += [f"[{group}]", *(f"{name} = {target}" for name, target in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return site


def image_features(count: int, size: int = SIZE) -> tuple[Features, torch.Tensor]:
    images, labels = small_images(count, size)
    return Features(images.permute(0, 2, 3, 1).contiguous()), labels


def train_data(
    features: Features, labels: torch.Tensor, train: range, val: range, num_classes: int = 2
) -> TrainData:
    ids = tuple(f"{i}.png" for i in range(len(labels)))
    return TrainData(
        {0: features}, labels, torch.tensor(list(train)), torch.tensor(list(val)), ids, num_classes
    )


def make_cell(
    model: StagedModel,
    strategy: Strategy,
    *,
    lr: float = 1e-2,
    seed: int = 3,
    cut: int | None = 0,
    **settings: object,
) -> Cell:
    """A cell; ``cut=None`` takes the deepest cut that the strategy allows."""
    spec = TrainSpec(**{"epochs": 2, "batch_size": 16, **settings})  # type: ignore[arg-type]
    recipe = strategy.recipe(model.describe(), spec.epochs)
    model = transformed(model, recipe.taps, recipe.adapters, 2)
    stages = model.describe()
    assigned = assignments(recipe, stages)
    deepest = tapped_cuts(recipe, shared_cuts(assigned, stages), stages)
    cuts = deepest if cut is None else (cut,) * len(deepest)
    return Cell(model, cuts, recipe, assigned, lr, seed, spec, CPU, copies(model))


def prefix_features(
    model: StagedModel,
    pixels: torch.Tensor,
    cuts: Sequence[int],
    mirror: bool = False,
    autocast: torch.dtype | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> dict[int, Features]:
    """Activations of uint8 images ``[n, 3, s, s]`` at every cut, in one pass a view."""
    shapes = row_shapes(model, tuple(cuts), autocast)
    views = []
    for given in (pixels, pixels.flip(3)) if mirror else (pixels,):
        stores = {
            cut: torch.empty((len(pixels), *shape), dtype=dtype) for cut, (shape, dtype) in shapes.items()
        }
        compute_prefix(
            model,
            0,
            stores,
            lambda a, b, given=given: given[a:b],
            device=CPU,
            autocast=autocast,
            progress=progress,
        )
        views.append(stores)
    return {cut: Features(*(view[cut] for view in (views if cut else views[:1]))) for cut in shapes}


def copies(model: StagedModel) -> dict[str, torch.Tensor]:
    return {n: t.detach().clone() for n, t in model.tensors()}
