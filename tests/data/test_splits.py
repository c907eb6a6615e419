from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from harness.contracts import SampleTable
from harness.data.splits import Split, limit_table, make_split
from harness.errors import DataError, UnknownName, UsageError

Make = Callable[..., SampleTable]


def counts(table: SampleTable, rows: np.ndarray) -> list[int]:
    return np.bincount(table.labels[rows], minlength=len(table.class_names)).tolist()


def check_partition(table: SampleTable, split: Split) -> None:
    parts = (split.train, split.val, split.test)
    assert all(p.dtype == np.int64 and (np.diff(p) > 0).all() for p in parts)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(table)))


def test_celeba30k_counts(make_table: Make) -> None:
    table = make_table([17_320, 12_680])
    split = make_split(table, "stratified")
    check_partition(table, split)
    assert counts(table, split.test) == [1_732, 1_268]
    assert counts(table, split.val) == [1_732, 1_268]
    assert counts(table, split.train) == [13_856, 10_144]
    assert split.description == "stratified 80/10/10 (split seed 0)"


def test_same_seed_same_split(make_table: Make) -> None:
    table = make_table([120, 80])
    one, again, other = (make_split(table, "auto", seed) for seed in (3, 3, 4))
    assert np.array_equal(one.test, again.test)
    assert one.digest == again.digest
    assert one.digest != other.digest
    assert not np.array_equal(one.test, other.test)
    assert one.description.startswith("stratified")


def test_digest_covers_ids_labels_and_parts(make_table: Make) -> None:
    from dataclasses import replace

    table = make_table([12, 12], official=("train", "val", "test") * 8)
    digest = make_split(table, "official").digest
    assert len(digest) == 64
    swapped = replace(table, official=("val", "train", "test") * 8)
    renamed = replace(table, ids=("x", *table.ids[1:]))
    relabelled = replace(table, labels=1 - table.labels)
    assert len({digest, *(make_split(t, "official").digest for t in (swapped, renamed, relabelled))}) == 4


def test_other_fractions(make_table: Make) -> None:
    table = make_table([60, 40])
    split = make_split(table, "stratified", fractions=(0.5, 0.2, 0.3))
    check_partition(table, split)
    assert [counts(table, p) for p in (split.train, split.val, split.test)] == [[30, 20], [12, 8], [18, 12]]
    with pytest.raises(UsageError, match="sum to 1"):
        make_split(table, "stratified", fractions=(0.5, 0.2, 0.2))


@pytest.mark.parametrize("how", [{"kind": "group"}, {"kind": "auto", "group": "identity"}])
def test_groups_stay_on_one_side(make_table: Make, how: dict[str, str]) -> None:
    people = np.random.default_rng(0).integers(0, 60, 1000)
    table = make_table([600, 400], groups=tuple(f"p{p}" for p in people))
    split = make_split(table, **how)
    check_partition(table, split)
    sides = [{people[i] for i in part} for part in (split.train, split.val, split.test)]
    assert sum(map(len, sides)) == len(set(people))
    for part in (split.val, split.test):
        assert 80 <= len(part) <= 120
        assert abs(table.labels[part].mean() - 0.4) < 0.05
    assert "by group" in split.description
    assert make_split(table, **how).digest == split.digest


def test_groups_in_tenths(make_table: Make) -> None:
    table = make_table([300, 300], groups=tuple(str(i // 6) for i in range(600)))
    split = make_split(table, "group", fractions=(0.5, 0.2, 0.3))
    assert (len(split.val), len(split.test)) == (pytest.approx(120, abs=6), pytest.approx(180, abs=6))
    with pytest.raises(UsageError, match="in tenths"):
        make_split(table, "group", fractions=(0.75, 0.1, 0.15))


def test_official_split_is_taken_as_it_is(make_table: Make) -> None:
    official = tuple(np.random.default_rng(0).choice(["train", "val", "test"], 300))
    table = make_table([200, 100], official=official)
    for kind in ("official", "auto"):
        split = make_split(table, kind)
        check_partition(table, split)
        for name in ("train", "val", "test"):
            assert {official[i] for i in getattr(split, name)} == {name}
        assert split.description == "official"


@pytest.mark.parametrize("held", ["val", "test"])
def test_official_split_of_two_parts(make_table: Make, held: str) -> None:
    table = make_table([200, 200], official=("train", "train", "train", held) * 100)
    split = make_split(table, "official")
    check_partition(table, split)
    assert split.test.tolist() == list(range(3, 400, 4))
    in_train = np.array(counts(table, np.setdiff1d(np.arange(400), split.test)))
    assert len(split.val) == 30
    assert np.abs(np.array(counts(table, split.val)) - in_train / 10).max() < 1
    assert ("its val is the test set" in split.description) == (held == "val")
    assert "stratified 10 % of its train" in split.description


@pytest.mark.parametrize(
    ("sizes", "columns", "how", "fault"),
    [
        ([30, 1], {}, {"kind": "stratified"}, "too few samples of class 'class1'"),
        ([30, 0], {}, {"kind": "stratified"}, "too few samples of class 'class1'"),
        ([97, 3], {}, {"kind": "stratified"}, "class 'class1' has no sample in the "),
        ([2, 2], {}, {"kind": "stratified"}, "too few samples"),
        ([30, 30], {}, {"kind": "group"}, "no groups: there is no identity_CelebA.txt"),
        ([30, 30], {}, {"kind": "auto", "group": "identity"}, "no groups"),
        ([30, 30], {"groups": ("a", "b") * 30}, {"kind": "group"}, "too few groups to split: 2"),
        ([57, 3], {"groups": tuple(map(str, range(60)))}, {"kind": "group"}, "'class1' to split by group"),
        ([30, 30], {}, {"kind": "official"}, "no official split"),
        ([30, 30], {"official": ("train",) * 60}, {"kind": "official"}, "there is only: train"),
        ([30, 30], {"official": ("val", "test") * 30}, {"kind": "official"}, "there is only: test, val"),
    ],
)
def test_impossible_splits(
    make_table: Make, sizes: list[int], columns: dict[str, tuple[str, ...]], how: dict[str, str], fault: str
) -> None:
    with pytest.raises(DataError, match=fault):
        make_split(make_table(sizes, **columns), **how)


def test_a_class_missing_from_an_official_part(make_table: Make) -> None:
    table = make_table([40, 40])
    official = tuple("val" if i % 5 == 0 and label == 0 else "train" for i, label in enumerate(table.labels))
    with pytest.raises(DataError, match="class 'class1' has no sample in the test split"):
        make_split(make_table([40, 40], official=official), "official")


def test_unknown_names_and_contradictions(make_table: Make) -> None:
    table = make_table([30, 30])
    with pytest.raises(UnknownName, match="unknown split 'stratifed'; did you mean 'stratified'"):
        make_split(table, "stratifed")
    with pytest.raises(UnknownName, match="unknown group 'person'"):
        make_split(table, "group", group="person")
    with pytest.raises(UsageError, match="exclude each other"):
        make_split(table, "stratified", group="identity")


def test_limit_keeps_shares_and_order(make_table: Make) -> None:
    table = make_table([600, 300, 100])
    small = limit_table(table, 101, split_seed=2)
    assert len(small) == 101
    assert np.abs(np.bincount(small.labels) - 101 * np.array([0.6, 0.3, 0.1])).max() < 1
    assert list(small.ids) == sorted(small.ids)
    assert small.ids == limit_table(table, 101, split_seed=2).ids
    assert small.ids != limit_table(table, 101, split_seed=3).ids
    assert limit_table(table, 1000) is limit_table(table, 5000) is table
    assert np.bincount(limit_table(table, 999).labels).sum() == 999
    with pytest.raises(UsageError, match="--limit 2 is fewer than the 3 classes"):
        limit_table(table, 2)


def test_limit_grows_by_adding(make_table: Make) -> None:
    table = make_table([600, 400])
    assert set(limit_table(table, 100).ids) < set(limit_table(table, 200).ids)


def test_limit_of_an_official_split(make_table: Make) -> None:
    table = make_table([600, 400], official=("train",) * 800 + ("val",) * 100 + ("test",) * 100)
    small = limit_table(table, 100)
    assert small.official is not None
    assert [small.official.count(s) for s in ("train", "val", "test")] == pytest.approx([80, 10, 10], abs=2)
    for name in ("train", "val", "test"):
        rows = [i for i, s in enumerate(small.official) if s == name]
        whole = [i for i, s in enumerate(table.official or ()) if s == name]
        assert small.labels[rows].sum() == pytest.approx(table.labels[whole].sum() / 10, abs=1)
    by_class = limit_table(table, 100, kind="group")
    assert np.bincount(by_class.labels).tolist() == [60, 40]
