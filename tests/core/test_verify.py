"""Every byte of a finished run and of the cache is vouched for; what was changed is named."""

import json
import shutil
from pathlib import Path

import pytest

from harness import kept
from harness.seal import BLANK, intact, sealed
from harness.verify import verify_cache, verify_data, verify_run

SMALL = ("--backbone", "small", "--epochs", "2", "--batch-size", "16", "--threads", "1", "--device", "cpu")
FILES = (
    "spec.json",
    "history.jsonl",
    "predictions.csv",
    "checkpoint.safetensors",
    "leakage.json",
    "result.json",
)


@pytest.fixture
def finished(harness, site, images, tmp_path):
    command = ("run", "--data", f"folder={images}", *SMALL, "--lr", "1e-2", "--keep-features")
    status, _, errors = harness(*command)
    assert status == 0, errors
    (run,) = (tmp_path / "runs").iterdir()
    return run


def flipped(file: Path, positions):
    """Yields after each flip of one bit, and turns it back."""
    content = file.read_bytes()
    for number, position in enumerate(positions):
        changed = bytearray(content)
        changed[position] ^= 1 << number % 8
        file.write_bytes(changed)
        yield position
    file.write_bytes(content)


def spread(size: int, count: int) -> list[int]:
    return sorted({0, size - 1, *(size * i // count for i in range(count))})


@pytest.mark.parametrize("each", [120, pytest.param(None, marks=pytest.mark.slow)])
def test_any_flipped_byte_of_a_run_is_found(finished, each):
    """All bytes of the small files in the slow test, a sample of them in the other."""
    assert verify_run(finished).faults == ()
    tried = 0
    for name in FILES:
        file = finished / name
        size = file.stat().st_size
        for position in flipped(file, spread(size, each or min(size, 8000))):
            found = verify_run(finished)
            assert any(name in fault for fault in found.faults), f"byte {position} of {name}"
            tried += 1
    assert verify_run(finished).faults == ()
    print(f"flipped bytes of a run: {tried} tried, {tried} found")
    assert tried > (300 if each else 5000)


def test_any_flipped_byte_of_kept_activations_is_found(finished):
    assert [f.faults for f in verify_cache()] == [()]
    (entry,) = kept.entries()
    tried = 0
    for name in ("rows.bin", "entry.json"):
        file = entry.folder / name
        for position in flipped(file, spread(file.stat().st_size, 200)):
            (found,) = verify_cache()
            assert len(found.faults) == 1, f"byte {position} of {name}"
            tried += 1
    print(f"flipped bytes of the cache: {tried} tried, {tried} found")
    assert [f.faults for f in verify_cache()] == [()]


def test_the_command_names_what_is_wrong_and_ends_with_3(harness, finished):
    status, output, errors = harness("verify")
    assert status == 0
    assert [line.split()[0] for line in output.splitlines()] == ["ok", "ok"]
    assert errors == "2 checked, 0 not as written\n"
    (finished.parent / "begun").mkdir()
    (finished.parent / "begun" / "spec.json").write_text("{}")
    assert (
        harness("verify")[2] == "2 checked, 0 not as written; 1 without a record (unfinished?), not checked\n"
    )
    shutil.rmtree(finished.parent / "begun")
    (finished / "predictions.csv").unlink()
    for word in (finished, finished.name[-10:], "runs"):
        status, output, errors = harness("verify", word)
        assert status == 3
        assert "DAMAGED" in output
        assert "predictions.csv' is gone" in output
        assert errors == "1 checked, 1 not as written\n"
    assert harness("verify", "nothing")[0] == 2


def test_images_are_read_again_when_asked(harness, finished, images):
    assert harness("verify", finished, "--images")[0] == 0
    assert verify_data(finished, None, 1).files == 60
    first = sorted(images.rglob("*.png"))[0]
    content, stamp = first.read_bytes(), first.stat()
    first.write_bytes(sorted(images.rglob("*.png"))[1].read_bytes())
    status, output, _ = harness("verify", finished, "--images")
    assert status == 3
    assert "aren't those that the run had" in output
    first.write_bytes(content)
    assert stamp.st_size == first.stat().st_size
    images.rename(images.with_name("moved"))
    assert harness("verify", finished, "--images")[0] == 3
    assert harness("verify", finished, "--data", images.with_name("moved"))[0] == 0


def test_a_record_without_a_seal_is_read_but_not_vouched_for(harness, finished):
    file = finished / "result.json"
    record = json.loads(file.read_text())
    del record["seal"]
    file.write_text(json.dumps(record))
    assert harness("show", finished)[0] == 0
    (fault,) = verify_run(finished).faults
    assert "has no seal" in fault


def test_an_edited_record_is_refused_by_every_command_that_reads_it(harness, finished, images):
    file = finished / "result.json"
    text = file.read_text()
    file.write_text(text.replace('"accuracy": ', '"accuracy": 0', 1))
    assert file.read_text() != text
    again = ("run", "--data", f"folder={images}", *SMALL, "--lr", "1e-2")
    for words in (("show", finished), ("report", finished), ("rerun", finished), again):
        status, _, errors = harness(*words)
        assert status == 3, words
        assert "result.json" in errors.splitlines()[-1]
        assert "Traceback" not in errors


def test_a_seal_is_of_the_whole_text():
    text = sealed(json.dumps({"a": {"seal": BLANK}, "b": "grüße", "seal": BLANK}))
    assert intact(text.encode()) is True
    assert json.loads(text)["a"]["seal"] == BLANK
    assert intact(text.replace("b", "c").encode()) is False
    assert intact((text + " ").encode()) is False
    assert intact(b'{"a": 1}') is None
    with pytest.raises(ValueError, match="blank"):
        sealed('{"a": 1}')
