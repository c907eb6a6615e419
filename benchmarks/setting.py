"""A work opened by one who does it: the samples, the split, the network as the harness starts it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from benchmarks.prepare import offer_plugins
from benchmarks.work import Cell, Work
from harness.backbones.staged import StagedModel
from harness.data.splits import Split, make_split
from harness.plugins import load_backbone, load_dataset, load_strategy
from harness.run_options import RunOptions
from harness.seeding import derive_seed, generator
from harness.spec import DataSpec, Grid, TrainSpec


class Network(nn.Module):
    """A cell's network in two: ``prefix`` is frozen and stays in eval mode, all of ``suffix`` trains."""

    def __init__(self, prefix: nn.Sequential, suffix: nn.Sequential) -> None:
        super().__init__()
        self.prefix, self.suffix = prefix, suffix
        prefix.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> Network:
        super().train(mode)
        self.prefix.eval()
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.suffix(self.prefix(x))


@dataclass(frozen=True, eq=False)
class Setting:
    """The samples and the initial network, which nobody may train: cells take copies."""

    work: Work
    paths: tuple[str, ...]
    labels: torch.Tensor  # int64 [n]
    train: torch.Tensor  # rows of it, int64
    val: torch.Tensor
    test: torch.Tensor
    initial: StagedModel
    device: torch.device

    def cut(self, cell: Cell) -> int:
        """How many stages the cell's strategy freezes."""
        strategy, _, _ = load_strategy(cell.strategy)
        stages = self.initial.describe()
        (segment,) = strategy.recipe(stages, self.work.epochs).segments
        scales = segment.plan.assign(stages)
        trains = [{scales[p.name] for p in stage.parameters} for stage in stages]
        cut = next(i for i, found in enumerate(trains) if found - {None})
        if set().union(*trains[cut:]) != {1.0}:
            raise ValueError(f"{cell.strategy} does more than to freeze the first stages")
        return cut

    def network(self, cell: Cell) -> Network:
        """The cell's own copy; it takes uint8 images."""
        model = copy.deepcopy(self.initial)
        cut = self.cut(cell)
        return Network(model.section(0, cut), model.section(cut, len(model.stage_names))).to(self.device)

    def float_network(self, cell: Cell) -> Network:
        """The same for images that were normalised before."""
        network = self.network(cell)
        return Network(network.prefix[1:], network.suffix)

    def order(self, epoch: int) -> torch.Tensor:
        """Positions in ``train`` in the order that the harness trains them in; the first epoch is 1."""
        return torch.from_numpy(generator(self.work.seed, "order", epoch).permutation(len(self.train)))

    def batches(self, epoch: int) -> Iterator[tuple[int, torch.Tensor]]:
        """Number of the step and the rows of its batch."""
        return enumerate(self.train[self.order(epoch)].split(self.work.batch_size))

    def seed_step(self, epoch: int, step: int) -> None:
        """Seeds dropout as the harness does before this step."""
        torch.manual_seed(derive_seed(self.work.seed, "step", epoch, step))

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.work.precision == "bf16")

    def wait(self) -> None:
        """Until the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def preload(work: Work) -> None:
    """Imports what would else be imported in the middle of the work, and so be counted to it."""
    offer_plugins()
    load_dataset(work.dataset)
    load_backbone(work.backbone)
    for strategy in work.strategies:
        load_strategy(strategy)
    # The first optimizer of a process makes torch import its compiler.
    torch.optim.Adam([torch.zeros(1, requires_grad=True)]).zero_grad()


def open_setting(work: Work) -> Setting:
    """Reads and splits the samples, builds the network, sets threads and precision."""
    torch.set_num_threads(work.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = work.precision == "tf32"
    torch.backends.cudnn.benchmark = True
    table = load_dataset(work.dataset).read(Path(work.data_path), target=work.target, missing="error")
    split: Split = make_split(table, work.split, 0)
    torch.manual_seed(derive_seed(work.seed, "init"))
    initial = load_backbone(work.backbone).build(work.weights, len(table.class_names), "own")
    return Setting(
        work=work,
        paths=table.paths,
        labels=torch.from_numpy(table.labels),
        train=torch.from_numpy(split.train),
        val=torch.from_numpy(split.val),
        test=torch.from_numpy(split.test),
        initial=initial,
        device=torch.device(work.device),
    )


def grid_of(work: Work) -> Grid:
    """The work as the harness is asked for it."""
    return Grid(
        data=DataSpec(name=work.dataset, target=work.target, split=work.split),
        backbones=(work.backbone,),
        weights={work.backbone: work.weights},
        strategies=work.strategies,
        lrs=work.lrs,
        seeds=(work.seed,),
        train=TrainSpec(epochs=work.epochs, batch_size=work.batch_size, precision=work.precision),
    )


def options_of(work: Work, out: Path) -> RunOptions:
    """How the harness does it."""
    return RunOptions(out=out, data_path=Path(work.data_path), device=work.device, threads=work.threads)
