"""A run folder as typed values; the fields are those of ``docs/run-folder.md``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from harness.contracts import DataCard


@dataclass(frozen=True)
class Spec:
    """What was asked for; ``train`` and ``options`` as they are shown."""

    data: str
    target: str | None
    split: str
    group: str | None
    split_seed: int
    limit: int | None
    backbone: str
    weights: str
    head: str
    strategy: str
    strategy_name: str
    lr: float
    seed: int
    train: Mapping[str, str]


@dataclass(frozen=True)
class Epoch:
    """One epoch: losses in nats (``nan``: not finite, ``None``: not taken), accuracies as fractions."""

    epoch: int
    train_loss: float | None
    train_accuracy: float | None
    val_loss: float | None
    val_accuracy: float | None


@dataclass(frozen=True)
class ClassScores:
    """Figures of one class, as fractions and counts of images."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int
    right: int
    wrong: int


@dataclass(frozen=True)
class Scores:
    """Figures on one part of the data; rows of ``confusion`` are true classes."""

    n: int
    loss: float | None
    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    per_class: tuple[ClassScores, ...]
    confusion: tuple[tuple[int, ...], ...]

    @property
    def right(self) -> int:
        return sum(row[i] for i, row in enumerate(self.confusion))


@dataclass(frozen=True)
class DataFacts:
    """The samples behind a run; ``counts`` holds the images of each class in each part of the split."""

    card: DataCard
    path: str | None
    class_names: tuple[str, ...]
    counts: Mapping[str, tuple[int, ...]]
    missing: int


class RateSpan(NamedTuple):
    """A learning rate and the epochs, first and last, in which a stage trained at it."""

    first: int
    last: int
    lr: float


@dataclass(frozen=True)
class Stage:
    """One stage of the backbone; ``lr_scale`` is ``None`` where it stayed frozen.

    ``in_optimizer`` is ``None`` and ``lr`` empty in a record that was written before runs were audited.
    ``norm_changed`` is ``None`` without norm statistics; ``still`` maps tensors that trained in name
    only to what was seen of them.
    """

    name: str
    role: str
    parameters: int
    trained: int
    lr_scale: float | None
    random: bool
    moved: float | None
    in_optimizer: int | None
    lr: tuple[RateSpan, ...]
    norm_changed: bool | None
    still: Mapping[str, str]


@dataclass(frozen=True)
class BackboneFacts:
    """The network and how an image becomes its input."""

    name: str
    parameters: int
    size: int
    resize: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    stages: tuple[Stage, ...]
    random_stages: tuple[str, ...]

    @property
    def audited(self) -> bool:
        """Whether the record says what was in the optimizer."""
        return all(stage.in_optimizer is not None for stage in self.stages)

    @property
    def still(self) -> Mapping[str, str]:
        """What trained in name only, of all stages."""
        return {name: why for stage in self.stages for name, why in stage.still.items()}


@dataclass(frozen=True)
class StrategyFacts:
    """What was trained; ``prefix`` names the stages that every epoch left alone."""

    name: str
    options: Mapping[str, str]
    source: str
    summary: str
    trainable: int
    prefix: tuple[str, ...]


@dataclass(frozen=True)
class Timing:
    """Seconds; ``decode_s`` and ``prefix_s`` were spent once for ``prefix_shared_by`` cells."""

    decode_s: float
    prefix_s: float
    prefix_shared_by: int
    train_s: float
    total_s: float
    images_per_s: float | None


@dataclass(frozen=True)
class Memory:
    """The most bytes that were in use at once: on the ``device``, or by the whole ``process``."""

    of: str
    peak_bytes: int


@dataclass(frozen=True)
class Result:
    """What only a run that ended well has.

    ``val`` is ``None`` without validation images, ``memory`` where it was not recorded. ``micro_batches`` is
    in how many pieces a batch was computed, the most where that changed.
    """

    digests: Mapping[str, str]
    data: DataFacts
    backbone: BackboneFacts
    strategy: StrategyFacts
    selected_epoch: int
    val: Scores | None
    test: Scores
    timing: Timing
    memory: Memory | None
    micro_batches: int = 1


@dataclass(frozen=True)
class Predictions:
    """One entry a test image: indices of classes (int64 ``[n]``), probabilities (float64 ``[n, K]``)."""

    ids: tuple[str, ...]
    paths: tuple[str, ...]
    groups: tuple[str, ...]
    label: np.ndarray
    prediction: np.ndarray
    probabilities: np.ndarray
    attributes: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Record:
    """One run folder. ``result`` is ``None`` for a failed run, ``error`` then says why.

    ``digests`` and ``strategy`` are there for failed runs too, as far as their records have them.
    """

    folder: Path
    run: str
    suite: str | None
    spec: Spec
    history: tuple[Epoch, ...]
    environment: Mapping[str, str]
    command: str
    error: str | None
    digests: Mapping[str, str]
    strategy: StrategyFacts | None
    result: Result | None
