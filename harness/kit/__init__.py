"""Small installable packages to begin a plugin with: what ``harness new`` writes. Needs no torch."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from string import Template

from harness import plugins
from harness.errors import UsageError
from harness.files import write_text

GROUPS = {"strategy": plugins.STRATEGIES, "backbone": plugins.BACKBONES, "dataset": plugins.DATASETS}
EXAMPLES = {
    "strategy": "harness run --strategy {name} --limit 200 --epochs 1",
    "backbone": "harness run --backbone {name} --strategy full --limit 200 --epochs 1",
    "dataset": "harness run --data {name}=PATH --backbone vgg_tiny --epochs 1",
}


def write_package(kind: str, name: str, out: Path) -> tuple[Path, tuple[str, ...]]:
    """A package for a plugin of ``kind`` called ``name`` in a new folder of that name below ``out``.

    Returns the folder and the names of its files. Raises UsageError, and writes nothing, for a name
    that can't be one, a name that is taken and a folder that exists.
    """
    _check_name(kind, name)
    texts = _texts(kind, name)
    folder = out / name
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise UsageError(f"'{folder}' exists; nothing was written") from None
    for file, text in texts.items():
        write_text(folder / file, text)
    return folder, tuple(texts)


def _check_name(kind: str, name: str) -> None:
    # It is part of a module's, a class's and a distribution's name, and each has its own rules.
    if not re.fullmatch(r"[a-z]([a-z0-9_]*[a-z0-9])?", name) or "__" in name:
        raise UsageError(
            f"bad name '{name}': lower-case letters, digits and single underscores, a letter first, "
            "e.g. my_probe"
        )
    package = _owner(kind, name)
    if package:
        raise UsageError(f"the {kind} '{name}' exists: package {package} offers it; choose another name")


def _owner(kind: str, name: str) -> str | None:
    """The package that offers this name already."""
    if name in (clashing := plugins.clashes(GROUPS[kind])):
        raise UsageError(f"choose another name: {clashing[name]}")
    found = plugins.find(GROUPS[kind])
    if kind == "backbone":
        families = plugins.find(plugins.FAMILIES)
        found = families | found
        # vgg16 is torchvision's
        short = plugins.SHORT_NAMES.get(name, "").partition(":")[0]
        name = short if short in families else name
    return found[name].package if name in found else None


def _texts(kind: str, name: str) -> dict[str, str]:
    """File name -> content."""
    module = f"{name}_{kind}"
    words = {
        "kind": kind,
        "name": name,
        "module": module,
        "cls": "".join(part.capitalize() for part in module.split("_")),
        "distribution": module.replace("_", "-"),
        "group": GROUPS[kind],
        "plural": GROUPS[kind].removeprefix("harness."),
        "example": EXAMPLES[kind].format(name=name),
    }
    templates = {
        "pyproject.toml": "pyproject.toml",
        f"{module}.py": f"{kind}.py",
        f"test_{name}.py": f"test_{kind}.py",
        "README.md": "README.md",
    }
    return {
        file: Template((files(__name__) / f"{template}.template").read_text("utf-8")).substitute(words)
        for file, template in templates.items()
    }
