"""Makes the pinned requirements and ``docs/licenses.md`` from what the index offers today: ``tox -e pins``.

uv resolves; pip-licenses reads what each package says of itself, in an environment that is installed from
the pins it has just written, digests checked, and thrown away afterwards.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PLATFORM = "linux-x86_64-py311"
CORE = ROOT / "requirements" / f"core-{PLATFORM}.txt"
EXTRAS = ROOT / "requirements" / f"extras-{PLATFORM}.txt"
LICENSES = ROOT / "docs" / "licenses.md"
DEVELOPERS = ("bench", "docs", "test")  # extras that aren't pinned: nobody needs them to use the harness

_COMPILE = (
    "uv pip compile --generate-hashes --no-emit-index-url --no-header --no-annotate "
    "--python-version 3.11 --python-platform x86_64-manylinux_2_28"
)
_HEAD = """\
# {what}, pinned, with the digests of its files; no address of an index.
# CPython 3.11, Linux x86_64 (manylinux_2_28). Made by 'tox -e pins':
# {command}
"""
_PAGE = """\
# Licences of what is installed

By each package's own metadata, as pip-licenses reads it; `tox -e pins` makes this page, in an environment
installed from the [pinned requirements](dependencies.md#pinned). The harness itself is MIT. NVIDIA's
libraries come with PyTorch's default build for Linux and have NVIDIA's own terms; PyTorch's build for the CPU
does without them. `UNKNOWN` means that the package's metadata don't say.

## A plain installation

{core}

## Extras

What an extra brings beside that. {developers} are for those who work on
the harness; their versions aren't pinned.

{extras}
"""

Row = tuple[str, ...]


def requirements() -> dict[str, list[str]]:
    """The extras of ``pyproject.toml`` and, under the empty name, the core: lines as they stand there."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return {"": project["dependencies"], **project["optional-dependencies"]}


def pin(file: Path, what: str, extras: Sequence[str], *, agrees_with: Path | None = None) -> None:
    """Writes ``file``: the newest versions that go together, those of ``agrees_with`` where it has any."""
    words = [*_COMPILE.split(), *(word for extra in extras for word in ("--extra", extra))]
    words += ["--constraints", str(agrees_with.relative_to(ROOT))] if agrees_with else []
    words.append("pyproject.toml")
    done = subprocess.run([*words, "--quiet"], cwd=ROOT, check=True, capture_output=True, text=True)
    file.write_text(_HEAD.format(what=what, command=" ".join(words)) + done.stdout, "utf-8")


def install(folder: Path) -> None:
    """An environment of all extras: the pinned versions, and what developers' extras bring beside them."""
    python = str(folder / "bin" / "python")
    versions = re.findall(r"^[a-z0-9-]+==[^\s;]+", EXTRAS.read_text("utf-8"), flags=re.M)
    loose = folder / "versions.txt"
    _uv("venv", "--python", sys.executable, str(folder))
    loose.write_text("\n".join(versions), "utf-8")
    _uv("pip", "install", "--python", python, "--require-hashes", "--only-binary", ":all:", "-r", str(EXTRAS))
    more = [line for extra in DEVELOPERS for line in requirements()[extra]]
    _uv("pip", "install", "--python", python, "--constraints", str(loose), *more)


def _uv(*words: str) -> None:
    subprocess.run(["uv", *words, "--quiet"] if words[0] == "pip" else ["uv", *words], cwd=ROOT, check=True)


def licences(folder: Path) -> dict[str, str]:
    """Package -> what its metadata say; of a whole licence as text its first line."""
    words = [sys.executable, "-m", "piplicenses", "--python", str(folder / "bin" / "python")]
    words += ["--format=json", "--from=mixed", "--with-system"]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    return {canonicalize_name(row["Name"]): row["License"].splitlines()[0] for row in json.loads(done.stdout)}


def closure(wanted: Iterable[str], installed: Mapping[str, Distribution]) -> set[str]:
    """Names of all packages that the requirements ``wanted`` bring, themselves included."""
    todo = [Requirement(line) for line in wanted]
    seen: set[tuple[str, frozenset[str]]] = set()
    while todo:
        given = todo.pop()
        key = (canonicalize_name(given.name), frozenset(given.extras))
        if key in seen:
            continue
        seen.add(key)
        for line in installed[key[0]].requires or ():
            needed = Requirement(line)
            if not needed.marker or any(needed.marker.evaluate({"extra": e}) for e in ("", *given.extras)):
                todo.append(needed)
    return {name for name, _ in seen}


def page(folder: Path) -> str:
    """``docs/licenses.md``, of the environment in ``folder``."""
    (site,) = folder.glob("lib/python*/site-packages")
    installed: dict[str, Distribution] = {
        canonicalize_name(d.metadata["Name"]): d for d in distributions(path=[str(site)])
    }
    said = licences(folder)
    wanted = requirements()
    core = closure(wanted[""], installed)
    brought: dict[str, list[str]] = {}
    for extra in sorted(wanted.keys() - {""}):
        for name in closure(wanted[extra], installed) - core:
            brought.setdefault(name, []).append(f"`{extra}`")
    rows = {
        name: (name, installed[name].version, said[name].replace("|", "\\|")) for name in [*core, *brought]
    }
    return _PAGE.format(
        core=_table(("package", "version", "licence"), (rows[name] for name in sorted(core))),
        extras=_table(
            ("package", "version", "licence", "extras"),
            ((*rows[name], ", ".join(brought[name])) for name in sorted(brought)),
        ),
        developers=", ".join(f"`{name}`" for name in DEVELOPERS[:-1]) + f" and `{DEVELOPERS[-1]}`",
    )


def _table(head: Row, rows: Iterable[Row]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ("---",) * len(head), *rows))


def main() -> None:
    """Both files and the page."""
    users = [name for name in requirements() if name and name not in DEVELOPERS]
    pin(CORE, "Every package that the harness needs", [])
    pin(EXTRAS, f"The same with the extras {', '.join(users)}", users, agrees_with=CORE)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "environment"
        install(folder)
        LICENSES.write_text(page(folder), "utf-8")


if __name__ == "__main__":
    main()
