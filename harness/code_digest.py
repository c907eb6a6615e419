"""A digest of the code behind a result: two results of one code differ for another reason."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

_OWN = "harness"


def code_digest(plugins: Iterable[object] = ()) -> str:
    """sha256 (hex) of the Python files of this package and of those that ``plugins`` come from.

    A package counts as a whole, since nobody can say which of its modules bear on a result; a plugin
    is an object or a class, counted by the top-level package of its module.
    """
    owners = {(type(p) if not isinstance(p, type) else p).__module__.partition(".")[0] for p in plugins}
    digest = hashlib.sha256()
    for package in sorted(owners | {_OWN}):
        for name, file in _files(package):
            digest.update(f"{package}/{name}\x1f".encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _files(package: str) -> Iterable[tuple[str, Path]]:
    """Relative name and place of every Python file of a top-level package or module, sorted."""
    spec = find_spec(package)
    if spec is None:
        return []
    roots = [Path(r) for r in spec.submodule_search_locations or ()]
    if not roots:
        return [(Path(spec.origin).name, Path(spec.origin))] if spec.origin else []
    return sorted((f.relative_to(root).as_posix(), f) for root in roots for f in root.rglob("*.py"))
