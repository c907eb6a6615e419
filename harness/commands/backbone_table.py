"""What ``harness list backbones --match`` says of each network."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import groupby
from typing import TYPE_CHECKING

from harness import plugins

if TYPE_CHECKING:
    from harness.backbones.staged import StagedModel

CLASSES = 2  # of the head, as `harness show plan` has it
_FLOPS_PER_GMAC = 2e9
_NUMBERED = re.compile(r"(?P<stem>.*?)(?P<number>\d+)")


@dataclass(frozen=True)
class Network:
    """A network without weights: side of its images in pixels, parameters, GMACs of one image.

    ``gmacs`` is None where torch can't count them without data.
    """

    size: int
    stages: tuple[str, ...]
    parameters: int
    gmacs: float | None
    cuttable: bool


def matching(pattern: str) -> tuple[list[str], list[str]]:
    """Full names of the networks that ``pattern`` fits, and what is wrong with plugins that can't be asked.

    A pattern without ``*``, ``?`` or ``[`` fits wherever it occurs; one with a colon is held against
    ``FAMILY:NAME``. Those whose name begins with what was asked for come first.
    """
    asked, pattern = pattern, pattern if any(c in pattern for c in "*?[") else f"*{pattern}*"
    names = [name for name in plugins.find(plugins.BACKBONES) if fnmatchcase(name, pattern)]
    faults = [*plugins.clashes(plugins.BACKBONES).values(), *plugins.clashes(plugins.FAMILIES).values()]
    for family, found in plugins.find(plugins.FAMILIES).items():
        try:
            offered = tuple(plugins.load(plugins.FAMILIES, family, "backbone family").names())
        except plugins.PluginError as error:
            faults.append(str(error))
        except Exception as error:
            reason = _reason(error)
            faults.append(f"backbone family '{family}' of package {found.package} has no names: {reason}")
        else:
            full = [f"{family}:{name}" for name in offered]
            shown = full if ":" in pattern else offered
            names += [f for f, name in zip(full, shown, strict=True) if fnmatchcase(name, pattern)]
    return sorted(names, key=lambda name: _rank(name, asked)), faults


def _rank(name: str, asked: str) -> tuple[bool, list[str | int]]:
    own = name.rpartition(":")[2]
    return not own.startswith(asked), [int(t) if t.isdigit() else t for t in re.split(r"(\d+)", own)]


def look_into(name: str) -> Network | str:
    """The network as it would be built, or the reason why it can't be."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model = _built(name)
        except Exception as error:
            return f"can't be built: {_reason(error)}"
        return Network(
            size=model.preprocess.size,
            stages=model.stage_names,
            parameters=sum(p.numel() for p in model.parts.parameters()),
            gmacs=_gmacs(model),
            cuttable=model.cuttable,
        )


def _built(name: str) -> StagedModel:
    """On the meta device, where tensors have no data; on the CPU what can't be built there."""
    import torch

    backbone = plugins.load_backbone(name)
    try:
        with torch.device("meta"):
            return backbone.build("none", CLASSES, "own")
    except Exception:
        return backbone.build("none", CLASSES, "own")


def _gmacs(model: StagedModel) -> float | None:
    from harness.costs import CostModel

    try:
        return sum(CostModel(model).stages) / _FLOPS_PER_GMAC
    except Exception:  # anybody's forward pass, on tensors without data
        return None


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def table(names: Iterable[str], width: int) -> Iterator[str]:
    """A heading, then a line a network as soon as it was looked into; names are ``width`` wide."""
    yield f"{'network':<{width}}  {'px':>4}  {'parameters':>13}  {'GMACs':>8}  cut  stages"
    for name in names:
        found = look_into(name)
        if isinstance(found, str):
            yield f"{name:<{width}}  {found}"
            continue
        gmacs = "-" if found.gmacs is None else f"{found.gmacs:.3f}"
        yield (
            f"{name:<{width}}  {found.size:>4}  {found.parameters:>13,}  {gmacs:>8}  "
            f"{'yes' if found.cuttable else 'no':<3}  {stages_in_short(found.stages)}"
        )


def stages_in_short(names: Iterable[str]) -> str:
    """``stem layer1..layer4 pool head``."""

    def run(item: tuple[int, str]) -> tuple[str, int | str]:
        index, name = item
        match = _NUMBERED.fullmatch(name)
        return (match["stem"], int(match["number"]) - index) if match else (name, "")

    runs = [[name for _, name in group] for _, group in groupby(enumerate(names), run)]
    return " ".join(r[0] if len(r) == 1 else f"{r[0]}..{r[-1]}" for r in runs)
