"""How fast this machine computes a network: floating-point operations a second, by trying it."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from harness.backbones.staged import StagedModel
from harness.costs import CostModel

_LONG_ENOUGH = 0.3  # seconds that a measurement takes at least
_REPEATS = 64


def measured_rate(model: StagedModel, costs: CostModel, batch: int, autocast: torch.dtype | None) -> float:
    """Operations a second of a forward pass and a training step of the whole ``model``, where it lies.

    The batch grows up to ``batch`` images, as far as that takes a third of a second, and the last, largest
    one counts; images are noise. Nothing of the model changes.
    """
    parameters = [tensor for _, tensor in model.tensors() if isinstance(tensor, torch.nn.Parameter)]
    device, size = parameters[0].device, model.preprocess.size
    everything = {name: 1.0 for name, tensor in model.tensors() if isinstance(tensor, torch.nn.Parameter)}
    operations = costs.forward(0) + costs.training(0, everything)
    network = model.section(0, len(model.stage_names)).eval()
    flags = [parameter.requires_grad for parameter in parameters]

    def once(count: int) -> None:
        images = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, device=device)
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, autocast, enabled=autocast is not None):
            with torch.no_grad():
                network(images)
            output = network(images)
        torch.autograd.grad(output.float().sum(), parameters, allow_unused=True)

    try:
        for parameter in parameters:
            parameter.requires_grad_(True)
        count, seconds = 1, _seconds(once, 1, device)
        while seconds < _LONG_ENOUGH and count < batch:
            count = min(2 * count, batch)
            seconds = _seconds(once, count, device)
        return operations * count / seconds
    finally:
        for parameter, flag in zip(parameters, flags, strict=True):
            parameter.requires_grad_(flag)


def _seconds(once: Callable[[int], None], count: int, device: torch.device) -> float:
    """Seconds of one call, the first not counted; the mean of several where one is short."""
    once(count)
    _wait(device)
    began, calls = time.perf_counter(), 0
    while calls < _REPEATS and (calls == 0 or time.perf_counter() - began < _LONG_ENOUGH):
        once(count)
        _wait(device)
        calls += 1
    return (time.perf_counter() - began) / calls


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
