"""From a native network to stages: which of its modules form which stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from harness.backbones.graph_cut import cut_graph, is_trunk
from harness.backbones.heads import check_head, new_head
from harness.backbones.staged import Stage, StagedModel
from harness.contracts import Preprocess, Role
from harness.errors import UsageError

FLATTEN = "@flatten"
OWN = "@own"  # parameters that belong to the network itself and to none of its children
POOL = "@pool"  # global average pooling that the native forward pass applies as a function


@dataclass(frozen=True)
class StageLayout:
    """A stage as paths of the native network's modules, applied one after the other."""

    name: str
    role: Role
    paths: tuple[str, ...]


@dataclass(frozen=True)
class Layout:
    """The stages of a native network; ``last`` is the path of its last layer.

    ``beside`` are paths of other classifiers whose answers the native forward pass mixes with that one's
    (a distilled network has two heads). ``exact`` is false where it isn't the fold over these stages.
    """

    stages: tuple[StageLayout, ...]
    last: str
    exact: bool = True
    beside: tuple[str, ...] = ()

    def optional_keys(self) -> tuple[str, ...]:
        """Prefixes of the keys that a partial weight file may lack: classifier and head."""
        late = [s for s in self.stages if s.role in ("classifier", "head")]
        return tuple(f"{p}." for s in late for p in s.paths if not p.startswith("@"))


def replace_last(native: nn.Module, path: str, num_classes: int, head: str = "own") -> None:
    """Puts a new layer for ``num_classes`` classes, as torch initialises it, where the last layer was.

    Another ``head`` than ``own`` stands in that layer's place where it is linear.
    """
    old = native.get_submodule(path)
    new: nn.Module
    if head != "own":
        if not isinstance(old, nn.Linear):
            raise UsageError(
                f"--head {head} doesn't fit {type(native).__name__}, whose last layer isn't linear"
            )
        new = new_head(head, old.in_features, num_classes)
    elif isinstance(old, nn.Linear):
        new = nn.Linear(old.in_features, num_classes, bias=old.bias is not None)
    elif isinstance(old, nn.Conv2d):
        kernel = (old.kernel_size[0], old.kernel_size[1])
        new = nn.Conv2d(old.in_channels, num_classes, kernel, bias=old.bias is not None)
    else:
        raise TypeError(f"last layer '{path}' is a {type(old).__name__}, neither Linear nor Conv2d")
    native.set_submodule(path, new)


def stage_network(
    native: nn.Module,
    layout: Layout,
    preprocess: Preprocess,
    covered: frozenset[str],
    num_classes: int,
    head: str,
) -> StagedModel:
    """``native`` in stages, its last layer (or all of its classifier) replaced.

    ``covered`` holds the native keys that weights cover.
    """
    head = check_head(head)
    if head == "own" or not layout.exact:
        for path in (layout.last, *layout.beside):
            replace_last(native, path, num_classes, head)
            covered = frozenset(k for k in covered if not k.startswith(f"{path}."))
        stages = [Stage(s.name, _sequence(native, s), s.role) for s in layout.stages]
    else:
        stages = [
            Stage(s.name, _sequence(native, s), s.role)
            for s in layout.stages
            if s.role not in ("classifier", "head")
        ]
        if not any(s.role == "neck" for s in stages):
            stages.append(Stage("pool", nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), "neck"))
        stages.append(Stage("head", new_head(head, _features(stages, preprocess), num_classes), "head"))
    native_ids = {id(t): k for k, t in native.state_dict(keep_vars=True).items()}
    cut = None if layout.exact else cut_graph(native, (layout.last, *layout.beside), preprocess.size)
    stages = list(cut or stages)
    whole = None if layout.exact or cut else native
    staged = StagedModel(stages, preprocess, whole=whole)
    named = ((name, native_ids.get(id(tensor))) for name, tensor in staged.tensors())
    staged.native = {name: key for name, key in named if key is not None}
    staged.pretrained = frozenset(name for name, key in staged.native.items() if key in covered)
    return staged


def split_at_downsampling(children: Sequence[nn.Module]) -> list[list[int]]:
    """Indices of ``children`` in groups, a new group wherever a convolution of stride 2 stands."""
    groups: list[list[int]] = []
    for index, child in enumerate(children):
        strided = any(isinstance(m, nn.Conv2d) and max(m.stride) > 1 for m in child.modules())
        if strided or not groups:
            groups.append([])
        groups[-1].append(index)
    return groups


def split_after_pooling(children: Sequence[nn.Module]) -> list[list[int]]:
    """Indices of ``children`` in groups, each ending with a max-pool (VGG, SqueezeNet, AlexNet)."""
    groups: list[list[int]] = [[]]
    for index, child in enumerate(children):
        groups[-1].append(index)
        if isinstance(child, nn.MaxPool2d):
            groups.append([])
    return [g for g in groups if g]


def numbered(
    name: str, role: Role, prefix: str, groups: list[list[int]], first: int = 1
) -> list[StageLayout]:
    """Stages ``name1, name2, ...`` from groups of child indices below ``prefix``."""
    return [
        StageLayout(f"{name}{number}", role, tuple(f"{prefix}.{i}" for i in group))
        for number, group in enumerate(groups, first)
    ]


def whole_layout(native: nn.Module, *classifiers: str) -> Layout:
    """Any network that isn't known in stages: its children are the stages, unless it can be cut.

    ``classifiers`` are the paths of its last layers; by default the last linear or convolutional one it
    lists.
    """
    last, *beside = classifiers or [n for n, m in native.named_modules() if _classifies(m)][-1:]
    containers = [c for c in native.children() if isinstance(c, nn.Sequential | nn.ModuleList)]
    one = len(containers) < 3
    children = [
        f"{name}.{inner}" if inner else name
        for name, child in native.named_children()
        for inner in (dict(child.named_children()) if one and is_trunk(native, child) else ("",))
    ]
    heads = {n for n in children if any(f"{c}.".startswith(f"{n}.") for c in (last, *beside))}
    own = (
        (StageLayout("tokens", "body", (OWN,)),)
        if any(True for _ in native.parameters(recurse=False))
        else ()
    )
    return Layout(
        stages=(
            *own,
            *(
                StageLayout(n.replace(".", "_"), "head" if n in heads else "body", (n,))
                for n in sorted(children, key=lambda n: n in heads)
            ),
        ),
        last=last,
        exact=False,
        beside=tuple(beside),
    )


def _classifies(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear | nn.Conv2d)


def _sequence(native: nn.Module, stage: StageLayout) -> nn.Module:
    return nn.Sequential(*(_module(native, path) for path in stage.paths))


def _module(native: nn.Module, path: str) -> nn.Module:
    if path == FLATTEN:
        return nn.Flatten()
    if path == OWN:
        return nn.ParameterDict(dict(native.named_parameters(recurse=False)))
    return nn.AdaptiveAvgPool2d(1) if path == POOL else native.get_submodule(path)


def _features(stages: list[Stage], preprocess: Preprocess) -> int:
    """Inputs of a new head: the flattened size of what comes out of the last stage."""
    body = nn.Sequential(*(s.module for s in stages)).eval()
    with torch.inference_mode():
        return body(torch.zeros(1, 3, preprocess.size, preprocess.size)).flatten(1).shape[1]
