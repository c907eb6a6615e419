"""harness check: fresh runs of the small network against a suite."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.seal import BLANK, KEY, sealed
from harness.store import SEALED

SUITE = """name = "small"
[data]
name = "folder"
[grid]
backbones = ["small"]
strategies = ["linear_probe", "last_block"]
lrs = [1e-2]
[train]
epochs = 2
batch_size = 16
"""


@pytest.fixture
def check(harness, site, images, tmp_path):
    """Writes a suite with these rows and checks it: (exit status, standard output, standard error)."""

    def run(rows, *options):
        (tmp_path / "s.suite.toml").write_text(SUITE + rows)
        data = f"folder={images}"
        return harness("check", "s.suite.toml", "--data", data, "--threads", 1, *options)

    return run


def source(found):
    digests = found["digests"]
    return (
        f'[source.m]\ntext = "measured"\ndata = "{digests["data"]}"\nsplit = "{digests["split"]}"\n'
        "recipe = { epochs = 2, batch_size = 16 }\n"
    )


PROBE = '[[expect]]\nstrategy = "linear_probe"\ntrains = { head = [[1, 2, 0.01]] }\n'
BLOCK = '[[expect]]\nstrategy = "last_block"\nnorms = ["block3"]\n'
ERROR = '[[expect]]\nstrategy = "surgical[block=9]"\nerror = "block is 1..3"\n'


def test_inside_and_outside(check, tmp_path):
    code, out, _ = check(PROBE + BLOCK + ERROR, "--out", "kept")
    assert code == 0
    assert out.splitlines()[-1] == "3 inside, 0 outside, 0 not applicable"
    records = [json.loads(p.read_text()) for p in Path("kept").glob("*/result.json")]
    assert sorted(r["spec"]["strategy"] for r in records) == ["last_block", "linear_probe"]
    accuracy, strategy = records[0]["test"]["accuracy"], records[0]["spec"]["strategy"]
    band = f'[[expect]]\nstrategy = "{strategy}"\naccuracy = [{accuracy!r}, 1.0]\nsource = "m"\n'
    assert check(source(records[0]) + band)[0] == 0
    missed = band.replace(f"[{accuracy!r}, 1.0]", f"[{accuracy + 0.01!r}, 1.1]")
    code, out, _ = check(source(records[0]) + missed, "--json", "--quiet")
    assert code == 5
    assert [r["verdict"] for r in json.loads(out)] == ["outside"]
    assert json.loads(out)[0]["value"] == f"{accuracy:.4f}"


def test_what_cannot_be_judged_never_passes_silently(check):
    other = source({"digests": {"data": "x", "split": "y"}})
    band = '[[expect]]\nstrategy = "linear_probe"\naccuracy = [0, 1]\nsource = "m"\n'
    assert check(other + band + PROBE)[0] == 5
    code, out, _ = check(PROBE, "--epochs", 1)
    assert (code, "overridden: epochs 1 instead of 2" in out) == (5, True)


def test_only_the_cells_that_are_needed_train(check):
    code, _, err = check(PROBE + BLOCK, "--match", "linear_probe", "--out", "kept")
    assert code == 0
    assert [p.name.split("_")[2] for p in Path("kept").iterdir()] == ["linear"]
    assert "last_block" not in err
    assert check(PROBE, "--match", "nothing")[0] == 2
    assert check(PROBE, "--out", "kept")[0] == 2  # not empty


def test_old_runs_are_taken_only_from_the_same_code_versions_and_threads(check, tmp_path):
    check(PROBE, "--out", "old")
    (record,) = Path("old").glob("*/result.json")
    text = record.read_text()
    assert "1 runs reused" in check(PROBE, "--reuse", "old")[2]
    found = json.loads(text)
    for part, key in (("digests", "code"), ("environment", "torch"), ("environment", "threads")):
        changed = {**found, part: {**found[part], key: "other"}}
        record.write_text(sealed(json.dumps({**changed, KEY: BLANK})))
        _, _, err = check(PROBE, "--reuse", "old")
        assert "0 runs reused" in err
        assert f"other {key}" in err


@pytest.mark.parametrize("name", ["result.json", *SEALED])
def test_a_damaged_run_is_no_evidence(check, name):
    check(PROBE, "--out", "old")
    (file,) = Path("old").glob(f"*/{name}")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    code, _, err = check(PROBE, "--reuse", "old")
    assert code == 0  # trained instead
    assert "0 runs reused" in err
    assert "not reused: " in err
    assert str(file) in err


def test_measured_bands_are_written_into_the_file_and_hold(harness, site, images, tmp_path):
    file, mine = tmp_path / "s.suite.toml", SUITE + "# my own\n" + ERROR
    file.write_text(mine)
    data = ("--data", f"folder={images}", "--threads", 1, "--quiet")
    code, printed, _ = harness("bands", "s.suite.toml", "--seeds", 3, "--out", "runs", *data)
    assert (code, file.read_text()) == (0, mine)
    code, out, err = harness("bands", "s.suite.toml", "--seeds", 3, "--reuse", "runs", "--write", *data)
    assert code == 0, err
    assert file.read_text() == f"{mine}\n{printed}"
    assert "prefix = [" in printed
    assert 'seeds = "0-2"' in printed
    code, out, _ = harness("check", "s.suite.toml", "--seed", 1, *data)
    assert code == 0, out
    assert "0 outside, 0 not applicable" in out


def test_written_bands_leave_the_file_what_it_was(harness, site, images, tmp_path):
    """A link stays one, line ends and permissions too."""
    file, link = tmp_path / "real.suite.toml", tmp_path / "s.suite.toml"
    file.write_bytes(SUITE.replace("\n", "\r\n").encode())
    file.chmod(0o640)
    link.symlink_to(file)
    data = ("--data", f"folder={images}", "--threads", 1, "--quiet")
    code, _, err = harness("bands", "s.suite.toml", "--seeds", 3, "--write", *data)
    assert code == 0, err
    assert link.is_symlink()
    assert file.stat().st_mode & 0o777 == 0o640
    text = file.read_bytes()
    assert b"[[expect]]\r\n" in text
    assert text.count(b"\n") == text.count(b"\r\n")


def test_bands_are_not_written_into_an_installed_program(harness, monkeypatch, tmp_path):
    place = tmp_path / "site-packages" / "harness" / "suites" / "faces.suite.toml"
    monkeypatch.setattr("harness.suites.builtin_file", lambda name: place)
    code, _, err = harness("bands", "faces", "--write", "--quiet")
    assert code == 2
    assert f"copy '{place}'" in err


def test_an_expectation_is_chosen_as_the_table_names_it(check):
    code, out, err = check(PROBE + BLOCK, "--match", "linear_probe lr=0.01")
    assert code == 0, err
    assert "linear_probe lr=0.01" in out
    assert "last_block" not in out
