"""What is asked for: a grid of runs, each with an identity that is the hash of its content."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from harness.errors import UnknownName, UsageError

FORMAT = 1
_LARGEST = sys.float_info.max
_MOST_RATES = 10_000  # of one range: a slip such as 1e-5:1e-2:1e9 would fill the memory
_LONGEST_NAME = 200  # of a folder: file systems take 255 bytes
CHOICES = {
    "optimizer": ("adam", "adamw", "sgd"),
    "schedule": ("constant", "cosine", "one-cycle"),
    "class_weights": ("none", "balanced"),
    "precision": ("fp32", "tf32", "bf16"),
    "select": ("last", "best"),
}
# In the order in which they are applied; each is torchvision's, with the parameters of augment.py.
AUGMENTATIONS = ("crop", "rotate", "jitter", "grayscale", "blur", "trivial", "erase")


@dataclass(frozen=True)
class DataSpec:
    """Which samples, which label, which split. ``split`` is stratified, official, group or auto."""

    name: str = "faces"
    target: str | None = None
    split: str = "auto"
    group: str | None = None
    split_seed: int = 0
    limit: int | None = None
    missing: str = "error"


@dataclass(frozen=True)
class TrainSpec:
    """The training recipe that all cells of a grid share. ``augment`` is put in its fixed order."""

    epochs: int = 10
    batch_size: int = 64
    optimizer: str = "adam"
    weight_decay: float = 0.0
    schedule: str = "constant"
    class_weights: str = "none"
    flip: bool = False
    augment: str = ""  # names of AUGMENTATIONS, joined by commas
    precision: str = "fp32"
    select: str = "last"
    deterministic: bool = True

    def __post_init__(self) -> None:
        """Raises UsageError for a value of the wrong type, out of range or unknown."""
        for field_ in fields(self):
            value, default = getattr(self, field_.name), field_.default
            fits = isinstance(value, type(default)) and (
                isinstance(default, bool) or not isinstance(value, bool)
            )
            if not (fits or (isinstance(default, float) and type(value) is int)):
                raise UsageError(f"{field_.name} is a {type(default).__name__}, not {value!r}")
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise UnknownName(name.replace("_", " "), getattr(self, name), allowed)
        asked = [name.strip() for name in self.augment.split(",") if name.strip()]
        for name in asked:
            if name not in AUGMENTATIONS:
                raise UnknownName("augmentation", name, AUGMENTATIONS)
        object.__setattr__(self, "augment", ",".join(n for n in AUGMENTATIONS if n in asked))
        if self.epochs < 1 or self.batch_size < 1 or not 0 <= self.weight_decay <= _LARGEST:
            raise UsageError("epochs and batch size are at least 1, weight decay is at least 0")


@dataclass(frozen=True)
class RunSpec:
    """One cell of a grid. ``strategy`` is canonical, with every option: ``last_k[k=1]``."""

    data: DataSpec
    backbone: str
    weights: str
    head: str
    strategy: str
    lr: float
    seed: int
    train: TrainSpec

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> RunSpec:
        """From what ``spec.json`` holds. What a record of an earlier version lacks has its default.

        Raises KeyError, TypeError or a UsageError for anything else.
        """
        own = {f.name: found[f.name] for f in fields(cls)}
        return cls(**own | {"data": DataSpec(**found["data"]), "train": TrainSpec(**found["train"])})

    def identity(self, data_digest: str, weights_digest: str) -> str:
        """Ten hex digits of the hash of the spec with the data's and the weights' digests.

        The weights' name is left out: the same tensors under another file name are the same run.
        """
        content = self.as_dict() | {"weights": weights_digest, "digest": data_digest, "format": FORMAT}
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:10]

    def folder_name(self, identity: str) -> str:
        """A readable name that ends in the identity."""
        data = "-".join(filter(None, (self.data.name, self.data.target)))
        parts = (
            data,
            self.backbone.split(":")[-1],
            self.strategy,
            f"lr{self.lr:g}",
            f"s{self.seed}",
            identity,
        )
        *told, last = (re.sub(r"[^A-Za-z0-9._=,+-]+", "-", p).strip("-") for p in parts)
        readable = "_".join(told).lstrip(".") or "run"
        return f"{readable[: _LONGEST_NAME - len(last) - 1]}_{last}"

    @property
    def label(self) -> str:
        """The cell as people name it: strategy, lr and seed."""
        return f"{self.strategy} lr={self.lr:g} seed={self.seed}"


@dataclass(frozen=True)
class Grid:
    """Every combination of its columns, over one set of data and one training recipe.

    ``only`` keeps some of the combinations, as (backbone, head, strategy, lr, seed); empty: all.
    """

    data: DataSpec = DataSpec()
    backbones: tuple[str, ...] = ("vgg_tiny",)
    weights: Mapping[str, str] = field(default_factory=dict)  # by backbone; else the backbone's default
    heads: tuple[str, ...] = ("own",)
    strategies: tuple[str, ...] = ("head_only",)
    lrs: tuple[float, ...] = (1e-3,)
    seeds: tuple[int, ...] = (0,)
    train: TrainSpec = TrainSpec()
    suite: str | None = None
    only: frozenset[tuple[str, str, str, float, int]] = frozenset()

    def __post_init__(self) -> None:
        """Raises UsageError for a learning rate that is none."""
        for lr in self.lrs:
            _check_lr(lr, f"{lr:g}")

    def cells(self) -> Iterator[tuple[str, str, str, float, int]]:
        """(backbone, head, strategy, lr, seed), duplicates removed, in the order given."""
        every = itertools.product(self.backbones, self.heads, self.strategies, self.lrs, self.seeds)
        return (cell for cell in dict.fromkeys(every) if not self.only or cell in self.only)


def parse_lr(text: str) -> tuple[float, ...]:
    """``1e-3``, or a log-spaced range ``1e-5:1e-2:7`` (both ends included)."""
    try:
        numbers = [float(part) for part in text.split(":")]
        if len(numbers) == 1:
            values: tuple[float, ...] = (numbers[0],)
        elif len(numbers) == 3 and numbers[2] == int(numbers[2]) >= 2 and min(numbers[:2]) > 0:
            low, high, count = numbers[0], numbers[1], int(numbers[2])
            if count > _MOST_RATES:
                raise UsageError(f"bad lr '{text}': a range has at most {_MOST_RATES} rates")
            step = math.log(high / low) / (count - 1)
            # Six digits: a grid point is a number people can type again.
            values = tuple(float(f"{low * math.exp(step * i):.6g}") for i in range(count))
        else:
            raise ValueError
    except (ValueError, OverflowError):
        raise UsageError(
            f"bad lr '{text}': a number such as 1e-3, or a range LOW:HIGH:COUNT such as 1e-5:1e-2:7"
        ) from None
    for value in values:
        _check_lr(value, text)
    return values


def _check_lr(lr: float, text: str) -> None:
    if not (math.isfinite(lr) and lr > 0):
        raise UsageError(f"bad lr '{text}': a learning rate is a finite number above 0")
