"""Any command line ends with a documented status, says what is wrong in one line, writes where it may."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given

from fuzz import case
from fuzz.conftest import Playground
from fuzz.lines import FOUND, Line, lines, may_change
from fuzz.profile import profile
from fuzz.told import tell

NUMBERS = itertools.count()
TESTS = Path(__file__).parents[1]


def check(playground: Playground, line: Line) -> case.Ended:
    """Runs a line in a folder of its own and holds what came of it against what is documented."""
    folder = playground.root / f"case{next(NUMBERS)}"
    case.copy(playground.template, folder)
    cache = folder / "cache" if line.words[0] == "cache" else playground.cache
    if line.config is not None:
        (folder / "work" / "harness.toml").write_text(line.config, encoding="utf-8")
    try:
        argv = [playground.argument(word) for word in line.argv]
        ended = case.run(folder, argv, dict(line.variables), cache)
        judge(ended)
        allowed = [os.path.abspath(p) for p in may_change(line, folder, cache)]  # noqa: PTH100
        strayed = [c for c in map(renamed, ended.changed) if not any(within(c, a) for a in allowed)]
        assert not strayed, f"written outside its outputs: {strayed}"
        assert not ended.left, f"temporary files left: {ended.left}"
    finally:
        shutil.rmtree(folder)
    return ended


def renamed(path: str) -> str:
    """What a temporary file beside its place, ``.NAME.PID`` or ``.NAME.PID.old``, will be or was called."""
    folder, _, name = path.rpartition("/")
    own = name[1:].removesuffix(".old").removesuffix(f".{os.getpid()}")
    return f"{folder}/{own}" if name.startswith(".") else path


def within(path: str, place: str) -> bool:
    """Whether it is ``place``, or lies in it, or is a folder on the way to it."""
    return path == place or path.startswith(f"{place}/") or place.startswith(f"{path}/")


def judge(ended: case.Ended) -> None:
    """Status, and what standard error says."""
    assert ended.code != "hung", f"nothing came after {ended.seconds:.0f} s"
    assert ended.code in case.STATUSES, f"status {ended.code}"
    said = ended.out + ended.err
    assert "Traceback" not in said
    assert "internal error" not in said, ended.err
    last = ended.err.rstrip("\n").split("\n")[-1]
    ours = [row for row in ended.err.split("\n") if row.startswith("harness: ")]
    if ended.code == 0:
        assert not ours
    elif ended.code in (2, 4):
        assert ours == [last] or "Usage:" in said, ended.err
    else:  # a cell failed, runs differ, a file is damaged, a figure is outside: said on standard output
        assert ours == [last] or (not ours and ended.out), ended.err


def tally(ended: list[case.Ended]) -> str:
    statuses = sorted(Counter(e.code for e in ended).items())
    return ", ".join(f"{n} with {code}" for code, n in statuses)


def drawn(
    playground: Playground, count: int, only: tuple[str, ...] = (), part: int | None = None
) -> list[case.Ended]:
    """``count`` lines, others for each ``part``."""
    found: list[case.Ended] = []

    @profile(count, part)
    @given(lines(only=only))
    def holds(line: Line) -> None:
        found.append(check(playground, line))

    holds()
    trained = sum("test accuracy" in e.out for e in found)
    tell(len(found), "command lines", f"{trained} trained; they ended {tally(found)}")
    return found


def test_command_lines_end_as_documented(playground: Playground) -> None:
    found = drawn(playground, 40) + drawn(playground, 20, only=("run",))
    assert {0, 2} <= {e.code for e in found}
    assert any("test accuracy" in e.out for e in found)


@pytest.mark.slow
@pytest.mark.campaign
@pytest.mark.parametrize("part", range(1, 5))
def test_a_thousand_command_lines_end_as_documented(playground: Playground, part: int) -> None:
    """In four parts, for machines that have time for one at a time."""
    found = drawn(playground, 300, part=part)
    assert {0, 2, 3} <= {e.code for e in found}


@pytest.mark.slow
@pytest.mark.campaign
def test_fifty_processes_end_as_documented(playground: Playground) -> None:
    """The same with the interpreter's own streams, arguments and end."""
    found: list[case.Ended] = []
    path = os.pathsep.join([str(playground.root / "site"), str(TESTS)])

    @profile(50)
    @given(lines())
    def holds(line: Line) -> None:
        folder = case.copy(playground.template, playground.root / f"process{next(NUMBERS)}")
        if line.config is not None:
            (folder / "work" / "harness.toml").write_text(line.config, encoding="utf-8")
        kept = {k: v for k, v in os.environ.items() if not k.startswith("HARNESS_")}
        own = {"PYTHONPATH": path, "HARNESS_CACHE": str(playground.cache), "OMP_NUM_THREADS": "1"}
        offline = {
            "HF_HUB_OFFLINE": "1",
            "https_proxy": "http://127.0.0.1:9",
            "TORCH_HOME": str(folder / "torch"),
        }
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                "from harness.cli import main; main()",
                *map(playground.argument, line.argv),
            ],
            cwd=folder / "work",
            env=kept | own | offline | dict(line.variables),
            capture_output=True,
            timeout=300,
        )
        texts = [stream.decode(errors="backslashreplace") for stream in (done.stdout, done.stderr)]
        shutil.rmtree(folder)
        found.append(case.Ended(done.returncode, *texts, frozenset(), (), 0.0))
        judge(found[-1])

    holds()
    tell(len(found), "processes", f"they ended {tally(found)}")


def test_every_command_and_option_is_drawn() -> None:
    """What somebody adds to the command line is drawn too, without a change here."""
    seen: set[tuple[tuple[str, ...], str]] = set()
    for words, command in FOUND.items():

        @profile(6 * len(command.params) + 1)
        @given(lines(only=words))
        def note(line: Line) -> None:
            seen.update((line.words, name) for name, _ in line.values)

        note()
    every = {(words, str(p.name)) for words, command in FOUND.items() for p in command.params}
    assert len(every - seen) <= 3, every - seen
