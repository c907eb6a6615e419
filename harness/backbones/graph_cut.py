"""Cuts any network whose forward pass torch.fx can trace: wherever one tensor alone goes on.

The trace stops at blocks: what isn't a plain container is one call. Between two calls the network can
be cut where every later one depends on a single tensor. Stages are then runs of calls that share
the native modules, so the fold over them is the native forward pass itself; it is compared with it on
a batch, bit for bit, before it is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx, nn

from harness.backbones.staged import NORM_LAYERS, Stage
from harness.contracts import Role

_BATCH = 2


@dataclass(frozen=True)
class _Unit:
    """Calls between two places where one tensor alone goes on. ``rank`` is of what comes out."""

    nodes: tuple[fx.Node, ...]
    paths: tuple[str, ...]  # of the modules called
    rank: int = 0


class _Tracer(fx.Tracer):
    """Goes into plain containers, and into what does little more than to hold one of most parameters."""

    def __init__(self, native: nn.Module) -> None:
        super().__init__()
        self._trunks = {m for m in native.modules() if is_trunk(native, m)}

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        holds = any(child in self._trunks for child in m.children())
        return not (isinstance(m, nn.Sequential) or holds or module_qualified_name == "native")


class _Root(nn.Module):
    """Calls a network with one tensor: whatever else its forward takes keeps its default."""

    def __init__(self, native: nn.Module) -> None:
        super().__init__()
        self.native = native

    def forward(self, x: torch.Tensor) -> Any:
        return self.native(x)


def _trace(native: nn.Module) -> fx.Graph:
    graph = _Tracer(native).trace(_Root(native))
    for node in graph.nodes:
        if node.op in ("call_module", "get_attr"):
            node.target = str(node.target).removeprefix("native.")
    return graph


def is_trunk(native: nn.Module, module: nn.Module) -> bool:
    """A container of most of the network's parameters."""
    if not isinstance(module, nn.Sequential | nn.ModuleList):
        return False
    return 2 * _count(module) > _count(native)


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def cut_graph(native: nn.Module, last: Sequence[str], size: int) -> tuple[Stage, ...] | None:
    """``native`` (its last layers at the paths ``last``) in stages, or None where no exact cut was found.

    ``native`` is left in eval mode, which the trace is of.
    """
    native.eval()
    try:
        graph = _trace(native)
        units = _units(native, graph)
        if len(units) < 2 or _depends_on_mode(graph):
            return None
        units = _measured(native, units, size)
    except Exception:  # tracing runs foreign code on proxies, which may fail in any way
        return None
    stages = _stages(native, units, last)
    if stages is None or not _complete(native, stages):
        return None
    return tuple(Stage(name, _module(native, nodes), role) for name, role, nodes in stages)


def _depends_on_mode(graph: fx.Graph) -> bool:
    """Whether a function was called with the mode that the network had at the trace."""
    return any("training" in node.kwargs for node in graph.nodes if node.op == "call_function")


def _units(native: nn.Module, graph: fx.Graph) -> list[_Unit]:
    nodes = [n for n in graph.nodes if n.op not in ("placeholder", "output", "get_attr")]
    found: list[_Unit] = []
    held: list[fx.Node] = []
    for position, node in enumerate(nodes):
        held.append(node)
        later = set(nodes[position + 1 :])
        crossing = {n for n in nodes[: position + 1] if any(user in later for user in n.users)}
        begins = any(user in later for n in graph.nodes if n.op == "placeholder" for user in n.users)
        if (crossing == {node} and not begins) or position == len(nodes) - 1:
            paths = tuple(str(n.target) for n in held if n.op == "call_module")
            found.append(_Unit(tuple(held), paths))
            held = []
    return found


def _measured(native: nn.Module, units: Sequence[_Unit], size: int) -> list[_Unit]:
    """Runs the units one after the other; those that end in no tensor are joined to the next.

    Raises ValueError where the fold isn't the native forward pass.
    """
    device = next(native.parameters()).device
    x = torch.rand(_BATCH, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device)
    found: list[_Unit] = []
    held: _Unit | None = None
    with torch.no_grad():
        expected, value = native(x), x
        for unit in units:
            held = unit if held is None else _Unit(held.nodes + unit.nodes, held.paths + unit.paths)
            out = _module(native, held.nodes)(value)
            if isinstance(out, torch.Tensor):
                found.append(replace(held, rank=out.dim()))
                value, held = out, None
    if device.type != "meta" and not (isinstance(expected, torch.Tensor) and torch.equal(value, expected)):
        raise ValueError("the stages don't give what the network gives")
    return found


def _module(native: nn.Module, nodes: Sequence[fx.Node]) -> fx.GraphModule:
    """The calls ``nodes`` as a module of one tensor, sharing the native modules and parameters."""
    graph = fx.Graph()
    given = graph.placeholder("x")
    copies: dict[fx.Node, fx.Node] = {}

    def argument(node: fx.Node) -> fx.Node:
        if node in copies:
            return copies[node]
        if node.op == "get_attr":
            copies[node] = graph.node_copy(node, argument)
            return copies[node]
        return given

    for node in nodes:
        copies[node] = graph.node_copy(node, argument)
    graph.output(copies[nodes[-1]])
    return fx.GraphModule(native, graph)


def _stages(
    native: nn.Module, units: Sequence[_Unit], last: Sequence[str]
) -> list[tuple[str, Role, tuple[fx.Node, ...]]] | None:
    """Names and roles: blocks of the body, what pools, what classifies, the head."""
    head = next((i for i, u in enumerate(units) if any(_within(o, p) for p in u.paths for o in last)), None)
    if head is None:
        return None
    classify = {p for u in units[head:] for path in u.paths for p in native.get_submodule(path).parameters()}
    if 2 * sum(p.numel() for p in classify) > _count(native):  # heads on the way: no head stands at the end
        return None
    pool = next((i for i, u in enumerate(units[:head]) if u.rank == 2), head)
    found: list[tuple[str, Role, list[fx.Node]]] = []
    names = _block_names(native, units[:pool])
    for number, unit in enumerate(units[:pool]):
        block = next((p for p in unit.paths if p in names), None)
        name = names[block] if block else ""
        if block and (not found or found[-1][0] != name):
            found.append((name, "body", []))
        elif not found:
            found.append(("stem", "body", []))
        elif not block and _is_tail(native, units[number:pool]) and found[-1][1] == "body":
            found.append((unit.paths[0].replace(".", "_"), "neck", []))
        found[-1][2].extend(unit.nodes)
    if pool < head:
        found.append(("pool", "neck", []))
    for number, unit in enumerate(units[pool:head], pool):
        learns = any(True for p in unit.paths for _ in native.get_submodule(p).parameters())
        if number > pool and learns:
            found.append((unit.paths[0].replace(".", "_"), "classifier", []))
        found[-1][2].extend(unit.nodes)
    found.append(("head", "head", [n for unit in units[head:] for n in unit.nodes]))
    if len({name for name, _, _ in found}) < len(found):
        return None
    return [(name, role, tuple(nodes)) for name, role, nodes in found]


def _is_tail(native: nn.Module, units: Sequence[_Unit]) -> bool:
    """Whether only plain layers are left before the pooling, the first of them with parameters."""
    modules = [native.get_submodule(p) for u in units for p in u.paths]
    first = [native.get_submodule(p) for p in units[0].paths]
    return all(map(_simple, modules)) and any(True for m in first for _ in m.parameters())


def _simple(module: nn.Module) -> bool:
    """A layer rather than a block."""
    layers = (nn.Conv2d, nn.Linear, *NORM_LAYERS)
    return isinstance(module, layers) or not any(True for _ in module.parameters())


def _block_names(native: nn.Module, units: Sequence[_Unit]) -> dict[str, str]:
    """The stage of each block, by its path: what the network itself calls its parts.

    Where it has three containers or more they are the stages (``layer1``, ``stage2``); where one holds
    most of it, that one's children are.
    """
    paths = [p for u in units for p in u.paths if not _simple(native.get_submodule(p))]
    tops = {p.split(".")[0] for p in paths}
    if sum(isinstance(native.get_submodule(t), nn.Sequential | nn.ModuleList) for t in tops) >= 3:
        return {p: p.split(".")[0] for p in paths}
    return {p: _below_trunk(native, p) for p in paths}


def _below_trunk(native: nn.Module, path: str) -> str:
    parts = path.split(".")
    depths = [d for d in range(1, len(parts)) if is_trunk(native, native.get_submodule(".".join(parts[:d])))]
    return "_".join(parts[: min(depths, default=0) + 1])


def _within(path: str, of: str) -> bool:
    return path == of or path.startswith(f"{of}.")


def _complete(native: nn.Module, stages: Sequence[tuple[str, Role, tuple[fx.Node, ...]]]) -> bool:
    """Whether every parameter that the network holds is in some stage, and none in two.

    A parameter of two stages can't be frozen in one and trained in the other.
    """
    owners: dict[int, set[str]] = {}
    for name, _, nodes in stages:
        for parameter in _module(native, nodes).parameters():
            owners.setdefault(id(parameter), set()).add(name)
    return all(len(owners.get(id(p), ())) == 1 for p in native.parameters())
