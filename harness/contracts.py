"""The plugin contracts: what a strategy, a backbone, a dataset, a tracker and an engine (``work.py``) are.

Nothing here imports torch, so that a strategy stays plain data: it receives a description of
the stages and returns a schedule over them (``recipes.py``, whose names are offered here too).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, runtime_checkable

from harness.adaptive import Adaptation, GradientStatistics
from harness.recipes import (
    ConvLora,
    Group,
    GroupLasso,
    OneCycle,
    Plan,
    Recipe,
    Schedule,
    Segment,
    Selector,
    StartPenalty,
    Taps,
    decayed,
    freeze,
    train,
)
from harness.stage_info import ParameterInfo, Role, StageInfo, body_blocks
from harness.tracked import Held, TrackedEnd, TrackedEpoch, TrackedRun
from harness.work import Again, Ended, Engine, Need, Stop, Unit, Workers

if TYPE_CHECKING:
    import numpy as np

    from harness.backbones.staged import StagedModel

__all__ = [
    "UNSTATED",
    "Adaptation",
    "Again",
    "Backbone",
    "ConvLora",
    "DataCard",
    "Dataset",
    "Ended",
    "Engine",
    "GradientStatistics",
    "Group",
    "GroupLasso",
    "Held",
    "Need",
    "OneCycle",
    "ParameterInfo",
    "Plan",
    "Preprocess",
    "Recipe",
    "Role",
    "SampleTable",
    "Schedule",
    "Segment",
    "Selector",
    "StageInfo",
    "StartPenalty",
    "Stop",
    "Strategy",
    "Taps",
    "TrackedEnd",
    "TrackedEpoch",
    "TrackedRun",
    "Tracker",
    "Unit",
    "Workers",
    "body_blocks",
    "decayed",
    "freeze",
    "train",
]

# --------------------------------------------------------------------------- strategies


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


UNSTATED = "Not stated; ask whoever the images come from."  # a licence that nobody knows


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


# --------------------------------------------------------------------------- trackers


@runtime_checkable
class Tracker(Protocol):
    """An exporter of what run folders hold: a frozen dataclass whose fields are its options.

    ``summary`` says in one line where it exports to, ``needs`` names the modules that must be there, ``live``
    says whether it takes a run before it has ended.
    It may be called at any time, from any process, again after an interruption: what it has written
    before it learns from its store. Registered under the entry-point group ``harness.trackers``.
    """

    summary: ClassVar[str]
    needs: ClassVar[tuple[str, ...]]
    live: ClassVar[bool]

    def held(self, run: TrackedRun) -> Sequence[Held]:
        """What the store has under the run's name: an entry for each training of that cell."""
        ...

    def write(
        self, run: TrackedRun, key: str | None, epochs: Sequence[TrackedEpoch], end: TrackedEnd | None
    ) -> None:
        """Adds ``epochs`` and, once there is one, the end to the entry ``key``, or to a new one (None).

        Whatever it raises is shown as one line; no training stops for it.
        """
        ...
