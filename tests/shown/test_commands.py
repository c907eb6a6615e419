"""Every command that a page shows is run, in the page's order, in a folder of its own.

Only what is marked isn't, ``<!-- not run: REASON -->`` before the block; the marks are counted and printed.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shown.blocks import PAGES, ROOT, Block, parse
from shown.world import World

SHOWN = {(name := str(page.relative_to(ROOT))): parse(name, page.read_text("utf-8")) for page in PAGES}
MARKED = [block for found in SHOWN.values() for block in found if block.reason]
MOST_MARKED = 18
RUN = [name for name, found in SHOWN.items() if any(b.kind == "sh" and not b.reason for b in found)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("shown"))
    yield made
    made.close()


@pytest.mark.slow
@pytest.mark.shown
@pytest.mark.parametrize("page", RUN)
def test_what_a_page_shows_runs(world: World, page: str) -> None:
    todo = [block for block in SHOWN[page] if not block.reason]
    folder = world.scratch(page, runs=not any("harness run " in block.text for block in todo))
    count = 0
    for block in todo:
        if block.file:
            (folder / block.file).write_text(block.text)
        else:
            world.run(folder, block.text)
            count += 1
    print(f"{page}: {count} blocks run")


def test_what_is_not_run_says_why_and_is_little(capsys: pytest.CaptureFixture[str]) -> None:
    counted = sum(b.kind == "sh" for found in SHOWN.values() for b in found)
    with capsys.disabled():
        print(f"\n{counted - len(MARKED)} of {counted} shown blocks are run; not run:")
        for block in MARKED:
            print(f"  {block.page}: {block.reason}: {_first(block)}")
    assert len(MARKED) <= MOST_MARKED


def _first(block: Block) -> str:
    return block.text.strip().splitlines()[0]


def test_the_marks_are_read() -> None:
    text = "<!-- not run: needs a GPU -->\n\n```sh\nharness run\n```\n"
    text += '```toml title="x.toml"\na = 1\n```\n```json\n```\n'
    shell, given = parse("page.md", text)
    assert (shell.reason, shell.text) == ("needs a GPU", "harness run\n")
    assert (given.file, given.text, given.reason) == ("x.toml", "a = 1\n", None)
