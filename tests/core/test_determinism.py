"""The check that `harness doctor --determinism` makes, and that it can fail."""

import re

import pytest

from harness import determinism
from harness.determinism import Way


@pytest.mark.slow
def test_this_machine_keeps_the_promise(harness, monkeypatch, tmp_path_factory):
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path_factory.mktemp("cache")))
    status, output, errors = harness("doctor", "--determinism", "--threads", "1", "--device", "cpu")
    assert status == 0, errors
    rows = re.findall(r" ([0-9a-f]{16})  ([0-9a-f]{16}) ", output)
    assert len(rows) == 6
    assert len(set(rows)) == 1
    print(output)


def test_another_bit_is_shown_and_gives_status_1(harness, monkeypatch):
    found = [Way("alone", "a" * 64, "b" * 64, 1.0), Way("in a grid", "a" * 64, "c" * 64, 1.0)]
    monkeypatch.setattr(determinism, "ways", lambda *_: iter(found))
    status, output, _ = harness("doctor", "--determinism", "--device", "cpu")
    assert status == 1
    assert [line.endswith("DIFFERS") for line in output.splitlines()[1:3]] == [False, True]
