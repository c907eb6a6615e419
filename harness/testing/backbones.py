"""What a backbone must keep to."""

from __future__ import annotations

import math
from functools import partial
from typing import get_args

import torch

from harness.backbones.staged import StagedModel
from harness.contracts import Backbone, Preprocess, Role
from harness.testing.claims import attempt, require, require_words

CLASS_COUNTS = (2, 3)
BATCH = 4  # one shape throughout: arithmetic depends on it
ROLES: tuple[Role, ...] = get_args(Role)  # in the order of the forward pass
SEED = 1


def check_backbone(backbone: Backbone) -> None:
    """Builds ``backbone`` without weights for 2 and for 3 classes and looks at what it built.

    Stages with names of their own and valid roles in order, one head, at the end; preprocessing that
    can be done; finite logits ``[n, classes]`` that are the same when asked twice and don't depend
    on the other images of the batch; at several cuts the stages before and after it give the
    network's own output bit for bit; the same seed gives the same tensors. AssertionError where not.
    """
    require_words(backbone, "name")
    require_words(backbone, "default_weights")
    for classes in CLASS_COUNTS:
        where = f"{type(backbone).__name__} with {classes} classes"
        model = _built(backbone, classes, where)
        _check_preprocess(model.preprocess, where)
        _check_stages(model, where)
        images = _images(model)
        with torch.no_grad():
            logits = _check_forward(model, images, classes, where)
            if model.cuttable:
                _check_cuts(model, images, logits, where)
        _check_repeats(model, _built(backbone, classes, where), where)


def _built(backbone: Backbone, classes: int, where: str) -> StagedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = attempt(
            f"{where}: build('none', {classes}, 'own')", lambda: backbone.build("none", classes, "own")
        )
    require(
        isinstance(model, StagedModel), f"{where}: build() gave a {type(model).__name__}, not a StagedModel"
    )
    return model.eval()


def _images(model: StagedModel) -> torch.Tensor:
    size = model.preprocess.size
    generator = torch.Generator().manual_seed(SEED)
    return torch.randint(0, 256, (BATCH, 3, size, size), dtype=torch.uint8, generator=generator)


def _check_preprocess(given: Preprocess, where: str) -> None:
    require(
        1 <= given.size <= given.resize,
        f"{where}: preprocess crops {given.size} px out of {given.resize} px",
    )
    require(
        len(given.mean) == 3 and all(math.isfinite(v) and 0 <= v <= 1 for v in given.mean),
        f"{where}: preprocess.mean is {given.mean}; it has to be three numbers in 0..1",
    )
    require(
        len(given.std) == 3 and all(math.isfinite(v) and v > 0 for v in given.std),
        f"{where}: preprocess.std is {given.std}; it has to be three positive numbers",
    )
    require(
        given.interpolation in ("bilinear", "bicubic"),
        f"{where}: preprocess.interpolation is {given.interpolation!r}",
    )


def _check_stages(model: StagedModel, where: str) -> None:
    stages = model.describe()
    shown = ", ".join(f"{s.name} ({s.role})" for s in stages)
    for stage in stages:
        require(
            stage.role in ROLES,
            f"{where}: stage '{stage.name}' has the role {stage.role!r} (there are: {', '.join(ROLES)})",
        )
    heads = [s for s in stages if s.role == "head"]
    require(len(heads) == 1, f"{where}: one stage is the head, not {len(heads)}: {shown}")
    require(bool(heads[0].parameters), f"{where}: the head '{heads[0].name}' has no parameters")
    # A network that runs as a whole has no order of stages.
    if model.cuttable:
        require(stages[-1].role == "head", f"{where}: the head isn't the last stage: {shown}")
        ranks = [ROLES.index(s.role) for s in stages]
        require(ranks == sorted(ranks), f"{where}: roles go {', '.join(ROLES)}; here: {shown}")
    covered = min(model.pretrained, default="")
    require(not covered, f"{where}: without weights nothing is pretrained, but '{covered}' is said to be")


def _check_forward(model: StagedModel, images: torch.Tensor, classes: int, where: str) -> torch.Tensor:
    """The logits of ``images``."""
    logits = attempt(f"{where}: the forward pass of {BATCH} images", lambda: model(images))
    require(
        isinstance(logits, torch.Tensor) and tuple(logits.shape) == (BATCH, classes),
        f"{where}: {BATCH} images give {_form(logits)}, not logits [{BATCH}, {classes}]",
    )
    require(bool(torch.isfinite(logits).all()), f"{where}: logits that aren't finite")
    require(torch.equal(model(images), logits), f"{where}: the same images give other logits the second time")
    require(
        torch.equal(model(_others(images))[0], logits[0]),
        f"{where}: an image's logits depend on the other images of its batch",
    )
    return logits


def _others(images: torch.Tensor) -> torch.Tensor:
    """The first image among others."""
    return torch.cat([images[:1], 255 - images[1:]])


def _check_cuts(model: StagedModel, images: torch.Tensor, logits: torch.Tensor, where: str) -> None:
    count = len(model.stage_names)
    for cut in sorted({1, count // 4, count // 2, 3 * count // 4, count - 1} & set(range(1, count))):
        before, after = model.section(0, cut), model.section(cut, count)
        name = model.stage_names[cut]
        kept = before(images)
        require(
            isinstance(kept, torch.Tensor),
            f"{where}: what goes into stage '{name}' is {_form(kept)}, not one tensor",
        )
        kept = kept.clone()
        before(255 - images)  # what a stage remembers of its last images mustn't reach the later ones
        found = attempt(f"{where}: stages from '{name}' on", partial(after, kept))
        require(
            torch.equal(found, logits),
            f"{where}: cut before '{name}', stages one after the other don't give the network's own output",
        )


def _check_repeats(model: StagedModel, again: StagedModel, where: str) -> None:
    first, second = dict(model.tensors()), dict(again.tensors())
    require(
        list(first) == list(second), f"{where}: built again with the same seed it has tensors of other names"
    )
    for name, tensor in first.items():
        require(
            torch.equal(tensor.detach(), second[name].detach()),
            f"{where}: built again with the same seed, '{name}' differs; draw from torch's default "
            "generator only",
        )


def _form(value: object) -> str:
    return str(list(value.shape)) if isinstance(value, torch.Tensor) else f"a {type(value).__name__}"
