"""Remake the embedded weights: ``python -m harness.backbones.pretrain_tiny --backbone NAME --out FILE``.

Trains a network on every attribute but the sample's target, on faces of people whom the sample
doesn't show. ``resnet_tiny`` keeps its batch norms; for ``vgg_tiny`` they only speed the training up
and are folded into the convolutions at the end. No dropout here: the run that adapts the network
brings its own.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from harness.backbones.embedded import PREPROCESS
from harness.backbones.plain_vgg import fold_batch_norm, rebalance, with_batch_norm
from harness.backbones.resnet_tiny import TinyResNet
from harness.backbones.vgg_tiny import TinyNetwork
from harness.data.face_drawing import draw
from harness.data.face_model import cast, imagine
from harness.data.face_scene import ATTRIBUTES

TARGET = "Smiling"  # never trained on
SEED = 2  # the sample's is another: other people, other images
IMAGES = 12_000
EPOCHS = 10
BATCH = 32
PEAK_LR = 2e-3
THREADS = 1  # fixed, as the order of sums depends on it
_SLICE = 200


@dataclass(frozen=True)
class Recipe:
    """A network, the module that is trained in its place, and what is done with both afterwards."""

    network: Callable[[], Any]
    trained: Callable[[Any], Any] = lambda network: network
    finish: Callable[[Any, Any], None] = lambda network, trained: None


def _finish_vgg(network: TinyNetwork, normed: nn.Sequential) -> None:
    fold_batch_norm(normed)
    rebalance(network)


RECIPES: Mapping[str, Recipe] = {
    "vgg_tiny": Recipe(TinyNetwork, with_batch_norm, _finish_vgg),
    "resnet_tiny": Recipe(TinyResNet),
}


def draw_images(seed: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs float32 ``[count, 3, 64, 64]``, normalised, and labels float32 ``[count, 17]``."""
    who, which = cast(seed, (count,))
    faces = imagine(seed, who, which)
    starts = range(0, count, _SLICE)
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        drawn = list(pool.map(lambda start: draw(faces.rows(start, start + _SLICE)), starts))
    pixels = torch.from_numpy(np.concatenate(drawn)).permute(0, 3, 1, 2)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (PREPROCESS.mean, PREPROCESS.std))
    columns = [i for i, name in enumerate(ATTRIBUTES) if name != TARGET]
    labels = torch.from_numpy(faces.attributes[:, columns].astype(np.float32))
    return pixels.float().div(255).sub(mean).div(std), labels


def pretrain(recipe: Recipe, epochs: int = EPOCHS, images: int = IMAGES) -> nn.Module:
    """The trained network, on the CPU; prints a line per epoch."""
    torch.manual_seed(SEED)
    torch.set_num_threads(THREADS)
    x, y = draw_images(SEED, images)
    x = x.contiguous(memory_format=torch.channels_last)
    network = recipe.network()
    trained = recipe.trained(network).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(trained.parameters(), lr=PEAK_LR)
    steps = images // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, PEAK_LR, total_steps=epochs * steps, pct_start=0.15
    )
    start = time.perf_counter()
    for epoch in range(epochs):
        trained.train()
        total = 0.0
        for rows in torch.randperm(images)[: steps * BATCH].view(steps, BATCH):
            loss = functional.binary_cross_entropy_with_logits(trained(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        seconds = time.perf_counter() - start
        print(f"epoch {epoch + 1}/{epochs}: loss {total / steps:.4f}, {seconds:.0f} s", flush=True)
    recipe.finish(network, trained)
    return network.eval()


def save(network: nn.Module, name: str, file: Path) -> None:
    """Weights in float16, what has one value a channel in float32, with what a reader of them must know."""
    tensors = {k: (v.half() if v.ndim > 1 else v).contiguous() for k, v in network.state_dict().items()}
    metadata = {
        "arch": name,
        "mean": ",".join(map(str, PREPROCESS.mean)),
        "std": ",".join(map(str, PREPROCESS.std)),
        "input_size": str(PREPROCESS.size),
        "license": "MIT",
        "source": f"python -m harness.backbones.pretrain_tiny --backbone {name}; "
        "drawn faces, every attribute but Smiling",
    }
    save_file(tensors, file, metadata=metadata)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Remake the embedded weights.")
    parser.add_argument("--backbone", choices=tuple(RECIPES), required=True)
    parser.add_argument("--out", type=Path, required=True, help="the .safetensors file to write")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--images", type=int, default=IMAGES)
    options = parser.parse_args()
    network = pretrain(RECIPES[options.backbone], options.epochs, options.images)
    save(network, options.backbone, options.out)


if __name__ == "__main__":
    main()
