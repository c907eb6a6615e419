"""The pinned requirements: complete, with digests, and without the address of any index."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "requirements").glob("*.txt"))


def pinned(text: str) -> dict[str, tuple[str, int]]:
    """Package -> its version and how many digests stand with it."""
    entries = re.split(r"\n(?=\S)", "\n".join(line for line in text.splitlines() if not line.startswith("#")))
    found = {}
    for entry in filter(str.strip, entries):
        match = re.match(r"([a-z0-9-]+)==([^\s;\\]+)", entry.strip())
        assert match, entry
        found[match[1]] = (match[2], len(re.findall(r"--hash=sha256:[0-9a-f]{64}\b", entry)))
    return found


def test_there_is_a_file() -> None:
    assert FILES


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_every_package_is_pinned_with_digests(file: Path) -> None:
    found = pinned(file.read_text("utf-8"))
    assert [name for name, (_, digests) in found.items() if not digests] == []
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    for requirement in project["dependencies"]:
        name, least = re.fullmatch(r"([a-z0-9-]+)>=([\d.]+)", requirement).groups()  # type: ignore[union-attr]
        version = [int(n) for n in re.findall(r"\d+", found[name][0])]
        assert version >= [int(n) for n in least.split(".")], requirement


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_no_address_is_recorded(file: Path) -> None:
    text = file.read_text("utf-8")
    assert not re.search(r"://|--(extra-)?index-url|--find-links|--trusted-host|^-i |file:|@ ", text, re.M)
