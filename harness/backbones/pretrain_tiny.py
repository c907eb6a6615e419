"""Remake the embedded weights: ``python -m harness.backbones.pretrain_tiny --out FILE``.

Trains :class:`~harness.backbones.vgg_tiny.TinyNetwork` on every attribute but the sample's target,
on faces of people whom the sample doesn't show. Batch norm speeds the training up and is folded
into the convolutions at the end, which leaves VGG16's plain layers. No dropout here: the run that
adapts the network brings its own.
"""

from __future__ import annotations

import argparse
import os
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from harness.backbones.vgg_tiny import CLASSES, PREPROCESS, TinyNetwork
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
# What rebalance multiplies the weights of each layer by: ten convolutions of block1 to block4, three
# of block5, two layers of the classifier. Their product is 1.
FACTORS = (4.0,) * 8 + (8.0,) * 2 + (1 / 16, 1 / 64, 1 / 1024) + (1 / 2,) * 2
_SLICE = 200


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


def with_batch_norm(network: TinyNetwork) -> nn.Sequential:
    """``network`` with a batch norm behind each convolution; the layers themselves are shared."""
    layers: list[nn.Module] = []
    for layer in network.features:
        layers.append(layer)
        if isinstance(layer, nn.Conv2d):
            layers.append(nn.BatchNorm2d(layer.out_channels))
    late = [m for m in network.classifier if not isinstance(m, nn.Dropout)]
    return nn.Sequential(nn.Sequential(*layers), nn.Flatten(), *late)


@torch.no_grad()
def fold_batch_norm(normed: nn.Sequential) -> None:
    """Move what the batch norms do in eval mode into the convolutions before them."""
    body = normed[0]
    assert isinstance(body, nn.Sequential)
    for conv, norm in pairwise(body):
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            assert conv.bias is not None
            factor = norm.weight / (norm.running_var + norm.eps).sqrt()
            conv.weight.mul_(factor[:, None, None, None])
            conv.bias.copy_((conv.bias - norm.running_mean) * factor + norm.bias)


@torch.no_grad()
def rebalance(network: TinyNetwork) -> None:
    """Shrink the weights of the last block and the classifier; the network computes the same as before.

    Where ReLUs lie between, a layer's weights may be divided by what earlier layers' are
    multiplied by. Adam moves each weight by about the learning rate whatever its size, so the
    smaller the weights, the bolder a step. VGG16's wide last block adapts at 1e-4 and breaks down
    at 1e-3; one this narrow would bear far more. The factors bring its limit down to VGG16's: they
    were chosen for that. All are powers of two, which change no rounding.
    """
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)][:-1]
    gain = 1.0
    for layer, factor in zip(layers, FACTORS, strict=True):
        assert layer.bias is not None
        gain *= factor
        layer.weight.mul_(factor)
        layer.bias.mul_(gain)


def pretrain(epochs: int = EPOCHS, images: int = IMAGES) -> TinyNetwork:
    """The trained network, on the CPU; prints a line per epoch."""
    torch.manual_seed(SEED)
    torch.set_num_threads(THREADS)
    x, y = draw_images(SEED, images)
    x = x.contiguous(memory_format=torch.channels_last)
    network = TinyNetwork(CLASSES)
    normed = with_batch_norm(network).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(normed.parameters(), lr=PEAK_LR)
    steps = images // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, PEAK_LR, total_steps=epochs * steps, pct_start=0.15
    )
    start = time.perf_counter()
    for epoch in range(epochs):
        normed.train()
        total = 0.0
        for rows in torch.randperm(images)[: steps * BATCH].view(steps, BATCH):
            loss = functional.binary_cross_entropy_with_logits(normed(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        seconds = time.perf_counter() - start
        print(f"epoch {epoch + 1}/{epochs}: loss {total / steps:.4f}, {seconds:.0f} s", flush=True)
    fold_batch_norm(normed)
    rebalance(network)
    return network.eval()


def save(network: TinyNetwork, file: Path) -> None:
    """The network's weights in float16, its few biases in float32, with what a reader of them must know."""
    tensors = {k: (v.half() if v.ndim > 1 else v).contiguous() for k, v in network.state_dict().items()}
    metadata = {
        "arch": "vgg_tiny",
        "mean": ",".join(map(str, PREPROCESS.mean)),
        "std": ",".join(map(str, PREPROCESS.std)),
        "input_size": str(PREPROCESS.size),
        "license": "MIT",
        "source": "python -m harness.backbones.pretrain_tiny; drawn faces, every attribute but Smiling",
    }
    save_file(tensors, file, metadata=metadata)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Remake the embedded weights of vgg_tiny.")
    parser.add_argument("--out", type=Path, required=True, help="the .safetensors file to write")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--images", type=int, default=IMAGES)
    options = parser.parse_args()
    save(pretrain(options.epochs, options.images), options.out)


if __name__ == "__main__":
    main()
