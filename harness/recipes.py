"""What a strategy answers: a schedule over stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from harness.adaptive import Adaptation
from harness.errors import UsageError
from harness.stage_info import ParameterInfo, Role, StageInfo


@dataclass(frozen=True)
class Selector:
    """Which parameters: every field that is given must match. Names may hold ``*`` and ``?``."""

    stage: str | None = None
    role: Role | None = None
    name: str | None = None
    kind: str | None = None
    bias: bool | None = None
    norm: bool | None = None
    adapter: bool | None = None

    def matches(self, parameter: ParameterInfo) -> bool:
        p = parameter
        return (
            (self.stage is None or fnmatchcase(p.stage, self.stage))
            and (self.role is None or p.role == self.role)
            and (self.name is None or fnmatchcase(p.name, self.name))
            and (self.kind is None or fnmatchcase(p.kind, self.kind))
            and (self.bias is None or p.bias == self.bias)
            and (self.norm is None or p.norm == self.norm)
            and (self.adapter is None or p.adapter == self.adapter)
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


def decayed(stages: Sequence[StageInfo], decay: float) -> Plan:
    """Everything trains: the last stage at the run's learning rate, each other at ``decay`` times that
    of the next one. Stages without parameters don't count.
    """
    names = [s.name for s in stages if s.parameters]
    return Plan(tuple(Group(Selector(stage=n), decay**i) for i, n in enumerate(reversed(names))))


@dataclass(frozen=True)
class OneCycle:
    """fastai's one-cycle policy for the learning rate, the momentum left alone.

    Over the share ``rise`` of the steps it goes from ``1 / first`` of the rate up to it, then down to
    ``1 / last`` of it, each as half a cosine.
    """

    rise: float = 0.25
    first: float = 25.0
    last: float = 1e5


Schedule = str | OneCycle  # a name that schedules.py knows, or the cycle's shape


@dataclass(frozen=True)
class StartPenalty:
    """Adds to the loss ``weight / 2`` times the squared distance from the pretrained weights, and
    ``new / 2`` times the squared norm of weights that no pretraining covers.

    It holds what trains, but neither biases nor the parameters of norm layers. The loss that is
    recorded is the one without it.
    """

    weight: float
    new: float

    def on(self, parameter: ParameterInfo) -> float:
        """The penalty's weight for one parameter that trains."""
        if parameter.bias or parameter.norm:
            return 0.0
        return self.weight if parameter.pretrained else self.new


@dataclass(frozen=True)
class GroupLasso:
    """Adds to the loss ``weight`` times the sum of the Euclidean norms of the head's weights, one norm for
    each of its inputs, over all classes: inputs that don't matter lose all of their weights.

    It takes a head on ``taps``. The loss that is recorded is the one without it.
    """

    weight: float


@dataclass(frozen=True)
class Taps:
    """The network's head is a new linear layer on features of all stages below it that have parameters.

    Each stage's activations are averaged over windows of their height and width, as many as make up about
    ``size`` features, or over all of it where there are as many channels; what the head takes of a stage is
    scaled to unit length.
    """

    size: int


@dataclass(frozen=True)
class ConvLora:
    """Beside each convolution of ``stages`` the network has a low-rank adapter: another convolution to
    ``rank`` channels, then a 1x1 convolution that begins at zero; times ``alpha / rank`` the result is added.

    Their parameters belong to the same stage; plans tell them by ``train(adapter=True)``.
    """

    rank: int
    alpha: float
    stages: tuple[str, ...]


@dataclass(frozen=True)
class Segment:
    """A span of epochs with one plan.

    ``lr`` replaces the run's learning rate in this span; ``fresh_optimizer`` drops the
    optimizer's state at its start (parameters that begin to train always start without state).
    ``mode`` says how modules run: ``follow``, what trains in train mode and what is frozen in eval
    mode; ``eval``, all of the network in eval mode. ``schedule`` runs over the steps of this
    segment alone, in place of the recipe's or the run's, which runs over the whole training. ``adapt``
    sets the learning rates anew before each epoch, by what the gradients are then. ``keep`` begins it with a
    new head on this share of the head's inputs: those whose weights, as trained so far, have the largest
    norms; it takes a head on ``taps``.
    """

    epochs: int
    plan: Plan
    mode: Literal["follow", "eval"] = "follow"
    lr: float | None = None
    fresh_optimizer: bool = False
    schedule: Schedule | None = None
    penalty: StartPenalty | GroupLasso | None = None
    adapt: Adaptation | None = None
    keep: float | None = None


@dataclass(frozen=True)
class Recipe:
    """What a strategy does with a backbone: its initialisation and its segments, in order.

    ``schedule`` replaces the run's schedule of the learning rate over the whole training. ``taps`` puts
    another head on the network; its parameters are those of the same stage. ``adapters`` puts low-rank
    adapters beside its convolutions.
    """

    segments: tuple[Segment, ...]
    init: Literal["pretrained", "random"] = "pretrained"
    schedule: Schedule | None = None
    taps: Taps | None = None
    adapters: ConvLora | None = None

    @property
    def epochs(self) -> int:
        return sum(s.epochs for s in self.segments)

    @property
    def plain(self) -> bool:
        """Whether every step is one of the run's own: its schedule, its loss, rates that are known before."""
        return self.schedule is None and not any(s.schedule or s.penalty or s.adapt for s in self.segments)

    def segment_at(self, epoch: int) -> int:
        """Index of the segment that epoch 1, 2, ... belongs to."""
        for index, segment in enumerate(self.segments):
            if epoch <= segment.epochs:
                return index
            epoch -= segment.epochs
        raise IndexError(epoch)

    def epochs_before(self, segment: int) -> int:
        """Epochs of all segments before this one."""
        return sum(s.epochs for s in self.segments[:segment])
