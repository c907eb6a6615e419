"""Faults of a harness that are easily made and hard to see, each planted where it would be made."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import torch

import harness.cell_state
import harness.data.prepare
import harness.epoch
import harness.planner
import harness.pool
import harness.trainer
from harness.backbones.staged import NORM_LAYERS, Normalize
from harness.features import Features

Plant = Callable[[], AbstractContextManager[Any]]
LAST, BEFORE = "layer4", "layer3"  # resnet_tiny's last block, and the one that last_block freezes


def _assigning(change: Callable[[str, float | None], float | None]) -> Plant:
    """Every parameter's multiplier of the lr, as the plan is read, goes through ``change``."""
    original = harness.planner.assignments

    def assignments(*args: Any) -> Any:
        return tuple({n: change(n, scale) for n, scale in a.items()} for a in original(*args))

    return lambda: patch.object(harness.planner, "assignments", assignments)


def _factor(times: float) -> Plant:
    """A schedule whose learning rates are off; the optimizer's own, which audits see, are right."""
    original = harness.epoch.lr_factor

    def lr_factor(*args: Any) -> Callable[[int], float]:
        factor = original(*args)
        return lambda step: times * factor(step)

    return lambda: patch.object(harness.epoch, "lr_factor", lr_factor)


def _labels_shuffled() -> AbstractContextManager[Any]:
    """Labels one image further on than the images of their batch."""
    original = harness.epoch.Batch

    def batch(step: int, labels: torch.Tensor, *rest: Any) -> Any:
        return original(step, labels.roll(1), *rest)

    return patch.object(harness.epoch, "Batch", batch)


def _no_normalisation() -> AbstractContextManager[Any]:
    return patch.object(Normalize, "forward", lambda self, images: images.to(torch.float32).div(255))


def _norms_left_training() -> AbstractContextManager[Any]:
    """Frozen norm layers in train mode: their statistics go on moving."""
    original = harness.cell_state.apply_segment

    def apply_segment(model: Any, *rest: Any) -> None:
        original(model, *rest)
        for module in model.modules():
            if isinstance(module, NORM_LAYERS):
                module.train()

    return patch.object(harness.cell_state, "apply_segment", apply_segment)


def _evaluated_in_train_mode() -> AbstractContextManager[Any]:
    original = harness.trainer._evaluate

    def evaluate(cell: Any, *rest: Any) -> torch.Tensor:
        cell.model.eval = cell.model.train
        try:
            return original(cell, *rest)
        finally:
            del cell.model.eval

    return patch.object(harness.trainer, "_evaluate", evaluate)


def _val_and_test_swapped() -> AbstractContextManager[Any]:
    """Swapped after the split's digest was taken, where that digest can't tell."""
    original = harness.data.prepare.make_split

    def make_split(*args: Any) -> Any:
        split = original(*args)
        return replace(split, val=split.test, test=split.val)

    return patch.object(harness.data.prepare, "make_split", make_split)


def _stale_rows() -> AbstractContextManager[Any]:
    """Activations kept from before the images were put in another order."""
    original = harness.pool.FeaturePool.get

    def get(self: Any, *args: Any) -> Any:
        supply = original(self, *args)
        moved = {c: Features(f.rows.roll(1, 0)) if c else f for c, f in supply.features.items()}
        return replace(supply, features=moved)

    return patch.object(harness.pool.FeaturePool, "get", get)


def _stale_weights() -> AbstractContextManager[Any]:
    """Activations kept from the same network before it was pretrained."""
    original = harness.pool.compute_prefix

    def compute_prefix(model: Any, *args: Any, **rest: Any) -> None:
        other = copy.deepcopy(model)
        with torch.random.fork_rng():
            torch.manual_seed(1)
            for module in other.modules():
                if hasattr(module, "reset_parameters"):
                    module.reset_parameters()
        original(other, *args, **rest)

    return patch.object(harness.pool, "compute_prefix", compute_prefix)


FAULTS: Mapping[str, Plant] = {
    "none": nullcontext,
    "block not unfrozen": _assigning(lambda n, scale: None if n.startswith(LAST) else scale),
    "frozen block trained": _assigning(lambda n, scale: 1.0 if n.startswith(BEFORE) else scale),
    "labels shuffled": _labels_shuffled,
    "normalisation dropped": _no_normalisation,
    "lr x 10": _factor(10.0),
    "lr / 10": _factor(0.1),
    "norm layers left training": _norms_left_training,
    "evaluation in train mode": _evaluated_in_train_mode,
    "validation and test swapped": _val_and_test_swapped,
    "stale cache, other order": _stale_rows,
    "stale cache, other weights": _stale_weights,
}


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Everything inside runs with the fault."""
    with FAULTS[name]():
        yield
