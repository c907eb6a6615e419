"""From a grid to jobs: each cell with its plan, its identity and its folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.backbones.heads import check_head
from harness.backbones.staged import StagedModel, tensor_digest
from harness.code_digest import code_digest
from harness.contracts import Plan, Preprocess, Recipe, Segment, StageInfo, freeze
from harness.data.prepare import PreparedData
from harness.errors import PluginError
from harness.networks import NetworkKey, Networks
from harness.planner import CellPlan, plan_cell
from harness.plugins import STRATEGIES, backbone_plugin, blamed, load_backbone, load_dataset, load_strategy
from harness.spec import Grid, RunSpec
from harness.store import RunFolder


@dataclass(frozen=True, eq=False)
class Job:
    """One cell on its way: spec, plan, folder. ``weights`` is as given, a tag or a path.

    With a ``fault`` of its strategy it can't be trained, and its plan trains nothing.
    """

    spec: RunSpec
    strategy: Any
    strategy_name: str
    weights: str
    plan: CellPlan
    stages: tuple[StageInfo, ...]
    folder: RunFolder
    digests: Mapping[str, str]
    fault: PluginError | None = None

    @property
    def network(self) -> NetworkKey:
        """What cells must have in common to share a prefix."""
        return NetworkKey(self.spec.backbone, self.weights, self.spec.head).of(self.plan.recipe)

    @property
    def trainable(self) -> int:
        """Parameters that train in at least one segment."""
        trained = {n for a in self.plan.assigned for n, scale in a.items() if scale is not None}
        return sum(p.numel for s in self.stages for p in s.parameters if p.name in trained)


@dataclass(frozen=True)
class _Described:
    stages: tuple[StageInfo, ...]
    cuttable: bool
    preprocess: Preprocess
    digest: str  # of the tensors that weights cover


def check_names(grid: Grid) -> None:
    """Raises for an unknown strategy, backbone or head before any image is read."""
    for text in grid.strategies:
        load_strategy(text)
    for name in grid.backbones:
        load_backbone(name)
    for head in grid.heads:
        check_head(head)


def plan_jobs(
    grid: Grid, data: PreparedData, networks: Networks, out: Path, allow_random_frozen: bool
) -> tuple[Job, ...]:
    """One job a cell, in the grid's order. Raises UsageError for a cell that makes no sense.

    What a strategy's own code raises besides is the fault of its jobs, and the others can be trained.
    """
    planner = _Planner(grid, data, networks, allow_random_frozen)
    jobs = []
    for name, head, text, lr, seed in grid.cells():
        common = planner.get(name, head, text, seed)
        spec = RunSpec(
            data.spec, common.backbone, common.label, common.head, common.canonical, lr, seed, grid.train
        )
        identity = spec.identity(common.images, common.network.digest)
        jobs.append(
            Job(
                spec,
                common.strategy,
                common.strategy_name,
                common.weights,
                common.plan,
                common.network.stages,
                RunFolder(out / spec.folder_name(identity)),
                common.digests,
                common.fault,
            )
        )
    return tuple({job.folder.name: job for job in jobs}.values())  # two names of one cell are one cell


@dataclass(frozen=True, eq=False)
class _Common:
    """What cells have in common that differ in learning rate and seed alone."""

    backbone: str
    head: str
    strategy: Any
    strategy_name: str
    canonical: str
    weights: str
    network: _Described
    plan: CellPlan
    images: str  # what identifies the images as the network sees them
    digests: Mapping[str, str]
    fault: PluginError | None

    @property
    def label(self) -> str:
        """The weights' name as records have it."""
        return Path(self.weights).name if Path(self.weights).suffix else self.weights


@dataclass
class _Planner:
    """Plans each strategy on each network once, however many cells ask for it: a grid may hold thousands."""

    grid: Grid
    data: PreparedData
    networks: Networks
    allow_random_frozen: bool
    _described: dict[NetworkKey, _Described] = field(default_factory=dict)
    _known: dict[tuple[str, str, str], _Common] = field(default_factory=dict)
    _codes: dict[tuple[str, str], str] = field(default_factory=dict)

    def get(self, name: str, head: str, text: str, seed: int) -> _Common:
        """For cells of backbone ``name``; ``seed`` only builds the network that is described."""
        if (name, head, text) not in self._known:
            self._known[name, head, text] = self._plan(name, check_head(head), text, seed)
        return self._known[name, head, text]

    def _plan(self, name: str, head: str, text: str, seed: int) -> _Common:
        grid, data = self.grid, self.data
        backbone = load_backbone(name)
        strategy, strategy_name, canonical = load_strategy(text)
        weights = grid.weights.get(name, backbone.default_weights)
        key, fault = NetworkKey(backbone.name, weights, head), None
        with blamed(*backbone_plugin(name), f"backbone '{name}'", "can't be built"):
            described = self._describe(key, seed)
        try:
            with blamed(STRATEGIES, strategy_name, f"strategy '{strategy_name}'", "can't be planned"):
                recipe = strategy.recipe(described.stages, grid.train.epochs)
                own = self._describe(key.of(recipe)._replace(init="pretrained"), seed)
                network = _unpretrained(own) if recipe.init == "random" else own
                plan = plan_cell(
                    recipe,
                    network.stages,
                    epochs=grid.train.epochs,
                    strategy=canonical,
                    cuttable=network.cuttable,
                    allow_random_frozen=self.allow_random_frozen,
                )
        except PluginError as error:
            network, plan, fault = described, _nothing(described.stages, grid.train.epochs), error
        digests = {
            "data": data.digest,
            "split": data.split.digest,
            "weights": network.digest,
            "code": self._code(backbone, strategy),
        }
        images = f"{data.digest} {data.split.digest} {network.preprocess}"
        return _Common(
            backbone.name, head, strategy, strategy_name, canonical, weights, network, plan, images, digests,
            fault,
        )  # fmt: skip

    def _code(self, backbone: object, strategy: object) -> str:
        modules = (type(backbone).__module__, type(strategy).__module__)
        if modules not in self._codes:
            self._codes[modules] = code_digest((backbone, strategy, load_dataset(self.data.spec.name)))
        return self._codes[modules]

    def _describe(self, key: NetworkKey, seed: int) -> _Described:
        if key not in self._described:
            self._described[key] = _describe(self.networks.get(key, seed))
        return self._described[key]


def _nothing(stages: Sequence[StageInfo], epochs: int) -> CellPlan:
    recipe = Recipe((Segment(epochs, Plan((freeze(),))),))
    return CellPlan(recipe, tuple(s.plan.assign(stages) for s in recipe.segments), (0,))


def _describe(model: StagedModel) -> _Described:
    pretrained = tensor_digest((n, t) for n, t in model.tensors() if n in model.pretrained)
    return _Described(model.describe(), model.cuttable, model.preprocess, pretrained)


def _unpretrained(network: _Described) -> _Described:
    """The same network without weights."""
    stages = tuple(
        replace(s, parameters=tuple(replace(p, pretrained=False) for p in s.parameters))
        for s in network.stages
    )
    return replace(network, stages=stages, digest=tensor_digest(()))
