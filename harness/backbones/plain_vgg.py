"""``vgg_tiny`` trains with batch norm and ships without: VGG16's plain layers that compute the same."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from harness.backbones.vgg_tiny import TinyNetwork

# What rebalance multiplies the weights of each layer by: ten convolutions of block1 to block4, three
# of block5, two layers of the classifier. Their product is 1.
FACTORS = (4.0,) * 8 + (8.0,) * 2 + (1 / 16, 1 / 64, 1 / 1024) + (1 / 2,) * 2


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
