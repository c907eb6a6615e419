"""Which test images training has seen: found by hand in small tables, written, read, refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.contracts import DataCard, SampleTable
from harness.errors import RecordError
from harness.leakage import FILE, Leakage, NearCopy, belonging, find_leakage, read_leakage, write_leakage

DIGESTS = {"data": "d1", "split": "s1", "checkpoint": "not of interest"}
TRAIN, TEST = np.array([0, 1, 2]), np.array([4, 5, 6])


def table(groups: tuple[str, ...] | None) -> SampleTable:
    ids = tuple("abcdefg")
    labels = np.zeros(7, dtype=np.int64)
    return SampleTable(ids, ids, labels, ("no", "yes"), DataCard("t", "", "", ""), groups=groups)


#            a    b    c    d    e    f    g      (d validates)
CONTENTS = ("1", "2", "1", "3", "1", "3", "4")
GROUPS = ("P", "Q", "Q", "R", "R", "Q", "S")


def test_bytes_and_groups_of_training() -> None:
    found = find_leakage(table(GROUPS), CONTENTS, TRAIN, TEST, belonging(DIGESTS))
    # f has the bytes of d, which only validates; e has the group of d alone
    assert found.exact == {"e": ("a", "c")}
    assert found.groups == ("f",)
    assert found.near is None
    assert find_leakage(table(None), CONTENTS, TRAIN, TEST, {}).groups is None


def test_what_is_written_is_read(tmp_path: Path) -> None:
    found = Leakage(
        belonging(DIGESTS),
        {"e\n<b>": ("a",)},
        ("f",),
        {"g": (NearCopy("b", 3, 0.91, True),)},
        "pHash",
    )
    for case in (found, replace(found, groups=None), replace(found, near=None, method="")):
        write_leakage(tmp_path, case)
        assert read_leakage(tmp_path, DIGESTS) == case


def test_of_other_data_it_counts_as_absent(tmp_path: Path) -> None:
    assert read_leakage(tmp_path, DIGESTS) is None
    write_leakage(tmp_path, Leakage(belonging(DIGESTS), {}, None))
    assert read_leakage(tmp_path, DIGESTS | {"split": "s2"}) is None


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"format": 2}', '{"format": 1, "digests": {"data": "d1", "split": "s1"}, "exact": 3}'],
)
def test_a_damaged_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content)
    with pytest.raises(RecordError, match=r"leakage\.json.*harness data audit"):
        read_leakage(tmp_path, DIGESTS)


def test_the_file_is_plain_json(tmp_path: Path) -> None:
    write_leakage(tmp_path, find_leakage(table(GROUPS), CONTENTS, TRAIN, TEST, belonging(DIGESTS)))
    content = json.loads((tmp_path / FILE).read_text())
    assert len(content.pop("seal")) == 64
    assert content == {
        "format": 1,
        "digests": {"data": "d1", "split": "s1"},
        "exact": {"e": ["a", "c"]},
        "groups": {"images": ["f"]},
        "near": None,
    }
