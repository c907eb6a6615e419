"""A run trained again from its record: the same bits, or what is different."""

import json
import shutil

import pytest

COMMON = ("--batch-size", "16", "--threads", "1", "--device", "cpu", "--quiet")


@pytest.fixture
def train(harness, site, images, tmp_path):
    def run(*more):
        words = ("run", "--data", f"folder={images}", "--backbone", "small", "--epochs", "2", *COMMON)
        harness(*words, *more)
        return sorted((tmp_path / "runs").iterdir())

    return run


def lines(output):
    return [" ".join(line.split()) for line in output.splitlines()]


def edit(run, change):
    record = json.loads((run / "result.json").read_text())
    change(record)
    del record["seal"]
    (run / "result.json").write_text(json.dumps(record))


def test_the_record_alone_gives_the_same_bits(harness, train, tmp_path):
    (run,) = train("--strategy", "last_block", "--lr", "1e-2", "--flip", "--seed", "3", "--select", "best")
    alone = tmp_path / "alone" / "renamed"
    alone.mkdir(parents=True)
    shutil.copy(run / "result.json", alone)
    shutil.rmtree(tmp_path / "runs")
    status, output, errors = harness("rerun", alone, "--quiet")
    assert status == 0, errors
    assert lines(output)[-1] == "every bit came out again"
    same = [line.split()[1] for line in lines(output)[1:-1]]
    assert same == ["code", "data", "split", "weights", "base", "checkpoint", "predictions"]
    assert not (tmp_path / "runs").exists(), "what was compared is thrown away"
    assert harness("rerun", alone, "--out", "kept", "--quiet")[0] == 0
    assert [p.name for p in (tmp_path / "kept").iterdir()] == [run.name]
    assert harness("rerun", alone, "--out", "kept", "--quiet")[0] == 2


def test_a_file_that_is_not_what_the_run_wrote_is_said(harness, train):
    (run,) = train("--strategy", "head_only")
    file = run / "predictions.csv"
    file.write_bytes(file.read_bytes().replace(b"0.", b"1.", 1))
    status, output, errors = harness("rerun", run, "--quiet")
    assert (status, lines(output)[-1]) == (1, "every bit came out again")
    assert "predictions.csv' isn't what was written" in errors


def test_other_images_are_the_reason(harness, train, images):
    (run,) = train("--lr", "1e-2")
    first, second = sorted(images.rglob("*.png"))[:2]
    first.write_bytes(second.read_bytes())
    status, output, _ = harness("rerun", run, "--quiet")
    assert status == 1
    found = lines(output)
    assert any(line.startswith("changed digest of data: was") for line in found)
    assert any(line.startswith("DIFFERS digest of checkpoint") for line in found)
    assert any(line.startswith("same split") for line in found)


def test_versions_and_code_are_named_even_where_the_bits_agree(harness, train):
    (run,) = train("--lr", "1e-2")
    edit(run, lambda r: (r["environment"].update(torch="2.0.0"), r["digests"].update(code="0" * 64)))
    status, output, _ = harness("rerun", run, "--quiet")
    assert status == 0
    assert any(line.startswith("changed torch: was 2.0.0, is 2.") for line in lines(output))
    assert any(line.startswith("changed digest of code: was 0000000000000000, is ") for line in lines(output))


def test_a_run_that_diverged_diverges_again(harness, train):
    (run,) = train("--lr", "1e30")
    status, output, _ = harness("rerun", run, "--quiet")
    assert status == 0
    assert lines(output)[-1] == "every bit came out again"


def test_images_that_moved_are_found_where_they_are(harness, train, images):
    (run,) = train("--lr", "1e-2")
    moved = images.rename(images.with_name("elsewhere"))
    status, _, errors = harness("rerun", run, "--quiet")
    assert status == 3
    assert str(images) in errors
    assert harness("rerun", run, "--data", moved, "--quiet")[0] == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r["spec"].pop("lr"),
        lambda r: r["spec"]["train"].update(epochs="two"),
        lambda r: r["environment"].pop("threads"),
        lambda r: r.update(command="harness run"),
        lambda r: r.update(data=None),
    ],
)
def test_a_record_that_does_not_say_how_is_one_line(harness, train, change):
    (run,) = train("--lr", "1e-2")
    edit(run, change)
    status, _, errors = harness("rerun", run, "--quiet")
    assert status == 3
    assert "result.json' doesn't say how to train the run" in errors
    assert errors.count("\n") == 1
