"""Several processes on one grid: each cell trained once; a holder that is gone is known, wherever it was."""

import json
import os
import re
import time

import pytest

from harness import owner
from harness.errors import Locked
from harness.owner import Owner
from harness.store import RunFolder


def together(forks, work, count, **faults):
    """The same command ``count`` times at once; the first as ``faults`` say."""
    argv = forks.command("--strategy", "full", "--lr", "1e-3")
    cache = str(forks.root / f"{work}-cache")
    requests = [
        {"work": f"{work}-{i}", "argv": [*argv, "--out", str(forks.root / work / "runs")], "cache": cache}
        for i in range(count)
    ]
    (forks.root / work).mkdir()
    requests[0] |= faults | {"watch": str(forks.root / work)}
    return forks.run(*requests)


def trained_by(ended):
    """Run -> in how many processes' tables it has seconds of its own."""
    found: dict[str, int] = {}
    for process in ended:
        for line in process.out.splitlines():
            match = re.match(r"small \S+ lr=\S+ seed=0 .* (done before|\d+\.\d) +(\S+)$", line)
            if match:
                found[match[2]] = found.get(match[2], 0) + (match[1] != "done before")
    return found


def test_eight_processes_train_each_cell_once(forks):
    ended = together(forks, "eight", 8)
    assert [e.code for e in ended] == [0] * 8, [e.err for e in ended]
    found = trained_by(ended)
    assert len(found) == 6
    assert set(found.values()) == {1}
    (alone,) = together(forks, "alone", 1)
    assert alone.code == 0
    assert forks.left("eight") == forks.left("alone")
    print(f"two at once: 8 processes, {len(found)} cells, each trained once, the same bits as by one")


def test_a_process_that_is_killed_leaves_its_cell_to_another(forks):
    ended = together(forks, "killed", 3, fault={"signal": 9, "at": 15})
    assert [e.code for e in ended] == [-9, 0, 0], [e.err for e in ended]
    (alone,) = together(forks, "undisturbed", 1)
    assert alone.code == 0
    assert forks.left("killed") == forks.left("undisturbed")


NOTE = {"host": "elsewhere", "machine": "another boot 1", "pid": 7, "start": 1, "token": "theirs"}


def leave(file, note, age):
    file.write_text(json.dumps(note))
    os.utime(file, (time.time() - age,) * 2)


@pytest.fixture(autouse=True)
def _hasty(monkeypatch):
    monkeypatch.setattr(owner, "_SETTLED_AFTER", 0.01)


def test_another_machine_that_is_heard_of_keeps_its_run(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    leave(folder.path / ".owner", NOTE, owner.STALE_AFTER - 30)
    with pytest.raises(Locked, match=r"process 7 on elsewhere, last seen \d+ s ago"):
        folder.lock(wait=False)
    assert not folder.free()
    leave(folder.path / ".owner", NOTE, owner.STALE_AFTER + 1)
    folder.lock(wait=False)
    assert json.loads((folder.path / ".owner").read_text())["pid"] == os.getpid()
    folder.unlock()
    assert [p.name for p in folder.path.iterdir()] == [".lock"]


def test_a_process_of_this_machine_is_asked_for_not_waited_for(tmp_path):
    here = owner._here() | {"token": "theirs"}
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    for gone in ({"pid": 2**22 - 1}, {"start": 1}):  # no such process; its number given to another
        leave(folder.path / ".owner", here | gone, 0)
        folder.lock(wait=False)
        folder.unlock()
    leave(folder.path / ".owner", here, 10_000)  # a file system without locks: it lives, however silent
    with pytest.raises(Locked, match=f"process {os.getpid()}"):
        folder.lock(wait=False)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": "x"}'])
def test_a_note_that_cannot_be_read_is_stale_by_its_age(tmp_path, content):
    note = Owner(tmp_path / ".owner")
    (tmp_path / ".owner").write_text(content)
    with pytest.raises(Locked):
        note.claim()
    os.utime(tmp_path / ".owner", (0, 0))
    note.claim()
    note.release()
    assert list(tmp_path.iterdir()) == []


def test_the_note_is_renewed_while_its_process_lives(tmp_path, monkeypatch):
    monkeypatch.setattr(owner, "RENEWED_EVERY", 0.02)
    note = Owner(tmp_path / ".owner")
    note.claim()
    os.utime(tmp_path / ".owner", (0, 0))
    ends = time.monotonic() + 20
    while (tmp_path / ".owner").stat().st_mtime == 0 and time.monotonic() < ends:
        time.sleep(0.01)
    assert time.time() - (tmp_path / ".owner").stat().st_mtime < 30
    note.release()


def test_whoever_was_taken_over_writes_nothing_more(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.lock(wait=False)
    folder.write_history([{"epoch": 1}])
    leave(folder.path / ".owner", NOTE, 0)
    for write in (
        lambda: folder.write_history([{"epoch": 2}]),
        lambda: folder.write_resume({}, {}),
        lambda: folder.write_result({"status": "done"}),
    ):
        with pytest.raises(Locked, match="taken over"):
            write()
    assert folder.read_history() == [{"epoch": 1}]
    folder.unlock()
    assert json.loads((folder.path / ".owner").read_text()) == NOTE, "it isn't ours to take away"
