"""A disk that refuses at any write: one line, a status, and what was there before is still whole."""

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from core.forks import one_line
from harness.files import write_tensors, write_text

REFUSALS = {"no space": errno.ENOSPC, "quota": errno.EDQUOT, "read-only": errno.EROFS, "broken": errno.EIO}


@pytest.fixture(scope="module")
def whole(forks):
    (ended,) = forks.run({"work": "room", "argv": forks.command()})
    assert ended.code == 0, ended.err
    return forks.left("room"), ended.count


def refuse(forks, whole, points):
    """From a change on nothing can be written, then there is room again; how many runs were stopped."""
    expected, stopped = whole[0], 0
    for kind, at in points:
        work = f"{kind}-{at}"
        fault = {"errno": REFUSALS[kind], "at": at, "stays": True}
        (ended,) = forks.run({"work": work, "argv": forks.command(), "fault": fault})
        assert ended.code in (0, 1, 3), (kind, at, ended)  # 3: the cache folder is the data's
        if ended.code:
            stopped += 1
            assert os.strerror(REFUSALS[kind]) in one_line(ended.err), (kind, at, ended.err)
        before = {k: v for k, v in forks.left(work).items() if k.endswith("result.json")}
        assert before.items() <= expected.items(), (kind, at)
        (again,) = forks.run({"work": work, "argv": forks.command()})
        assert again.code == 0, (kind, at, again.err)
        assert forks.left(work) == expected, (kind, at)
    return stopped


def test_a_disk_that_refuses_costs_no_result(forks, whole):
    points = [(kind, whole[1] * (2 * i + 1) // 6) for i in range(3) for kind in ("no space", "read-only")]
    stopped = refuse(forks, whole, points)
    print(f"disk: {len(points)} refusals, {stopped} ended in one line, none lost a result")
    assert stopped >= 4


@pytest.mark.slow
@pytest.mark.campaign
def test_a_disk_that_refuses_at_every_write_costs_no_result(forks, whole):
    points = [(kind, at) for kind in REFUSALS for at in range(1, whole[1] + 1)]
    stopped = refuse(forks, whole, points)
    print(f"disk: {len(points)} refusals, {stopped} ended in one line, none lost a result")
    assert stopped >= 400


def test_a_limit_of_the_system_is_met_in_the_middle_of_a_write(tmp_path):
    """RLIMIT_FSIZE, as a quota: the kernel itself refuses, after a part was written."""
    import torch

    (tmp_path / "old.json").write_text("old")
    pid = os.fork()
    if not pid:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
        code = 0
        for write in (
            lambda: write_text(tmp_path / "old.json", "new" * 5000),
            lambda: write_tensors(tmp_path / "t.safetensors", {"w": torch.zeros(5000)}, {}),
        ):
            try:
                write()
            except OSError as error:
                code += error.errno == errno.EFBIG and str(tmp_path) in str(error)
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 2
    assert (tmp_path / "old.json").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["old.json"]


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 512 KiB, where one may be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("no file system can be mounted here (that takes root)")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("full", ["full", "read-only"])
def test_a_real_full_disk_and_a_real_read_only_one(tmp_path, tiny_disk, full):
    words = [
        *(sys.executable, "-c", "from harness.cli import main; main()", "run", "--out", str(tiny_disk)),
        *("--limit", "300", "--epochs", "2", "--strategy", "last_block", "--threads", "1", "--device", "cpu"),
    ]
    env = os.environ | {"HARNESS_CACHE": str(tmp_path / "cache")}
    if full == "full":
        (tiny_disk / "ballast").write_bytes(bytes(480 * 1024))
    else:
        subprocess.run(["mount", "-o", "remount,ro", str(tiny_disk)], check=True)
    ended = subprocess.run(words, capture_output=True, text=True, env=env, check=False)
    assert ended.returncode == 1, ended.stderr
    text = {"full": "No space left on device", "read-only": "Read-only file system"}[full]
    last = one_line(ended.stderr)
    assert text in last
    assert str(tiny_disk) in last
    if full == "full":
        (tiny_disk / "ballast").unlink()
        subprocess.run(["mount", "-o", "remount,size=4m", str(tiny_disk)], check=True)
    else:
        subprocess.run(["mount", "-o", "remount,rw,size=4m", str(tiny_disk)], check=True)
    ended = subprocess.run(words, capture_output=True, text=True, env=env, check=False)
    assert ended.returncode == 0, ended.stderr
    (run,) = [p for p in Path(tiny_disk).iterdir() if p.is_dir()]
    assert (run / "result.json").exists()
