"""Optimizers by name, and their state by parameter name (so that it survives a change of plan)."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

import torch

from harness.errors import UnknownName
from harness.spec import CHOICES

SGD_MOMENTUM = 0.9
_plain = inspect.unwrap


class _Uncompiled:
    """torch's optimizers without the guards that keep its compiler out of them.

    Nothing is compiled here, and the first call of a guard imports the compiler, which takes longer than
    to train a head. Where a method isn't guarded, unwrapping gives the method itself.
    """

    add_param_group = _plain(torch.optim.Optimizer.add_param_group)
    zero_grad = _plain(torch.optim.Optimizer.zero_grad)


class _Adam(_Uncompiled, torch.optim.Adam):
    step = torch.no_grad()(_plain(torch.optim.Adam.step))


class _AdamW(_Uncompiled, torch.optim.AdamW):
    step = torch.no_grad()(_plain(torch.optim.AdamW.step))


class _SGD(_Uncompiled, torch.optim.SGD):
    step = torch.no_grad()(_plain(torch.optim.SGD.step))


def make_optimizer(
    name: str,
    tensors: Mapping[str, torch.Tensor],
    scales: Mapping[str, float],
    lr: float,
    weight_decay: float,
    *,
    apart: bool = False,
) -> tuple[torch.optim.Optimizer, Mapping[int, str]]:
    """An optimizer over ``scales`` (parameter name -> multiplier of ``lr``), one group a multiplier.

    ``apart`` makes each parameter a group, whose learning rate can be set alone. Fused implementations
    are used. Returns it with the names of its parameters by identity.
    """
    together: dict[object, list[str]] = {}
    for parameter in sorted(scales, key=lambda n: scales[n], reverse=True):
        together.setdefault(parameter if apart else scales[parameter], []).append(parameter)
    groups: list[dict[str, object]] = []
    for members in together.values():
        rate = lr * scales[members[0]]
        groups.append({"params": [tensors[n] for n in members], "lr": rate, "base_lr": rate})
    names = {id(tensors[n]): n for n in scales}
    common = {"lr": lr, "weight_decay": weight_decay, "fused": True}
    if name == "adam":
        return _Adam(groups, **common), names  # type: ignore[arg-type]
    if name == "adamw":
        return _AdamW(groups, **common), names  # type: ignore[arg-type]
    if name == "sgd":
        return _SGD(groups, momentum=SGD_MOMENTUM, **common), names  # type: ignore[arg-type]
    raise UnknownName("optimizer", name, CHOICES["optimizer"])


def export_state(optimizer: torch.optim.Optimizer, names: Mapping[int, str]) -> dict[str, torch.Tensor]:
    """Copies of the optimizer's tensors under ``parameter/slot``."""
    return {
        f"{names[id(parameter)]}/{slot}": value.detach().clone()
        for parameter, slots in optimizer.state.items()
        for slot, value in slots.items()
        if isinstance(value, torch.Tensor)
    }


def import_state(
    optimizer: torch.optim.Optimizer, names: Mapping[int, str], state: Mapping[str, torch.Tensor]
) -> None:
    """Puts exported state back for every parameter that ``optimizer`` holds.

    Fused SGD wants momentum for all of a group or for none; zero is what a fresh start amounts to.
    """
    for group in optimizer.param_groups:
        fresh = []
        for parameter in group["params"]:
            prefix = f"{names[id(parameter)]}/"
            slots = {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}
            if slots:
                optimizer.state[parameter] = {
                    slot: _like(value, parameter) if slot != "step" else value.clone().to(parameter.device)
                    for slot, value in slots.items()
                }
            else:
                fresh.append(parameter)
        if isinstance(optimizer, torch.optim.SGD) and len(fresh) < len(group["params"]):
            for parameter in fresh:
                optimizer.state[parameter] = {"momentum_buffer": torch.zeros_like(parameter)}


def _like(value: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """``value`` with the device and memory layout of ``parameter``, which fused kernels expect."""
    copy = torch.empty_like(parameter)
    return copy.copy_(value)
