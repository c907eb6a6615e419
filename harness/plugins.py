"""Plugins: found without being imported, loaded one at a time, their failures named.

Built-ins come through the same entry points as anybody's plugin.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, fields, is_dataclass
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from typing import Any

from harness.errors import HarnessError, PluginError, UnknownName, UsageError

STRATEGIES = "harness.strategies"
BACKBONES = "harness.backbones"
FAMILIES = "harness.backbone_families"
DATASETS = "harness.datasets"
TRACKERS = "harness.trackers"
ENGINES = "harness.engines"
KINDS: Mapping[str, str] = {
    STRATEGIES: "strategy",
    BACKBONES: "backbone",
    FAMILIES: "backbone family",
    DATASETS: "dataset",
    TRACKERS: "tracker",
    ENGINES: "engine",
}
# What contracts.py asks of each.
_PARTS: Mapping[str, tuple[str, ...]] = {
    STRATEGIES: ("source", "summary", "recipe"),
    BACKBONES: ("name", "default_weights", "build"),
    DATASETS: ("name", "default_target", "default_split", "needs_path", "read"),
    TRACKERS: ("summary", "needs", "live", "held", "write"),
    ENGINES: ("summary", "needs", "elsewhere", "open"),
}

# Short names for the networks that people ask for most; everything else is FAMILY:NAME.
SHORT_NAMES: Mapping[str, str] = {
    name: f"torchvision:{name}"
    for name in (
        "vgg11", "vgg13", "vgg16", "vgg16_bn", "vgg19",
        "resnet18", "resnet34", "resnet50", "resnet101",
        "squeezenet1_0", "squeezenet1_1",
        "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large",
        "efficientnet_b0", "efficientnet_b1", "efficientnet_v2_s",
    )
}  # fmt: skip


@dataclass(frozen=True)
class Found:
    """A plugin that was found, not imported."""

    group: str
    name: str
    package: str
    version: str
    entry_point: EntryPoint


def find(group: str) -> dict[str, Found]:
    """Name -> plugin, sorted; without the names that two packages claim (:func:`clashes`)."""
    return {name: plugins[0] for name, plugins in _claims(group).items() if len(plugins) == 1}


def clashes(group: str) -> dict[str, str]:
    """Names that two packages or more claim -> what is wrong, naming them; nobody gets such a name."""
    return {
        name: f"more than one package offers {KINDS[group]} '{name}': "
        + " and ".join(f"{p.package} ({p.entry_point.value})" for p in plugins)
        + "; uninstall all but one"
        for name, plugins in _claims(group).items()
        if len(plugins) > 1
    }


def _claims(group: str) -> dict[str, list[Found]]:
    """Name -> who claims it, sorted."""
    found: dict[str, dict[tuple[str, str], Found]] = {}
    packages: dict[int, tuple[str, str]] = {}  # its name and version are read from a file every time
    for point in entry_points(group=group):
        dist = point.dist
        if id(dist) not in packages:
            packages[id(dist)] = (dist.name, dist.version) if dist else ("unknown package", "")
        package, version = packages[id(dist)]
        # One package that is on the path twice claims its names once.
        claims = found.setdefault(point.name, {})
        claims[package, point.value] = Found(group, point.name, package, version, point)
    return {name: [claims[c] for c in sorted(claims)] for name, claims in sorted(found.items())}


def load(group: str, name: str, kind: str) -> Any:
    """The object behind a name. UnknownName suggests; PluginError names the package that fails, or those
    that claim one name.
    """
    if name in (clashing := clashes(group)):
        raise PluginError(clashing[name])
    found = find(group)
    if name not in found:
        raise UnknownName(kind, name, found)
    try:
        return found[name].entry_point.load()
    except (Exception, SystemExit) as error:
        raise fault(group, name, f"{kind} '{name}'", f"can't be loaded: {_reason(error)}") from error


@contextmanager
def blamed(group: str, name: str, shown: str, what: str) -> Iterator[None]:
    """Makes of what a plugin's own code raises, but for the system's errors and this program's, a
    PluginError: ``shown`` (such as ``strategy 'full'``), its package, ``what`` went wrong, the reason.
    """
    try:
        yield
    except (HarnessError, OSError):
        raise
    except (Exception, SystemExit) as error:
        raise fault(group, name, shown, f"{what}: {_reason(error)}") from error


def fault(group: str, name: str, shown: str, what: str) -> PluginError:
    """A PluginError: ``shown``, its package, ``what`` is wrong with it."""
    package = found.package if (found := find(group).get(name)) else "unknown package"
    return PluginError(f"{shown} of package {package} {what}")


def _reason(error: BaseException) -> str:
    """The kind of error and the first line of what it says."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def backbone_plugin(name: str) -> tuple[str, str]:
    """Group and name of the entry point that a backbone comes from: its own, or its family's."""
    full = SHORT_NAMES.get(name, name)
    family, colon, _ = full.partition(":")
    return (FAMILIES, family) if colon else (BACKBONES, full)


def load_backbone(name: str) -> Any:
    """``vgg_tiny``, ``vgg16`` (a short name), ``torchvision:NAME`` or ``timm:NAME``."""
    full = SHORT_NAMES.get(name, name)
    family, colon, model = full.partition(":")
    if colon:
        return load(FAMILIES, family, "backbone family")(model)
    offered = find(BACKBONES)
    if full not in offered and full not in clashes(BACKBONES):
        raise UnknownName("backbone", name, [*offered, *SHORT_NAMES, *(f"{f}:NAME" for f in find(FAMILIES))])
    backbone = _made(BACKBONES, full)
    if backbone.name != full:  # records hold the one name, and are read with it
        raise PluginError(
            f"backbone '{full}' of package {offered[full].package} calls itself '{backbone.name}': "
            "the name of its entry point and its own have to be the same"
        )
    return backbone


def load_dataset(name: str) -> Any:
    """A dataset by name."""
    return _made(DATASETS, name)


def _made(group: str, name: str, **options: object) -> Any:
    """An instance of a plugin; PluginError where its constructor fails or it lacks what its kind needs."""
    shown, cls = f"{KINDS[group]} '{name}'", load(group, name, KINDS[group])
    with blamed(group, name, shown, "can't be made"):
        made = cls(**options)
    absent = [part for part in _PARTS[group] if not hasattr(made, part)]
    if absent:
        raise PluginError(f"{shown} of package {find(group)[name].package} has no '{absent[0]}'")
    return made


_SPEC = re.compile(r"(?P<name>[A-Za-z_][\w.-]*)(?:\[(?P<options>.*)\])?")


def load_strategy(text: str) -> tuple[Any, str, str]:
    """``last_k[k=2]`` -> (the strategy, its name, the canonical text with every option that has a value)."""
    strategy, name = _from_text(STRATEGIES, text)
    alias = getattr(strategy, "canonical", None)
    if alias:
        return load_strategy(alias)
    if not is_dataclass(strategy):
        return strategy, name, name
    given = {f.name: getattr(strategy, f.name) for f in fields(strategy)}
    options = ",".join(f"{key}={value}" for key, value in given.items() if value is not None)
    return strategy, name, f"{name}[{options}]" if options else name


def load_tracker(text: str) -> Any:
    """``mlflow[uri=sqlite:///mlflow.db]`` -> a tracker; UsageError where what it needs isn't installed."""
    return _with_needs(TRACKERS, text)[0]


def load_engine(text: str) -> tuple[Any, str]:
    """``local[workers=4]`` -> (the engine, its name); UsageError where what it needs isn't installed."""
    return _with_needs(ENGINES, text)


def _with_needs(group: str, text: str) -> tuple[Any, str]:
    """A plugin whose modules ``needs`` are installed, and its name; they are an extra of its package."""
    made, name = _from_text(group, text)
    # A folder that a tracker has written, ./wandb, is no package.
    found = {module: find_spec(module) for module in made.needs}
    absent = [module for module, spec in found.items() if spec is None or spec.origin is None]
    if absent:
        package = find(group)[name].package
        raise UsageError(
            f"{KINDS[group]} {name} needs {absent[0]}: python -m pip install '{package}[{name}]'"
        )
    return made, name


def _from_text(group: str, text: str) -> tuple[Any, str]:
    """``NAME[option=value,...]`` -> an instance with these options, its name."""
    match = _SPEC.fullmatch(text.strip())
    if not match:
        raise UsageError(f"bad {KINDS[group]} '{text}': NAME or NAME[option=value,...]")
    name = match["name"]
    cls = load(group, name, KINDS[group])
    return _with_options(group, cls, name, match["options"] or ""), name


def _with_options(group: str, cls: Any, name: str, text: str) -> Any:
    known = {f.name: f for f in fields(cls)} if is_dataclass(cls) else {}
    given: dict[str, Any] = {}
    # Commas inside brackets belong to a value: pair=(1, 2).
    for part in filter(None, map(str.strip, re.split(r",(?![^(\[]*[)\]])", text))):
        key, equals, value = (p.strip() for p in part.partition("="))
        if key not in known:
            raise UnknownName(f"option of {name}", key, known)
        if key in given:
            raise UsageError(f"bad {KINDS[group]} {name}[{text}]: {key} is there twice")
        declared = known[key].type
        kind = declared.__name__ if isinstance(declared, type) else str(declared)
        given[key] = _typed(f"{name}[{part}]", kind, value if equals else "")
    required = [k for k, f in known.items() if f.default is MISSING and f.default_factory is MISSING]
    absent = [k for k in required if k not in given]
    if absent:
        raise UsageError(f"{KINDS[group]} {name} needs option '{absent[0]}': {name}[{absent[0]}=...]")
    return _made(group, name, **given)


def _typed(where: str, kind: str, value: str) -> Any:
    try:
        if kind.endswith(" | None"):
            kind = kind.removesuffix(" | None")
            if value == "None":
                return None
        if kind == "bool":
            return {"true": True, "false": False}[value.lower()]
        if kind == "int":
            return int(value)
        if kind == "float":
            return _finite(where, float(value))
        if kind == "str":
            return value
        made = ast.literal_eval(value)
        ast.literal_eval(repr(made))  # canonical texts are read again: not so 1e999, also deep in a tuple
        return made
    except (ValueError, KeyError, SyntaxError, TypeError, RecursionError, MemoryError):
        raise UsageError(f"bad option {where}: '{value}' is not a {kind}") from None


def _finite(where: str, value: float) -> float:
    """No option is nan, which differs from itself and passes as its own opposite, or endless."""
    if not math.isfinite(value):
        raise UsageError(f"bad option {where}: not a finite number")
    return value
