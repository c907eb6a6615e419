"""Heads: what stands on a backbone's features."""

from __future__ import annotations

import re

from torch import nn

from harness.errors import UsageError

_MLP = re.compile(r"mlp\[(\d+(?:,\d+)*)\]")
MLP_DROPOUT = 0.5


def check_head(head: str) -> str:
    """``head`` if it is ``own``, ``linear`` or ``mlp[512,256]``; else an error that says so."""
    text = head.replace(" ", "")
    if text in ("own", "linear") or (_MLP.fullmatch(text) and "0" not in _widths(text)):
        return text
    raise UsageError(
        f"unknown head '{head}' (there are: own, linear, mlp[512,256] with widths of your choice)"
    )


def new_head(head: str, features: int, num_classes: int) -> nn.Module:
    """``linear`` or ``mlp[...]`` on ``features`` flattened inputs: float ``[n, ...]`` to ``[n, classes]``."""
    layers: list[nn.Module] = [nn.Flatten()]
    if head != "linear":
        for width in map(int, _widths(head)):
            layers += [nn.Linear(features, width), nn.ReLU(), nn.Dropout(MLP_DROPOUT)]
            features = width
    return nn.Sequential(*layers, nn.Linear(features, num_classes))


def _widths(head: str) -> list[str]:
    match = _MLP.fullmatch(head)
    return match.group(1).split(",") if match else []
