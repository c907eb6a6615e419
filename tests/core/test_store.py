"""Run folders: whole files or none, one process at a time, faults named."""

import json
import math
import threading

import pytest
import torch

from harness.errors import Locked, RecordError
from harness.files import to_json, write_atomic, write_text
from harness.store import RunFolder, list_runs, remove_run

HOLD = """
import sys
from pathlib import Path
from harness.store import RunFolder
folder = RunFolder(Path(sys.argv[1]))
folder.lock(wait=False)
print("held", flush=True)
sys.stdin.readline()
folder.unlock()
"""


def test_a_file_is_written_whole_and_nothing_else_is_left(tmp_path):
    write_text(tmp_path / "deep" / "a.txt", "grüße\n")
    assert (tmp_path / "deep" / "a.txt").read_text(encoding="utf-8") == "grüße\n"
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_a_writer_that_fails_leaves_the_old_file_and_no_temporary_one(tmp_path, error):
    file = tmp_path / "a.txt"
    file.write_text("old")

    def fail(path):
        path.write_text("half of the n")
        raise error

    with pytest.raises(error):
        write_atomic(file, fail)
    assert file.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_while_it_is_written_the_old_file_stays(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("old")
    seen = []

    def write(path):
        path.write_text("new")
        seen.append(file.read_text())

    with file.open() as reader:
        write_atomic(file, write)
        assert reader.read() == "old", "the file was written over instead of replaced"
    assert seen == ["old"]
    assert file.read_text() == "new"


def test_what_is_not_finite_becomes_null():
    text = to_json({"a": math.nan, "b": [math.inf, 1.5, (-math.inf, 2)], "c": {"d": math.nan, 1: "x"}})

    def refuse(constant):
        raise AssertionError(constant)

    assert json.loads(text, parse_constant=refuse) == {
        "a": None, "b": [None, 1.5, [None, 2]], "c": {"d": None, "1": "x"},
    }  # fmt: skip


def test_figures_survive_json():
    value = 0.1 + 0.2
    assert json.loads(to_json({"x": value}))["x"] == value


def test_a_folder_that_another_process_holds_is_locked(tmp_path, start):
    folder = RunFolder(tmp_path / "run")
    other = start(HOLD, folder.path)
    assert other.stdout.readline() == "held\n"
    try:
        with pytest.raises(Locked, match="'run'"):
            folder.lock(wait=False)
        with pytest.raises(Locked):
            remove_run(folder)
        assert folder.path.exists()
        threading.Timer(0.2, lambda: (other.stdin.write("\n"), other.stdin.flush())).start()
        folder.lock(wait=True)  # comes back once the other one has let go
        assert other.wait(10) == 0
        folder.unlock()
    finally:
        other.kill()
        other.communicate()


def test_a_lock_goes_when_its_process_is_killed(tmp_path, start):
    folder = RunFolder(tmp_path / "run")
    other = start(HOLD, folder.path)
    assert other.stdout.readline() == "held\n"
    other.kill()
    other.communicate()
    folder.lock(wait=False)
    folder.unlock()


RECORD = dict.fromkeys(("format", "run", "status", "spec", "data", "strategy", "test", "error"))


def test_status_follows_the_files(tmp_path):
    folder = RunFolder(tmp_path / "run")
    assert folder.status() == "absent"
    folder.write_spec({"lr": 1e-3})
    assert folder.status() == "unfinished"
    folder.write_result(RECORD | {"status": "failed"})
    assert folder.status() == "failed"
    folder.write_result(RECORD | {"status": "done"})
    assert folder.status() == "done"
    assert [run.name for run in list_runs(tmp_path)] == ["run"]
    remove_run(folder)
    assert not folder.path.exists()
    assert list_runs(tmp_path / "nowhere") == ()


@pytest.mark.parametrize("content", [b"", b'{"status": "do', b"[1, 2]", b"\xff\xfe"])
def test_a_corrupt_result_is_named(tmp_path, content):
    (tmp_path / "result.json").write_bytes(content)
    with pytest.raises(RecordError, match=r"result\.json"):
        RunFolder(tmp_path).result()


def test_the_resume_file_comes_back_and_goes_with_the_result(tmp_path):
    folder = RunFolder(tmp_path / "run")
    assert folder.read_resume() is None
    tensors = {"w": torch.randn(3, 4).t(), "step": torch.tensor(5.0)}
    folder.write_resume(tensors, {"epoch": "2"})
    found, metadata = folder.read_resume()
    assert metadata == {"epoch": "2"}
    assert all(torch.equal(found[k], v) for k, v in tensors.items())
    folder.write_result({"status": "done"})
    assert [p.name for p in folder.path.iterdir()] == ["result.json"]


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x10" + bytes(7) + b"{}"])
def test_a_corrupt_resume_file_is_named(tmp_path, content):
    (tmp_path / "resume.safetensors").write_bytes(content)
    with pytest.raises(RecordError, match=r"resume\.safetensors"):
        RunFolder(tmp_path).read_resume()


def test_resume_files_are_rare_where_they_are_costly(tmp_path):
    folder = RunFolder(tmp_path)
    assert folder.wants_resume(0)
    assert not folder.wants_resume(10**12)
