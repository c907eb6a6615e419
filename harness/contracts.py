"""The plugin contracts: what a strategy, a backbone and a dataset are.

Nothing here imports torch, so that a strategy stays plain data: it receives a description of
the stages and returns a schedule over them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, runtime_checkable

from harness.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    from harness.backbones.staged import StagedModel

Role = Literal["body", "neck", "classifier", "head"]


# --------------------------------------------------------------------------- stages


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

    @property
    def bias(self) -> bool:
        return self.name.rsplit(".", 1)[-1] == "bias"

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


# --------------------------------------------------------------------------- strategies


@dataclass(frozen=True)
class Selector:
    """Which parameters: every field that is given must match. Names may hold ``*`` and ``?``."""

    stage: str | None = None
    role: Role | None = None
    name: str | None = None
    kind: str | None = None
    bias: bool | None = None
    norm: bool | None = None

    def matches(self, parameter: ParameterInfo) -> bool:
        p = parameter
        return (
            (self.stage is None or fnmatchcase(p.stage, self.stage))
            and (self.role is None or p.role == self.role)
            and (self.name is None or fnmatchcase(p.name, self.name))
            and (self.kind is None or fnmatchcase(p.kind, self.kind))
            and (self.bias is None or p.bias == self.bias)
            and (self.norm is None or p.norm == self.norm)
        )


@dataclass(frozen=True)
class Group:
    """A selector and what happens to the parameters it selects.

    ``lr_scale`` multiplies the learning rate; ``None`` freezes.
    """

    selector: Selector
    lr_scale: float | None = 1.0


@dataclass(frozen=True)
class Plan:
    """Ordered groups; the first that matches a parameter decides, and every parameter needs one."""

    groups: tuple[Group, ...]

    def assign(self, stages: Sequence[StageInfo]) -> dict[str, float | None]:
        """Parameter name -> multiplier of the learning rate, or ``None`` where it is frozen."""
        return {p.name: self._scale(p) for stage in stages for p in stage.parameters}

    def _scale(self, parameter: ParameterInfo) -> float | None:
        for group in self.groups:
            if group.selector.matches(parameter):
                return group.lr_scale
        raise UsageError(
            f"no group of the plan names parameter '{parameter.name}'; every parameter needs one"
        )


def train(**which: object) -> Group:
    """A group that trains at the run's learning rate: ``train(role="head")``."""
    return Group(Selector(**which), 1.0)  # type: ignore[arg-type]


def freeze(**which: object) -> Group:
    """A group that stays frozen: ``freeze(stage="block1")``."""
    return Group(Selector(**which), None)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Segment:
    """A span of epochs with one plan.

    ``lr`` replaces the run's learning rate in this span; ``fresh_optimizer`` drops the
    optimizer's state at its start (parameters that begin to train always start without state).
    ``mode`` says how modules run: ``follow``, what trains in train mode and what is frozen in eval
    mode; ``eval``, all of the network in eval mode.
    """

    epochs: int
    plan: Plan
    mode: Literal["follow", "eval"] = "follow"
    lr: float | None = None
    fresh_optimizer: bool = False


@dataclass(frozen=True)
class Recipe:
    """What a strategy does with a backbone: its initialisation and its segments, in order."""

    segments: tuple[Segment, ...]
    init: Literal["pretrained", "random"] = "pretrained"

    @property
    def epochs(self) -> int:
        return sum(s.epochs for s in self.segments)

    def segment_at(self, epoch: int) -> int:
        """Index of the segment that epoch 1, 2, ... belongs to."""
        for index, segment in enumerate(self.segments):
            if epoch <= segment.epochs:
                return index
            epoch -= segment.epochs
        raise IndexError(epoch)


@runtime_checkable
class Strategy(Protocol):
    """A freezing strategy: a frozen dataclass whose fields are its options.

    ``source`` cites where the method comes from, ``summary`` says in one line what it trains. Where
    some options make it another strategy, a property ``canonical`` names that one. Registered under
    the entry-point group ``harness.strategies``.
    """

    source: ClassVar[str]
    summary: ClassVar[str]

    def recipe(self, stages: Sequence[StageInfo], epochs: int) -> Recipe: ...


# --------------------------------------------------------------------------- backbones


@dataclass(frozen=True)
class Preprocess:
    """How an image becomes the network's input; it belongs to the weights.

    The short side is resized to ``resize`` pixels (antialiased), the centre ``size`` x ``size``
    is cropped, values in 0..1 are normalised by ``mean`` and ``std`` (one each for R, G, B).
    """

    size: int
    resize: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"


@runtime_checkable
class Backbone(Protocol):
    """A network in named stages. Registered under ``harness.backbones``.

    ``name`` is canonical (``torchvision:vgg16``). A family registered under
    ``harness.backbone_families`` is a callable that turns the part after the colon into one.
    """

    name: str
    default_weights: str

    def build(self, weights: str, num_classes: int, head: str) -> StagedModel:
        """The network with its last layer replaced for ``num_classes`` classes.

        ``weights`` is ``imagenet``, a tag, a file's path, ``embedded`` or ``none``; ``head`` is
        ``own``, ``linear`` or ``mlp[...]``. What no weight covers is drawn from torch's default
        generator, which the caller has seeded.
        """
        ...


# --------------------------------------------------------------------------- data


@dataclass(frozen=True)
class DataCard:
    """What a reader of a report must know of the data."""

    title: str
    description: str
    labels: str  # where the labels come from and what they are
    license: str
    not_for: str = ""  # what a model trained on them must not be used for
    redistributable: bool = False  # may images of it be passed on?
    embedded: bool = False  # drawn by the package itself
    url: str = ""


@dataclass(frozen=True)
class SampleTable:
    """The samples of a dataset, column by column; row i of each column is sample i.

    ``labels`` is int64 ``[n]`` of indices into ``class_names``; ``attributes`` maps a name to
    int8 ``[n]`` of 0/1; ``groups`` (identities) and ``official`` (``train``, ``val``, ``test``)
    are there where the data have them. ``missing`` names samples that were listed but absent.
    """

    ids: tuple[str, ...]
    paths: tuple[str, ...]
    labels: np.ndarray
    class_names: tuple[str, ...]
    card: DataCard
    target: str | None = None
    groups: tuple[str, ...] | None = None
    official: tuple[str, ...] | None = None
    attributes: Mapping[str, np.ndarray] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: np.ndarray) -> SampleTable:
        """The samples at ``rows`` (int ``[m]``), in that order."""
        from dataclasses import replace

        def pick(column: tuple[str, ...] | None) -> tuple[str, ...] | None:
            return None if column is None else tuple(column[i] for i in rows)

        return replace(
            self,
            ids=tuple(self.ids[i] for i in rows),
            paths=tuple(self.paths[i] for i in rows),
            labels=self.labels[rows],
            groups=pick(self.groups),
            official=pick(self.official),
            attributes={k: v[rows] for k, v in self.attributes.items()},
        )


@runtime_checkable
class Dataset(Protocol):
    """A reader of samples. Registered under ``harness.datasets``.

    Nothing is decoded here and nothing is downloaded. ``default_split`` is ``stratified`` or
    ``official``.
    """

    name: str
    default_target: str | None
    default_split: str
    needs_path: bool

    def read(
        self, path: Path | None, *, target: str | None, missing: Literal["error", "skip"]
    ) -> SampleTable:
        """The samples below ``path``; raises :class:`~harness.errors.DataError` naming what is at fault."""
        ...
