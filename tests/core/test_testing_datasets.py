"""The contract of a dataset as tests: built-in ones pass, and each planted fault is found."""

from dataclasses import replace

import numpy as np
import pytest

from harness.data.folder import Folder
from harness.data.table import Table
from harness.testing import check_dataset


@pytest.fixture
def listed(images):
    """A table with a group and a split for the images of the folder."""
    lines = ["path,label,group,split,round"]
    for number, path in enumerate(sorted(images.rglob("*.png"))):
        split = ("train", "val", "test")[number % 3]
        lines.append(f"{path.relative_to(images)},{path.parent.name},{number // 2},{split},{number % 2}")
    file = images / "images.csv"
    file.write_text("\n".join(lines) + "\n")
    return file


def test_datasets(images, listed):
    check_dataset(Folder(), images)
    check_dataset(Folder(), str(images))
    check_dataset(Table(), listed)
    check_dataset(Table(), listed, target="split")


class Changed:
    """Folder with a fault: ``change(table, reads so far)``."""

    name = "changed"
    default_target = None
    default_split = "stratified"
    needs_path = True

    def __init__(self, change):
        self.change = change
        self.reads = 0

    def read(self, path, *, target, missing):
        self.reads += 1
        return self.change(Folder().read(path, target=target, missing=missing), self.reads)


def field(**changes):
    """The table with ``name=function of the old value``."""
    return lambda table, _: replace(table, **{n: f(getattr(table, n)) for n, f in changes.items()})


def card(**changes):
    return lambda table, _: replace(table, card=replace(table.card, **changes))


FAULTY_TABLES = {
    "paths": (field(paths=lambda v: v[1:]), "60 ids, but 59 paths"),
    "labels": (field(labels=lambda v: v[:7]), "60 ids, but 7 labels"),
    "groups": (field(groups=lambda _: ("a",)), "60 ids, but 1 groups"),
    "official": (field(official=lambda _: ("train",) * 61), "60 ids, but 61 official"),
    "attributes": (field(attributes=lambda _: {"young": np.ones(3, np.int8)}), r"3 attributes\['young'\]"),
    "bits": (field(attributes=lambda _: {"young": np.full(60, -1)}), "'young' holds other values"),
    "ids": (field(ids=lambda v: (v[1], *v[1:])), r"the id 'grey/\d+\.png' names two samples"),
    "no file": (field(paths=lambda v: (*v[1:], "nowhere.png")), "the path 'nowhere.png' is no file"),
    "empty": (lambda t, _: t.take(np.arange(0)), "no samples"),
    "too high": (field(labels=lambda v: v + 1), "2 class names, but a label 2"),
    "below zero": (field(labels=lambda v: v - 1), "but a label -1"),
    "floats": (field(labels=lambda v: v.astype(float)), "numpy array int64"),
    "a list": (field(labels=lambda v: v.tolist()), "numpy array int64"),
    "one class": (field(class_names=lambda v: v[:1]), "1 class names"),
    "equal classes": (field(class_names=lambda v: ("grey", "grey")), "all different"),
    "splits": (field(official=lambda _: ("dev",) * 60), r"not \['dev'\]"),
    "licence": (card(license=" "), "the card lacks the licence"),
    "source of labels": (card(labels=""), "the card lacks where the labels come from"),
    "title": (card(title=""), "the card lacks a title"),
    "other order": (lambda t, n: t.take(np.arange(60)[:: 1 if n == 1 else -1]), "gives another 'ids'"),
    "other labels": (lambda t, n: replace(t, labels=t.labels if n == 1 else 1 - t.labels), "other labels"),
    "other attributes": (
        lambda t, n: replace(t, attributes={"young": np.full(60, n % 2)}),
        "other attributes",
    ),
    "no table": (lambda t, _: t.ids, "gave a tuple, not a SampleTable"),
}


@pytest.mark.parametrize("fault", FAULTY_TABLES)
def test_a_faulty_dataset_is_found_out(fault, images):
    change, message = FAULTY_TABLES[fault]
    with pytest.raises(AssertionError, match=message):
        check_dataset(Changed(change), images)


def test_the_dataset_that_faults_are_planted_in_has_none(images):
    check_dataset(Changed(lambda table, _: table), images)


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        ("name", "", r"Changed\.name is ''"),
        ("default_split", "random", "default_split is 'random'"),
        ("default_split", "official", "has no column 'official'"),
    ],
)
def test_a_wrong_attribute_of_a_dataset_is_found_out(images, attribute, value, message):
    dataset = Changed(lambda table, _: table)
    setattr(dataset, attribute, value)
    with pytest.raises(AssertionError, match=message):
        check_dataset(dataset, images)


class Agreeable(Changed):
    """Takes any path and any target."""

    def read(self, path, *, target, missing):
        return super().read(path or self.path, target=None, missing=missing)


class Abrupt(Changed):
    def read(self, path, *, target, missing):
        return super().read(path / ".", target=target, missing=missing)


def test_what_should_have_been_refused_is_found_out(images):
    dataset = Agreeable(lambda table, _: table)
    dataset.path = images
    with pytest.raises(AssertionError, match="a target that it doesn't have was accepted"):
        check_dataset(dataset, images)
    with pytest.raises(AssertionError, match="no path, which it needs, raised TypeError"):
        check_dataset(Abrupt(lambda table, _: table), images)
    with pytest.raises(AssertionError, match=r"Folder\.read\(nowhere\) raised DataError: nowhere"):
        check_dataset(Folder(), "nowhere")
