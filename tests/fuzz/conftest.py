"""A folder to play in: images in every layout, suites, finished runs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from core.small import write_folder, write_plugin
from data.conftest import FILES, celeba_text, write_images

from fuzz import case
from fuzz.told import TRIED, total

SUITE = """name = "mine"

[data]
name = "folder"

[grid]
backbones = ["small"]
weights = "drawn"
strategies = ["head_only"]
lrs = [1e-2]

[train]
epochs = 1
batch_size = 16

[source.by_hand]
text = "by hand"
data = "0"
split = "0"
recipe = { epochs = 1, batch_size = 16 }

[[expect]]
strategy = "head_only"
accuracy = ["majority", [0.1, 1.0]]
source = "by_hand"

[[expect]]
parameters = 306
"""
TRAIN = (
    "run --data folder=images --backbone small --device cpu --threads 1 --epochs 1 --batch-size 16 --quiet"
)


@dataclass(frozen=True)
class Playground:
    """``template`` is copied for each case; ``words`` are what a line's ``@run1``, ``@run2`` stand for."""

    template: Path
    cache: Path
    words: dict[str, str]
    root: Path

    def argument(self, text: str) -> str:
        for word, run in self.words.items():
            text = text.replace(word, run)
        return text


@pytest.fixture(scope="session", autouse=True)
def _the_sum() -> Iterator[None]:
    yield
    if TRIED:
        print(f"\n{total()}")


@pytest.fixture(scope="session")
def playground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Playground]:
    """Made once; the small network is installed as a plugin meanwhile."""
    root = tmp_path_factory.mktemp("fuzz")
    with pytest.MonkeyPatch.context() as patch:
        site = write_plugin(root / "site", "small-nets", {"harness.backbones": {"small": "core.small:Small"}})
        patch.syspath_prepend(site)
        work = root / "first" / "work"
        write_folder(work / "images", 40)
        files = sorted((work / "images").glob("*/*.png"))
        rows = [f"{p.relative_to(work)},{p.parent.name},{i % 2}\n" for i, p in enumerate(files)]
        (work / "list.csv").write_text("path,label,kind\n" + "".join(rows))
        write_images(work / "celeba" / "img_align_celeba", FILES)
        (work / "celeba" / "list_attr_celeba.txt").write_text(celeba_text())
        (work / "mine.suite.toml").write_text(SUITE)
        (work / "broken.suite.toml").write_text(SUITE.replace("[1e-2]", "[x]"))
        (work / "garbage.pth").write_bytes(b"garbage")
        for strategy in ("head_only", "full"):
            ended = case.run(root / "first", [*TRAIN.split(), "--strategy", strategy], {}, root / "cache")
            assert ended.code == 0, ended.err
            shutil.rmtree(root / "first" / "tmp")  # what torch keeps there is made once a process
        runs = sorted(p.name for p in (work / "runs").iterdir())
        edited = work / "runs" / "edited"
        edited.mkdir()
        for file in (work / "runs" / runs[0]).glob("*"):
            (edited / file.name).write_bytes(file.read_bytes().replace(b'"test"', b'"tset"'))
        yield Playground(work, root / "cache", {"@run1": runs[0], "@run2": runs[1]}, root)
