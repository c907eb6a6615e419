"""What a strategy sees of a backbone: stages with their parameters. Descriptions only, no tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Role = Literal["body", "neck", "classifier", "head"]


@dataclass(frozen=True)
class ParameterInfo:
    """One parameter tensor as a strategy sees it."""

    name: str  # "STAGE.rest", unique in the model
    stage: str
    role: Role
    kind: str  # class name of the module that owns it, e.g. "Conv2d"
    shape: tuple[int, ...]
    norm: bool = False  # owned by a normalisation layer
    pretrained: bool = True  # False: it stayed at its random initialisation
    adapter: bool = False  # added to a layer by ``ConvLora``; as pretrained as the layer's own weight

    @property
    def bias(self) -> bool:
        return self.name.endswith("bias")  # attention has names such as in_proj_bias

    @property
    def numel(self) -> int:
        count = 1
        for side in self.shape:
            count *= side
        return count


@dataclass(frozen=True)
class StageInfo:
    """One stage of a backbone: a name, a role and its parameters, in the order of the forward pass."""

    name: str
    role: Role
    parameters: tuple[ParameterInfo, ...] = ()

    @property
    def numel(self) -> int:
        return sum(p.numel for p in self.parameters)


def body_blocks(stages: Sequence[StageInfo]) -> tuple[StageInfo, ...]:
    """The body stages that have parameters: what "the last k blocks" counts."""
    return tuple(s for s in stages if s.role == "body" and s.parameters)
